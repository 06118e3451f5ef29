/**
 * Several leechers of one seeder, each a Simulation of its own, in step: what one has written the
 * others hear of, as over have updates, and can fetch from it.
 */

import { Bitfield } from '../../src/core/bitfield.ts'
import type { ChunkTable } from '../../src/dag/chunk-table.ts'
import { seededRandom, type SimulatedSource, Simulation } from './swarm-simulator.ts'

export interface CrowdOptions {
  readonly table: ChunkTable
  readonly leechers: number
  readonly seed: number
  /** Of the seeder, shared evenly. */
  readonly uplinkBytesPerMs: number
  /** Of each leecher to each other one. */
  readonly tradeBytesPerMs: number
  /** When they find each other. */
  readonly meetMs: number
}

export interface Crowd {
  /** When the last one was done. */
  readonly doneMs: number
  readonly bytesFromSeeder: number
}

/** Have updates are told this often. */
const stepMs = 100

export function simulateCrowd(options: CrowdOptions): Crowd {
  const { table, leechers, seed, uplinkBytesPerMs, tradeBytesPerMs, meetMs } = options
  const sims = Array.from(
    { length: leechers },
    (_, at) => new Simulation({ tables: [table], random: seededRandom(seed * 100 + at) }),
  )
  const delayMs = 20
  for (const sim of sims) {
    const holds = [Bitfield.full(table.count)]
    sim.connect({ id: 'seeder', holds, bytesPerMs: uplinkBytesPerMs / leechers, delayMs })
  }
  // Each leecher as the others see it: what they have been told that it holds.
  const seen = sims.map((_, of) =>
    sims.map((): SimulatedSource => {
      const holds = [new Bitfield(table.count)]
      return { id: `leecher-${of}`, holds, bytesPerMs: tradeBytesPerMs, delayMs }
    }),
  )
  const doneMs = sims.map(() => Infinity)
  for (let nowMs = 0; doneMs.includes(Infinity) && nowMs < 1e7; nowMs += stepMs) {
    for (const [at, sim] of sims.entries()) {
      if (doneMs[at] === Infinity && sim.run(nowMs)) doneMs[at] = sim.nowMs
    }
    if (nowMs < meetMs) continue
    for (const [of, sources] of seen.entries()) {
      sources.forEach((source, at) => at !== of && tell(sims[at], source, sims[of]))
    }
  }
  const bytesFromSeeder = sims.reduce((sum, sim) => sum + (sim.bytesBySource.get('seeder') ?? 0), 0)
  return { doneMs: Math.max(...doneMs), bytesFromSeeder }
}

function tell(
  to: Simulation | undefined,
  source: SimulatedSource,
  of: Simulation | undefined,
): void {
  if (to === undefined || of === undefined || to.session.isDone) return
  if (!to.isConnected(source.id)) to.connect(source)
  for (const [start, end] of of.held[0]?.runs() ?? []) {
    for (let index = start; index < end; index += 1) to.gain(source, 0, index)
  }
}
