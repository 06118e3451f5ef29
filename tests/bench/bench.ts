/**
 * What the benchmarks share: rounds in which the variants take turns, so that a machine that slows down
 * slows them all; medians and ratios; processes with their peak memory and CPU time.
 */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export type Variant = () => Promise<number>

/** Runs each variant once a round, in turn; seconds by name. */
export async function interleave(
  variants: Readonly<Record<string, Variant>>,
  rounds: number,
): Promise<Map<string, number[]>> {
  const seconds = new Map<string, number[]>(Object.keys(variants).map(name => [name, []]))
  for (let round = 0; round < rounds; round += 1) {
    for (const [name, run] of Object.entries(variants)) {
      const took = await run()
      seconds.get(name)?.push(took)
      process.stderr.write(`  round ${round + 1}: ${name} ${took.toFixed(3)} s\n`)
    }
  }
  return seconds
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
}

/** The median of the ratios of the same round: steadier than the ratio of medians. */
export function ratioOf(ours: readonly number[], theirs: readonly number[]): number {
  return median(ours.map((value, round) => value / (theirs[round] ?? Number.NaN)))
}

export interface Bar {
  readonly name: string
  readonly value: number
  readonly must: number
  readonly goal: number
  /** Whether larger values are better. */
  readonly more: boolean
  readonly unit: string
}

export type Verdict = 'goal' | 'met' | 'MISSED'

/** One line a bar; a bar that is missed ends the process with 1 in the end. */
export function showBar(bar: Bar): Verdict {
  const reaches = (limit: number): boolean => (bar.more ? bar.value >= limit : bar.value <= limit)
  const verdict = reaches(bar.goal) ? 'goal' : reaches(bar.must) ? 'met' : 'MISSED'
  if (verdict === 'MISSED') process.exitCode = 1
  const sign = bar.more ? '≥' : '≤'
  process.stdout.write(
    `${verdict.padEnd(6)} ${bar.name}: ${bar.value.toFixed(2)} ${bar.unit} (must ${sign} ${bar.must}, goal ${sign} ${bar.goal})\n`,
  )
  return verdict
}

/** A folder under the system's temporary folder or the one given, gone afterwards. */
export async function scratchFolder(
  parent: string = tmpdir(),
): Promise<{ path: string } & AsyncDisposable> {
  const path = await mkdtemp(join(parent, 'commonweight-bench-'))
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) }
}

/** Runs a command to its end; wall seconds. Throws when it fails. */
export async function timeCommand(
  command: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv = process.env,
): Promise<number> {
  const started = performance.now()
  const child = spawn(command, args, { env, stdio: ['ignore', 'ignore', 'pipe'] })
  let stderr = ''
  child.stderr.on('data', (text: Buffer) => (stderr += text.toString()))
  const [code] = (await once(child, 'close')) as [number | null]
  if (code !== 0) throw new Error(`${command} ${args.join(' ')} failed (${code}):\n${stderr}`)
  return (performance.now() - started) / 1000
}

export interface ProcessUse {
  readonly rssBytes: number
  readonly rssPeakBytes: number
  readonly cpuSeconds: number
}

/** What Linux says of a running process; undefined elsewhere. */
export function useOf(pid: number): ProcessUse | undefined {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8')
    const kilobytes = (field: string): number =>
      Number(new RegExp(`${field}:\\s+(\\d+)`).exec(status)?.[1] ?? 0)
    // After the command's name in parentheses: utime and stime are fields 14 and 15, in ticks of 10 ms.
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
    return {
      rssBytes: kilobytes('VmRSS') * 1024,
      rssPeakBytes: kilobytes('VmHWM') * 1024,
      cpuSeconds: (Number(fields[11]) + Number(fields[12])) / 100,
    }
  } catch {
    return undefined
  }
}
