/**
 * What processes cost while they work: CPU seconds and peak memory, of daemons that go on running and
 * of commands that end. Read from /proc, so zero where there is none.
 */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { second } from '../../src/core/units.ts'

/** What one side of a transfer used. */
export interface Use {
  readonly cpuSeconds: number
  /** Of all its processes together. */
  readonly rssPeakBytes: number
}

/** One transfer, from its start to the checked bytes. */
export interface Run {
  readonly seconds: number
  readonly leecher: Use
  readonly seeder: Use
}

/** How often memory is looked at: a peak that is shorter than this costs nobody anything. */
const sampleMs = 20
/** The same for a command and what it started, which are found by looking at every process there is. */
const treeSampleMs = 200

interface Sample {
  readonly cpuSeconds: number
  readonly rssBytes: number
}

function sampleOf(pid: number): Sample {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8')
    // After the command's name in parentheses: utime and stime are fields 14 and 15, in ticks of 10 ms.
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.split(' ') ?? []
    return {
      cpuSeconds: (Number(fields[11]) + Number(fields[12])) / 100,
      rssBytes: Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) * 1024,
    }
  } catch {
    return { cpuSeconds: 0, rssBytes: 0 }
  }
}

/** CPU of the children of this process that have ended: exact, however short they lived. */
function endedChildrenCpu(): number {
  try {
    const fields = readFileSync('/proc/self/stat', 'utf8').split(') ').at(-1)?.split(' ') ?? []
    return (Number(fields[13]) + Number(fields[14])) / 100
  } catch {
    return 0
  }
}

/** Measures processes that were there before and are there afterwards; `stop` says what they used. */
export function watchUse(pids: readonly number[]): { stop(): Use } {
  const before = pids.map(sampleOf)
  let rssPeakBytes = 0
  const look = (): Sample[] => {
    const samples = pids.map(sampleOf)
    rssPeakBytes = Math.max(rssPeakBytes, sum(samples.map(({ rssBytes }) => rssBytes)))
    return samples
  }
  const timer = setInterval(look, sampleMs)
  return {
    stop() {
      clearInterval(timer)
      const cpuSeconds = sum(
        look().map((sample, at) => sample.cpuSeconds - (before[at]?.cpuSeconds ?? 0)),
      )
      return { cpuSeconds, rssPeakBytes }
    },
  }
}

export interface CommandOptions {
  readonly cwd?: string
  readonly env?: NodeJS.ProcessEnv
}

export interface CommandRun extends Use {
  readonly seconds: number
  readonly stdout: string
}

/** Runs a command to its end, with all that it starts. Throws when it fails. */
export async function runCommand(
  command: string,
  args: readonly string[],
  { cwd, env = process.env }: CommandOptions = {},
): Promise<CommandRun> {
  const cpuBefore = endedChildrenCpu()
  const started = performance.now()
  const child = spawn(command, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] })
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', (text: Buffer) => (stdout += text.toString()))
  child.stderr.on('data', (text: Buffer) => (stderr += text.toString()))
  let rssPeakBytes = 0
  const timer = setInterval(() => {
    const tree = descendants(child.pid ?? 0)
    rssPeakBytes = Math.max(rssPeakBytes, sum(tree.map(pid => sampleOf(pid).rssBytes)))
  }, treeSampleMs)
  const [code] = (await once(child, 'close').finally(() => clearInterval(timer))) as [number | null]
  const seconds = (performance.now() - started) / second
  if (code !== 0) throw new Error(`${command} ${args.join(' ')} failed (${code}):\n${stderr}`)
  return { seconds, cpuSeconds: endedChildrenCpu() - cpuBefore, rssPeakBytes, stdout }
}

/** The process and everything below it. */
function descendants(root: number): number[] {
  const children = new Map<number, number[]>()
  for (const name of readdirSync('/proc')) {
    const pid = Number(name)
    if (!Number.isInteger(pid)) continue
    const parent = parentOf(pid)
    if (parent !== undefined) children.set(parent, [...(children.get(parent) ?? []), pid])
  }
  const found = [root]
  for (const pid of found) found.push(...(children.get(pid) ?? []))
  return found
}

function parentOf(pid: number): number | undefined {
  try {
    return Number(readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.split(' ')[1])
  } catch {
    // It ended meanwhile.
    return undefined
  }
}

/** A daemon and the command that waited for it: its work counts, its memory is another process's. */
export function withCommand(daemon: Use, command: Use): Use {
  return { ...daemon, cpuSeconds: daemon.cpuSeconds + command.cpuSeconds }
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
