/** Running the daemon: in this process's place, or in the background for a verb that needs one. */

import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { open, rename, rm } from 'node:fs/promises'
import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { type HomePaths, readPid } from '../src/api/home.ts'
import { checkPrivate, makePrivateFolder } from '../src/api/private-folder.ts'
import type { Clock } from '../src/core/clock.ts'
import {
  type CommonweightError,
  type ErrorCode,
  errorFromCode,
  errorTable,
  UnavailableError,
} from '../src/core/errors.ts'
import { MiB, second } from '../src/core/units.ts'
import { startFlags } from '../src/core/v8-flags.ts'

/** Beside us: daemon/main.ts from the source, dist/daemon/main.js when built. */
const daemonMain = daemonFile('main')
const configReader = daemonFile('show-config')

function daemonFile(name: string): string {
  return fileURLToPath(new URL(`../daemon/${name}${extname(import.meta.url)}`, import.meta.url))
}

/** The Node whose V8 is known to have them; others are asked. */
const nodeMajorKnown = '24.'

/** A first start creates databases and keys; a later one may check a million chunks. */
const readyTimeoutMs = 60 * second
const pollFirstMs = 20
const pollLastMs = 250
/** Between taking the lock and writing its pid a daemon is held by nobody: some milliseconds. */
const pollsWithoutHolderMax = 4
const logTailLines = 12
const logTailBytes = 16 * 1024
/** A log that grew beyond this is set aside when the next daemon starts; one old log is kept. */
const logBytesMax = 16 * MiB

/** Becomes the daemon: same process id, so that a supervisor's signals and waits reach it. */
export async function becomeDaemon(args: readonly string[]): Promise<number> {
  const argv = [...(await acceptedFlags()), daemonMain, ...args]
  if (process.platform !== 'win32' && process.execve !== undefined) {
    process.execve(process.execPath, [process.execPath, ...argv], process.env)
  }
  return forward(spawn(process.execPath, argv, { stdio: 'inherit' }))
}

/** Where a process cannot be replaced: pass signals on and end as the child ends. */
async function forward(child: ChildProcess): Promise<number> {
  const pass = (signal: NodeJS.Signals): void => void child.kill(signal)
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
  for (const signal of signals) process.on(signal, pass)
  try {
    return await exitOf(child)
  } finally {
    for (const signal of signals) process.off(signal, pass)
  }
}

function exitOf(child: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', code => resolve(code ?? 1))
  })
}

/** The lines in which a daemon started now, with these arguments, would tell its configuration. */
export async function configLines(args: readonly string[], signal: AbortSignal): Promise<string[]> {
  const run = promisify(execFile)
  try {
    const { stdout } = await run(process.execPath, [configReader, ...args], { signal })
    return stdout.trimEnd().split('\n')
  } catch (error) {
    signal.throwIfAborted()
    // Refused: the last line says why.
    const { stdout = '' } = error as { stdout?: string }
    if (stdout === '') throw error
    return stdout.trimEnd().split('\n')
  }
}

export interface StartDeps<Client> {
  readonly clock: Clock
  readonly signal: AbortSignal
  /** The daemon of this home, once one answers. */
  readonly running: () => Promise<Client | undefined>
}

/**
 * Starts a daemon that outlives us and waits until one answers: ours, or that of another command that
 * started one at the same moment and was first to lock the home.
 */
export async function startDaemon<Client>(
  paths: HomePaths,
  deps: StartDeps<Client>,
): Promise<Client> {
  await makePrivateFolder(paths.home)
  // Before our log is in it: the daemon refuses such a home anyway.
  await checkPrivate(paths.home, { follow: true })
  const logStart = await rotateLog(paths.log)
  const child = await spawnDetached(paths)
  let exit: number | undefined
  exitOf(child).then(
    code => (exit = code),
    () => (exit = 1),
  )
  let pollsWithoutHolder = 0
  const deadline = deps.clock.monotonic() + readyTimeoutMs
  for (let waitMs = pollFirstMs; ; waitMs = Math.min(pollLastMs, waitMs * 1.5)) {
    const client = await deps.running()
    if (client !== undefined) {
      await endLoser(child, paths)
      return client
    }
    // Lost to another command's daemon is as good as won; a port that is taken has the same exit code.
    if (exit === errorTable.CONFLICT.exit && (await isHeld(paths))) pollsWithoutHolder = 0
    else if (exit !== undefined) pollsWithoutHolder += 1
    if (pollsWithoutHolder > pollsWithoutHolderMax) {
      throw startError(exit ?? 1, await tailOf(paths.log, logStart), paths)
    }
    if (deps.clock.monotonic() > deadline) {
      throw new UnavailableError(`the daemon is not ready after ${readyTimeoutMs / second} s`, {
        hint: `it may still be starting; its log is ${paths.log}`,
      })
    }
    await deps.clock.sleep(waitMs, deps.signal)
  }
}

/** Whether a process that lives says that it has the home. */
async function isHeld(paths: HomePaths): Promise<boolean> {
  const pid = await readPid(paths)
  if (pid === undefined) return false
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

/** Another command's daemon was first: ours must not wait in the wings for the home to get free. */
async function endLoser(child: ChildProcess, paths: HomePaths): Promise<void> {
  const pid = await readPid(paths)
  if (pid !== undefined && pid !== child.pid) child.kill()
}

async function spawnDetached(paths: HomePaths): Promise<ChildProcess> {
  const flags = await acceptedFlags()
  await using log = await open(paths.log, 'a', 0o600)
  const child = spawn(process.execPath, [...flags, daemonMain, '--home', paths.home], {
    // Its own session and folder: it holds neither our terminal nor a mounted folder we stand in.
    detached: true,
    cwd: paths.home,
    stdio: ['ignore', log.fd, log.fd],
    windowsHide: true,
  })
  child.unref()
  return child
}

/** Returns how long the log is, after setting aside one that is too long. */
async function rotateLog(path: string): Promise<number> {
  try {
    await using log = await open(path, 'r')
    const { size } = await log.stat()
    if (size <= logBytesMax) return size
    await rm(`${path}.old`, { force: true })
    await rename(path, `${path}.old`)
    return 0
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 0
    throw error
  }
}

/** The last lines written to the log since it had `start` bytes. */
async function tailOf(path: string, start: number): Promise<string[]> {
  await using log = await open(path, 'r')
  const { size } = await log.stat()
  const from = Math.max(start, size - logTailBytes)
  const { buffer, bytesRead } = await log.read(Buffer.alloc(size - from), 0, size - from, from)
  const lines = buffer.toString('utf8', 0, bytesRead).trimEnd().split('\n')
  return lines.filter(line => line !== '').slice(-logTailLines)
}

/** The daemon's own reason, told as ours: its exit code names the error, its last lines say it. */
function startError(exit: number, tail: readonly string[], paths: HomePaths): CommonweightError {
  const code = Object.entries(errorTable).find(([, row]) => row.exit === exit)?.[0]
  const lines = tail.map(line => `\n  ${line}`).join('')
  return errorFromCode(
    (code ?? 'UNAVAILABLE') as ErrorCode,
    `the daemon ended before it was ready (exit code ${exit})${lines}`,
    { hint: `its log is ${paths.log}` },
  )
}

/** The flags this Node's V8 has: unknown ones would keep the daemon from starting. */
async function acceptedFlags(): Promise<readonly string[]> {
  if (process.versions.node.startsWith(nodeMajorKnown)) return startFlags
  const run = promisify(execFile)
  const { stdout } = await run(process.execPath, ['--v8-options'], { maxBuffer: 4 * MiB })
  return startFlags.filter(flag => stdout.includes(`${flag.split('=')[0]} (`))
}
