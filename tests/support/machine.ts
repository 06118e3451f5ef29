/** Machines for the demo, the end-to-end tests and the benchmarks: real daemons in a scratch folder, driven by the command a user types. */

import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { join } from 'node:path'
import { statusSchema } from '../../src/api/contract.ts'
import { minute, second } from '../../src/core/units.ts'

export type Line = Readonly<Record<string, unknown>> & { readonly type: string }

export interface Outcome {
  readonly code: number
  readonly lines: readonly Line[]
  /** The last line of --json output: the result, or the error; of type `nothing` when there was none. */
  readonly last: Line
  readonly stderr: string
}

export interface Machine extends AsyncDisposable {
  readonly name: string
  readonly home: string
  readonly peerId: string
  readonly address: string
  /** Of the daemon. */
  readonly pid: number
  /** From the start of the command to its ready line. */
  readonly readyAfterMs: number
  /** Runs `cw ARGS --json` on this machine to its end. */
  cw(...args: string[]): Promise<Outcome>
  /** The same, calling back for each line as it comes. */
  watch(args: readonly string[], onLine: (line: Line) => void): Promise<Outcome>
  /** What the daemon wrote to stderr so far. */
  log(): string
  /** kill -9 of the daemon: no goodbye, no clean-up. */
  kill(): Promise<void>
  /** SIGTERM, and waits until it is gone; throws when it ends, or had ended by itself, other than well. */
  stop(): Promise<void>
}

export interface World {
  readonly command: string
  readonly folder: string
  /** Sees every line that any command prints, as the tests of the contract do. */
  readonly onLine?: (line: Line) => void
  /** A command that takes longer is killed; two minutes when left out. */
  readonly commandTimeoutMs?: number
}

export interface MachineOptions {
  /** Any free port of loopback when left out. */
  readonly listen?: string
  /** Settings of the daemon as variables: `{ COMMONWEIGHT_LOG_LEVEL: 'debug' }`. */
  readonly env?: Readonly<Record<string, string>>
  /** What the daemon's command begins with: `ip netns exec NAME`, to run in another network. */
  readonly within?: readonly string[]
}

const environment = {
  ...process.env,
  // Loopback only, and no multicast; the demo's disk may be small.
  COMMONWEIGHT_MDNS: 'false',
  // All machines are on one host, and it has one port 4080.
  COMMONWEIGHT_HTTP_LISTEN: 'off',
  COMMONWEIGHT_STORAGE_RESERVE_BYTES: '0',
  COMMONWEIGHT_STORAGE_RESERVE_FRACTION: '0',
}

/** Starts a daemon on loopback whose home is `folder/name`, and waits until it is ready. */
export async function startMachine(
  world: World,
  name: string,
  bootstrap: readonly string[],
  { listen = '/ip4/127.0.0.1/tcp/0', env = {}, within = [] }: MachineOptions = {},
): Promise<Machine> {
  const home = join(world.folder, name)
  const args = ['--home', home, 'daemon', '--json', '--listen', listen]
  for (const address of bootstrap) args.push('--bootstrap', address)
  const startedMs = performance.now()
  const [program = world.command, ...words] = [...within, world.command, ...args]
  const child = spawn(program, words, {
    env: { ...environment, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const gone = once(child, 'exit')
  let stderr = ''
  child.stderr.on('data', (text: Buffer) => (stderr += text.toString()))
  const ready = await Promise.race([readyLine(child.stdout), gone.then(() => undefined)])
  const readyAfterMs = performance.now() - startedMs
  if (ready === undefined) throw new Error(`the daemon of ${name} did not start:\n${stderr}`)

  const watch: Machine['watch'] = (watched, onLine) => runCw(world, home, watched, onLine)
  const status = await watch(['status'], () => undefined)
  const { pid } = statusSchema.parse(status.last)
  let isKilled = false
  const end = async (signal: 'SIGKILL' | 'SIGTERM'): Promise<void> => {
    isKilled ||= signal === 'SIGKILL'
    if (child.exitCode === null && child.signalCode === null) process.kill(pid, signal)
    await gone
    if (isKilled || child.exitCode === 0) return
    const how = child.exitCode ?? child.signalCode
    throw new Error(`the daemon of ${name} ended with ${how}:\n${stderr}`)
  }
  return {
    name,
    home,
    pid,
    readyAfterMs,
    peerId: String(ready['peerId']),
    address: String((ready['addresses'] as string[])[0]),
    cw: (...asked) => watch(asked, () => undefined),
    watch,
    log: () => stderr,
    kill: () => end('SIGKILL'),
    stop: () => end('SIGTERM'),
    [Symbol.asyncDispose]: () => end('SIGTERM'),
  }
}

async function readyLine(output: NodeJS.ReadableStream): Promise<Line | undefined> {
  for await (const text of createInterface({ input: output })) {
    const line = JSON.parse(text) as Line
    if (line.type === 'ready') return line
  }
  return undefined
}

/** Runs `cw ARGS --json` on a home, whether a daemon runs there or not. */
export async function runCw(
  world: World,
  home: string,
  args: readonly string[],
  onLine: (line: Line) => void = () => undefined,
): Promise<Outcome> {
  const child = spawn(world.command, ['--home', home, '--json', ...args], {
    env: environment,
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: world.commandTimeoutMs ?? 2 * minute,
  })
  let stderr = ''
  child.stderr.on('data', (text: Buffer) => (stderr += text.toString()))
  const closed = once(child, 'close')
  const lines: Line[] = []
  for await (const text of createInterface({ input: child.stdout })) {
    const line = JSON.parse(text) as Line
    lines.push(line)
    world.onLine?.(line)
    onLine(line)
  }
  const [code] = (await closed) as [number | null]
  const last = lines.at(-1) ?? { type: 'nothing' }
  return { code: code ?? 1, lines, last, stderr }
}

/** SHA-256 by a program that is not ours: openssl, or coreutils where there is none. */
export async function witnessSha256(path: string): Promise<string> {
  const tools: [string, string[]][] = [
    ['openssl', ['dgst', '-sha256', '-r', path]],
    ['sha256sum', [path]],
    ['shasum', ['-a', '256', path]],
  ]
  for (const [tool, args] of tools) {
    const output = await outputOf(tool, args)
    if (output !== undefined) return output.slice(0, 64)
  }
  throw new Error('no openssl, sha256sum or shasum here to witness the digests')
}

function outputOf(tool: string, args: readonly string[]): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    execFile(tool, args, { timeout: 30 * second }, (error, stdout) => {
      if (error === null) resolve(stdout)
      else if (error.code === 'ENOENT') resolve(undefined)
      else reject(new Error(`${tool} failed`, { cause: error }))
    })
  })
}
