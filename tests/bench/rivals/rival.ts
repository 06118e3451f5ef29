/** What every tool that is compared with has to do: take one file from a process that has it to one that wants it. */

import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { type AddressInfo, connect, createServer } from 'node:net'
import { homedir } from 'node:os'
import { delimiter, join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Run } from '../use.ts'

/** Where the file lies and where there is room. */
export interface TestBed {
  /** Everything else of a run goes below it; not in the folder of the model. */
  readonly folder: string
  /** Folder with one file. */
  readonly modelFolder: string
  readonly file: string
  readonly size: number
}

export interface Rival {
  readonly name: string
  /** Why it cannot run on this machine; undefined when it can. */
  missing(): Promise<string | undefined>
  /** Starts the side that has the file. */
  prepare(bed: TestBed): Promise<Contestant>
}

/** Ready to transfer; disposing it ends its processes. */
export interface Contestant extends AsyncDisposable {
  /** One transfer to a receiver that has nothing; what it wrote is gone afterwards. */
  run(): Promise<Run>
}

/** Programs that take long to build are built once and kept here: see docs/benchmarks.md. */
export const programsFolder =
  process.env['BENCH_PROGRAMS'] ?? join(homedir(), '.cache', 'commonweight-bench')

export function onPath(program: string): boolean {
  // nginx of Debian lies where only root looks.
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin']
  return folders.some(folder => existsSync(join(folder, program)))
}

/** A program that goes on running until it is disposed of. */
export interface Server extends AsyncDisposable {
  readonly pid: number
  readonly child: ChildProcess
}

export function startServer(
  command: string,
  args: readonly string[],
  options: { cwd?: string; env?: NodeJS.ProcessEnv; stdout?: 'ignore' | 'pipe' } = {},
): Server {
  const child = spawn(command, args, {
    cwd: options.cwd,
    env: options.env ?? process.env,
    stdio: ['ignore', options.stdout ?? 'ignore', 'ignore'],
  })
  const gone = once(child, 'exit').catch(() => undefined)
  return {
    pid: child.pid ?? 0,
    child,
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL')
      await gone
    },
  }
}

/** What the first group of the pattern matched in the first line that has it. Throws when there is none. */
export async function lineOf({ child }: Server, pattern: RegExp): Promise<string> {
  if (child.stdout === null) throw new Error(`${child.spawnfile} has no output to read`)
  const lines = createInterface({ input: child.stdout })
  const found = Promise.withResolvers<string>()
  lines.on('line', line => {
    const match = pattern.exec(line)
    if (match !== null) found.resolve(match[1] ?? '')
  })
  lines.on('close', () => found.reject(new Error(`${child.spawnfile} ended before it was ready`)))
  return found.promise
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  return port
}

/** Until something listens there; 10 s at most. */
export async function answering(port: number): Promise<void> {
  for (let attempt = 0; attempt < 100; attempt += 1) {
    const socket = connect(port, '127.0.0.1')
    const isOpen = await once(socket, 'connect').then(
      () => true,
      () => false,
    )
    socket.destroy()
    if (isOpen) return
    await sleep(100)
  }
  throw new Error(`nothing listens on port ${port}`)
}
