/** The session alone and in a simulated swarm: what it decides, and what never happens. */

import { describe, expect, test } from 'vitest'
import { Bitfield } from '../../../src/core/bitfield.ts'
import { KiB, MiB, minute, second } from '../../../src/core/units.ts'
import { ChunkTable } from '../../../src/dag/chunk-table.ts'
import { Session } from '../../../src/transfer/session.ts'
import type { SessionEvent, SourceChunk } from '../../../src/transfer/session-events.ts'
import { simulateCrowd } from '../../support/crowd-simulator.ts'
import {
  seededRandom,
  type SimulatedSource,
  Simulation,
  tableOfLengths,
} from '../../support/swarm-simulator.ts'

const mbPerSecond = (1000 * KiB) / second

function model(files: readonly number[], chunkBytes = MiB): ChunkTable[] {
  return files.map((chunks, file) =>
    tableOfLengths(
      `file-${file}`,
      Array.from({ length: chunks }, () => chunkBytes),
    ),
  )
}

function seeder(
  id: string,
  tables: readonly ChunkTable[],
  more: Partial<SimulatedSource> = {},
): SimulatedSource {
  const holds = tables.map(({ count }) => Bitfield.full(count))
  return { id, holds, bytesPerMs: 20 * mbPerSecond, delayMs: 20, ...more }
}

function holder(
  id: string,
  tables: readonly ChunkTable[],
  share: number,
  more: Partial<SimulatedSource> & { random: () => number },
): SimulatedSource {
  const { random, ...rest } = more
  const source = seeder(id, tables, rest)
  for (const holds of source.holds) {
    for (let index = 0; index < holds.length; index += 1) if (random() >= share) holds.delete(index)
  }
  return source
}

describe('one source', () => {
  test('fetches every chunk once', () => {
    const tables = model([40, 7, 1])
    const swarm = new Simulation({ tables, random: seededRandom(1) })
    swarm.connect(seeder('a', tables))
    expect(swarm.run(minute)).toBe(true)
    expect(swarm.requests).toBe(48)
  })

  test('keeps a long fat pipe full', () => {
    const tables = model([400])
    const swarm = new Simulation({ tables, random: seededRandom(2) })
    // 100 MB/s at 100 ms: 10 MB of product, far more than the four chunks asked for at first.
    swarm.connect(seeder('a', tables, { bytesPerMs: 100 * mbPerSecond, delayMs: 100 }))
    expect(swarm.run(minute)).toBe(true)
    const idealMs = swarm.size / (100 * mbPerSecond)
    expect(swarm.nowMs).toBeLessThan(1.25 * idealMs + second)
  })

  test('waits for a source that needs a minute for each chunk', () => {
    const tables = model([3])
    const swarm = new Simulation({ tables, random: seededRandom(3) })
    swarm.connect(seeder('a', tables, { bytesPerMs: (20 * KiB) / second, delayMs: 500 }))
    expect(swarm.run(5 * minute)).toBe(true)
    // Two were taken back when the first was late, and asked for again when it came.
    expect(swarm.requests).toBe(5)
  })

  test('keeps no more in flight and in the write queue than it may', () => {
    const tables = model([200])
    const bytesInFlightMax = 6 * MiB
    const random = seededRandom(4)
    const swarm = new Simulation({ tables, random, bytesInFlightMax, writeMs: 100 })
    swarm.connect(seeder('a', tables, { bytesPerMs: 500 * mbPerSecond, delayMs: 200 }))
    expect(swarm.run(minute)).toBe(true)
    expect(swarm.bytesInFlightPeak).toBeLessThanOrEqual(bytesInFlightMax)
  })
})

describe('several sources', () => {
  test('adds up what they can give', () => {
    const tables = model([300])
    const swarm = new Simulation({ tables, random: seededRandom(5) })
    for (const id of ['a', 'b', 'c', 'd']) swarm.connect(seeder(id, tables))
    expect(swarm.run(minute)).toBe(true)
    const idealMs = swarm.size / (4 * 20 * mbPerSecond)
    expect(swarm.nowMs).toBeLessThan(1.2 * idealMs + second / 2)
    expect(swarm.bytesAsked).toBeLessThan(1.1 * swarm.size)
  })

  test('asks for the rarest chunks first', () => {
    const tables = model([64])
    const swarm = new Simulation({ tables, random: seededRandom(6) })
    const partial = seeder('partial', tables)
    for (let index = 0; index < 64; index += 8) partial.holds[0]?.delete(index)
    swarm.connect(partial)
    swarm.connect(seeder('full', tables))
    expect(swarm.run(minute)).toBe(true)
    const first = swarm.asked.filter(({ source }) => source === 'full').slice(0, 8)
    expect(first.map(({ index }) => index).toSorted((a, b) => a - b)).toEqual(
      Array.from({ length: 8 }, (_, index) => index * 8),
    )
    // At random among equals.
    expect(first.map(({ index }) => index)).not.toEqual(first.map((_, index) => index * 8))
  })

  test('bans a source after one bad chunk and keeps its good ones', () => {
    const tables = model([100])
    const swarm = new Simulation({ tables, random: seededRandom(7) })
    swarm.connect(seeder('liar', tables, { lies: 0.2 }))
    swarm.connect(seeder('good', tables))
    expect(swarm.run(minute)).toBe(true)
    expect([...swarm.banned]).toEqual(['liar'])
    const bytes = (swarm.bytesBySource.get('liar') ?? 0) + (swarm.bytesBySource.get('good') ?? 0)
    expect(bytes).toBe(100 * MiB)
  })

  test('does not take a banned source back when it reconnects', () => {
    const tables = model([20])
    const swarm = new Simulation({ tables, random: seededRandom(8) })
    const liar = seeder('liar', tables, { lies: 1 })
    swarm.connect(liar)
    swarm.run(second)
    expect(swarm.isConnected('liar')).toBe(false)
    swarm.connect(liar)
    swarm.run(2 * second)
    expect(swarm.isConnected('liar')).toBe(false)
    expect(swarm.held[0]?.count).toBe(0)
  })

  test('loses little time to sources that freeze half way', () => {
    const tables = model([400])
    const swarm = new Simulation({ tables, random: seededRandom(9) })
    const sources = Array.from({ length: 8 }, (_, index) => seeder(`s${index}`, tables))
    for (const source of sources) swarm.connect(source)
    swarm.after(second, () => {
      for (const source of sources.slice(0, 4)) source.frozen = true
    })
    expect(swarm.run(minute)).toBe(true)
    // A second of eight, the rest by four, and what the frozen ones had swallowed asked for again.
    const idealMs = second + (swarm.size - 160 * mbPerSecond * second) / (80 * mbPerSecond)
    expect(swarm.nowMs).toBeLessThan(1.2 * idealMs)
  })

  test('takes a frozen source back when it goes on', () => {
    const tables = model([50])
    const swarm = new Simulation({ tables, random: seededRandom(10) })
    const only = seeder('only', tables, { frozen: true })
    swarm.connect(only)
    expect(swarm.run(5 * minute)).toBe(false)
    expect(swarm.log.some(({ type }) => type === 'stalled')).toBe(true)
    swarm.thaw('only')
    expect(swarm.run(20 * minute)).toBe(true)
  })

  test('ignores the claims of a source that serves none of them', () => {
    const tables = model([30])
    const swarm = new Simulation({ tables, random: seededRandom(11) })
    swarm.connect(seeder('boaster', tables, { refuses: true }))
    swarm.connect(seeder('honest', tables, { bytesPerMs: 5 * mbPerSecond }))
    expect(swarm.run(minute)).toBe(true)
    expect(swarm.log).toContainEqual({ type: 'distrusted', source: 'boaster' })
    // Four asked for at first, and none after the third refusal.
    expect(swarm.requests).toBeLessThan(30 + 10)
  })

  test('forgives a refusal when the claim is taken back', () => {
    const tables = model([12])
    const swarm = new Simulation({ tables, random: seededRandom(12) })
    const worn = seeder('worn', tables)
    swarm.connect(worn)
    // Bit rot that the source notices only when it is asked.
    for (const index of [1, 4, 6, 9]) worn.holds[0]?.delete(index)
    swarm.run(3 * second)
    swarm.apply({ type: 'have', source: 'worn', file: 0, gained: [], lost: [[0, 12]] })
    expect(swarm.held[0]?.count).toBeGreaterThanOrEqual(6)
  })

  test('believes a source again that lost everything for a moment and said so late', () => {
    const tables = model([40])
    const swarm = new Simulation({ tables, random: seededRandom(12) })
    const moved = seeder('moved', tables)
    swarm.connect(moved)
    // Refusals come on a lane; that the file is gone, and that it is back, on a stream behind them.
    const all = Array.from({ length: 40 }, (_, index) => index)
    for (const index of all) moved.holds[0]?.delete(index)
    swarm.run(second)
    expect(swarm.log).toContainEqual({ type: 'distrusted', source: 'moved' })
    swarm.apply({ type: 'have', source: 'moved', file: 0, gained: [], lost: [[0, 40]] })
    for (const index of all) moved.holds[0]?.add(index)
    swarm.apply({ type: 'have', source: 'moved', file: 0, gained: [[0, 40]], lost: [] })
    expect(swarm.run(20 * second)).toBe(true)
  })

  test('asks again at once for what was refused before it was claimed anew', () => {
    const tables = model([1])
    const session = new Session({ files: 1, random: () => 0 })
    const apply = (event: SessionEvent) => session.apply(event, 0)
    apply({ type: 'file-known', file: 0, table: tables[0] as ChunkTable })
    apply({ type: 'source-added', source: 'a', requestsMax: 8 })
    apply({ type: 'have', source: 'a', file: 0, gained: [[0, 1]], lost: [] })
    const held = new Bitfield(1)
    const asked = apply({ type: 'file-opened', file: 0, held })
    expect(asked).toMatchObject([{ type: 'request', source: 'a', index: 0 }])
    apply({ type: 'have', source: 'a', file: 0, gained: [], lost: [[0, 1]] })
    apply({ type: 'have', source: 'a', file: 0, gained: [[0, 1]], lost: [] })
    const reason = new Error('not held')
    const late = { source: 'a', file: 0, index: 0, failure: 'refused', reason } as const
    const again = apply({ type: 'request-failed', ...late })
    expect(again).toMatchObject([{ type: 'request', source: 'a', index: 0 }])
    // Refused with nothing said meanwhile, it is left alone.
    expect(apply({ type: 'request-failed', ...late })).not.toMatchObject([{ type: 'request' }])
  })
})

describe('waiting', () => {
  test('says once that it needs sources, and goes on when one appears', () => {
    const tables = model([10])
    const swarm = new Simulation({ tables, random: seededRandom(13) })
    swarm.run(3 * second)
    expect(swarm.needs).toBe(1)
    expect(swarm.session.isWaiting).toBe(true)
    swarm.connect(seeder('late', tables))
    expect(swarm.session.isWaiting).toBe(false)
    expect(swarm.run(minute)).toBe(true)
  })

  test('goes on when a source gains what is missing', () => {
    const tables = model([4])
    const swarm = new Simulation({ tables, random: seededRandom(14) })
    const partial = seeder('partial', tables)
    partial.holds[0]?.delete(2)
    swarm.connect(partial)
    expect(swarm.run(5 * second)).toBe(false)
    expect(swarm.session.isWaiting).toBe(true)
    swarm.gain(partial, 0, 2)
    expect(swarm.run(minute)).toBe(true)
  })

  test('works through many small files with few of them open', () => {
    const tables = model(
      Array.from({ length: 2000 }, () => 1),
      4 * KiB,
    )
    const swarm = new Simulation({ tables, random: seededRandom(15), openFilesMax: 16 })
    swarm.connect(seeder('a', tables))
    expect(swarm.run(minute)).toBe(true)
    expect(swarm.openPeak).toBeLessThanOrEqual(16)
    expect(swarm.requests).toBe(2000)
  })

  test('closes a file that nobody can complete to open one that can be', () => {
    const tables = model([4, 4, 4, 4])
    const swarm = new Simulation({ tables, random: seededRandom(16), openFilesMax: 2 })
    const partial = seeder('partial', tables)
    for (const file of [0, 1]) partial.holds[file]?.delete(3)
    swarm.connect(partial)
    swarm.run(10 * second)
    expect(swarm.held.map(({ count }) => count)).toEqual([3, 3, 4, 4])
    swarm.connect(seeder('whole', tables))
    expect(swarm.run(minute)).toBe(true)
  })

  test('needs nobody for an empty file', () => {
    const swarm = new Simulation({ tables: model([0, 0]), random: seededRandom(17) })
    expect(swarm.run(second)).toBe(true)
  })
})

test('costs the main thread microseconds for each of many chunks', () => {
  const chunks = 50_000
  const table = ChunkTable.fromRefs(
    Array.from({ length: chunks }, () => ({ digest: new Uint8Array(32), length: MiB })),
  )
  const session = new Session({ files: 1, random: seededRandom(20) })
  const requests: SourceChunk[] = []
  const apply = (event: SessionEvent, nowMs: number): void => {
    for (const action of session.apply(event, nowMs)) {
      if (action.type === 'request') requests.push(action)
    }
  }
  apply({ type: 'file-known', file: 0, table }, 0)
  for (const source of ['a', 'b', 'c', 'd']) {
    apply({ type: 'source-added', source, requestsMax: 64 }, 0)
    apply({ type: 'have', source, file: 0, gained: [[0, chunks]], lost: [] }, 0)
  }
  apply({ type: 'file-opened', file: 0, held: new Bitfield(chunks) }, 0)
  const before = process.cpuUsage()
  for (let at = 0; at < requests.length; at += 1) {
    const { source, index } = requests[at] as SourceChunk
    apply({ type: 'chunk-arrived', source, file: 0, index }, at)
    apply({ type: 'chunk-verified', source, file: 0, index }, at)
  }
  const { user, system } = process.cpuUsage(before)
  expect(session.missing).toBe(0)
  // 2 to 4 us on an idle machine; the bar for all of the main thread's work is 250 us.
  expect((user + system) / chunks).toBeLessThan(50)
})

describe('order', () => {
  /** How many of the requests from the last three quarters were for a later chunk than the one before. */
  function ordered(swarm: Simulation): number {
    const asked = swarm.asked.map(({ index }) => index).slice(swarm.requests / 4)
    return asked.filter((index, at) => index > (asked[at - 1] ?? -1)).length / asked.length
  }

  test('is that of the files when everybody known holds everything', () => {
    const tables = model([200])
    const swarm = new Simulation({ tables, random: seededRandom(31) })
    for (const id of ['a', 'b']) swarm.connect(seeder(id, tables))
    expect(swarm.run(minute)).toBe(true)
    expect(ordered(swarm)).toBeGreaterThan(0.95)
  })

  test('is random while another one fetches the same', () => {
    const tables = model([200])
    const random = seededRandom(32)
    const swarm = new Simulation({ tables, random })
    swarm.connect(seeder('a', tables))
    swarm.connect(holder('leecher', tables, 0.1, { random }))
    expect(swarm.run(minute)).toBe(true)
    expect(ordered(swarm)).toBeLessThan(0.7)
  })

  test('is that of the files when asked for, whoever is there', () => {
    const tables = model([200])
    const random = seededRandom(33)
    const swarm = new Simulation({ tables, random, isSequential: true })
    swarm.connect(seeder('a', tables))
    swarm.connect(holder('leecher', tables, 0, { random }))
    expect(swarm.run(minute)).toBe(true)
    expect(ordered(swarm)).toBeGreaterThan(0.95)
  })
})

test('fetches again what was lost between arriving and the disk, from the same source', () => {
  const tables = model([1])
  const session = new Session({ files: 1, random: seededRandom(34) })
  const [table] = tables as [ChunkTable]
  const name = { source: 'a', file: 0, index: 0 }
  const events: SessionEvent[] = [
    { type: 'file-known', file: 0, table },
    { type: 'source-added', source: 'a', requestsMax: 1 },
    { type: 'have', source: 'a', file: 0, gained: [[0, 1]], lost: [] },
    { type: 'file-opened', file: 0, held: new Bitfield(1) },
    { type: 'chunk-arrived', ...name },
    { type: 'chunk-lost', ...name },
  ]
  const types = events.flatMap(event => session.apply(event, 0)).map(({ type }) => type)
  expect(types).toEqual(['need-sources', 'open', 'request', 'request'])
})

test.for([1, 2, 3, 4, 5])(
  'one seeder with a thin uplink sends a crowd each chunk about once, seed %i',
  seed => {
    const [table] = model([400]) as [ChunkTable]
    const uplinkBytesPerMs = 20 * mbPerSecond
    const tradeBytesPerMs = 2 * uplinkBytesPerMs
    const crowd = { table, leechers: 4, seed, uplinkBytesPerMs, tradeBytesPerMs, meetMs: 1500 }
    const { doneMs, bytesFromSeeder } = simulateCrowd(crowd)
    expect(bytesFromSeeder / table.size).toBeLessThan(1.35)
    expect(doneMs / (table.size / uplinkBytesPerMs)).toBeLessThan(1.35)
  },
)

/** A scenario from a seed: who is there, what is wrong with them, and when they come and go. */
function scenario(seed: number): { swarm: Simulation; doneBy: number; areAllOpen: boolean } {
  const random = seededRandom(seed)
  const between = (low: number, high: number): number => low + Math.floor(random() * (high - low))
  const tables = model(
    Array.from({ length: between(1, 12) }, () => between(0, 40)),
    between(1, 5) * 256 * KiB > MiB ? MiB : 256 * KiB,
  )
  const openFilesMax = between(1, 6)
  const swarm = new Simulation({
    tables,
    random,
    openFilesMax,
    bytesInFlightMax: between(2, 40) * MiB,
    writeMs: between(0, 30),
  })
  const sources = Array.from({ length: between(1, 9) }, (_, index) => {
    const speed = { bytesPerMs: between(1, 60) * mbPerSecond, delayMs: between(1, 300) }
    const kind = random()
    if (kind < 0.15) return seeder(`liar-${index}`, tables, { ...speed, lies: random() })
    if (kind < 0.3) return seeder(`boaster-${index}`, tables, { ...speed, refuses: true })
    if (kind < 0.45) return seeder(`frozen-${index}`, tables, { ...speed, frozen: true })
    return holder(`holder-${index}`, tables, random(), { ...speed, random })
  })
  for (const source of sources) {
    swarm.after(between(0, 3 * second), () => swarm.connect(source))
    if (random() < 0.5) {
      const leaveMs = between(3 * second, 20 * second)
      swarm.after(leaveMs, () => swarm.disconnect(source.id))
      if (random() < 0.5) swarm.after(leaveMs + between(1, 10_000), () => swarm.connect(source))
    }
    if (random() < 0.2) swarm.after(between(0, 9 * second), () => (source.frozen = true))
  }
  // Everyone may have left by then; one comes back with everything.
  swarm.after(30 * second, () => swarm.connect(seeder('last', tables)))
  return {
    swarm,
    doneBy: 30 * second + minute + swarm.size / (20 * mbPerSecond),
    areAllOpen: openFilesMax >= tables.length,
  }
}

const seeds = Array.from({ length: 300 }, (_, index) => index)

test('asks others for what silent sources were asked, within seconds', () => {
  const tables = model([60])
  const random = seededRandom(19)
  const swarm = new Simulation({ tables, random, bytesInFlightMax: 8 * MiB })
  for (const id of ['x', 'y', 'z']) swarm.connect(seeder(id, tables, { frozen: true }))
  swarm.after(second, () => swarm.connect(seeder('good', tables)))
  // Five seconds until the silent ones are late, and the time of the good one alone.
  expect(swarm.run(second + 5.5 * second + swarm.size / (15 * mbPerSecond))).toBe(true)
})

test('a chunk of which three silent sources were asked is asked of one that comes later', () => {
  const tables = model([1])
  const swarm = new Simulation({ tables, random: seededRandom(93) })
  for (const id of ['x', 'y', 'z']) {
    swarm.after(swarm.nowMs, () => swarm.connect(seeder(id, tables, { frozen: true })))
  }
  swarm.after(16 * second, () => swarm.connect(seeder('good', tables)))
  expect(swarm.run(15 * second)).toBe(false)
  expect(swarm.requests).toBe(3)
  expect(swarm.run(17 * second)).toBe(true)
})

test.for(seeds)('completes whatever the swarm does, seed %i', seed => {
  const { swarm, doneBy, areAllOpen } = scenario(seed)
  expect(swarm.run(doneBy)).toBe(true)
  expect(swarm.held.every(({ isFull }) => isFull)).toBe(true)
  // What silent sources were asked is late after five seconds. Files that only they serve may keep others closed.
  expect(areAllOpen ? swarm.idleMsMax : 0).toBeLessThan(10 * second)
  // Asked again: what liars, boasters and silent sources had, and at most two hedges.
  const chunks = swarm.held.reduce((sum, { length }) => sum + length, 0)
  expect(swarm.requests).toBeLessThanOrEqual(3 * chunks + 200)
})
