/** One seeder and many real peers over loopback: each gets about the same, however it asks. */

import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { systemClock } from '../../src/core/clock.ts'
import { MiB, second } from '../../src/core/units.ts'
import { openBandwidth } from '../../src/net/upload/bandwidth.ts'
import type { Source } from '../../src/transfer/source.ts'
import { openSwarmNode, until } from '../support/libp2p-pair.ts'
import { MemoryReader, sampleFile } from '../support/memory-reader.ts'

const file = sampleFile(16 * MiB)

/** Fetches with so many requests open until told to stop; counts. */
function leech(source: Source, depth: number, signal: AbortSignal): { bytes: number } {
  const got = { bytes: 0 }
  const run = async (start: number): Promise<void> => {
    for (let at = start; !signal.aborted; at += 1) {
      const { offset, length } = file.table.ref(at % 16)
      const request = { root: file.root, index: at % 16, offset, length }
      const { length: bytes } = await source.fetchChunk(request, { signal })
      got.bytes += bytes
    }
  }
  for (let at = 0; at < depth; at += 1) void run(at).catch(() => undefined)
  return got
}

interface Served {
  /** Of each of eight peers, one of which asks for 64 at a time. */
  readonly got: number[]
  readonly seconds: number
}

/** Until they have got so many bytes together: in a fixed time, a busy machine gives each of them a few chunks only. */
async function serveEight(maxUp: number | undefined, bytesMin: number): Promise<Served> {
  await using stack = new AsyncDisposableStack()
  const bandwidth = openBandwidth(systemClock, { maxUp, limitLan: true })
  const reader = new MemoryReader().addFile(file)
  const seeder = stack.use(await openSwarmNode({ reader, bandwidth }))
  const stop = new AbortController()
  stack.defer(() => stop.abort())
  const gots: { bytes: number }[] = []
  const sources = await Promise.all(
    Array.from({ length: 8 }, async () => {
      const node = stack.use(await openSwarmNode())
      return node.swarm.connect(seeder.hint(), { signal: AbortSignal.timeout(40 * second) })
    }),
  )
  for (const [at, source] of sources.entries()) {
    gots.push(leech(source, at === 0 ? 64 : 4, stop.signal))
  }
  // Not from the start: the first to come has all slots for a moment.
  await delay(second)
  await until(() => gots.every(({ bytes }) => bytes > 0))
  const before = gots.map(({ bytes }) => bytes)
  const startedMs = performance.now()
  const gotSince = (): number[] => gots.map(({ bytes }, at) => bytes - (before[at] ?? 0))
  const sum = (): number => gotSince().reduce((total, bytes) => total + bytes, 0)
  await until(() => sum() >= bytesMin)
  const seconds = (performance.now() - startedMs) / second
  return { got: gotSince(), seconds }
}

/**
 * One peer that asked sixteen times as much as the others would get sixteen times as much without turns. What a busy
 * machine takes from one process is not the seeder's doing; exact shares are tested with a fake clock.
 */
const fairMin = 0.5

test('eight leechers get the same of a seeder as fast as it can', async () => {
  const { got } = await serveEight(undefined, 400 * MiB)
  expect(Math.min(...got) / Math.max(...got)).toBeGreaterThan(fairMin)
})

test('eight leechers get the same of a limited uplink, and no more than its limit', async () => {
  const { got, seconds } = await serveEight(16 * MiB, 160 * MiB)
  const sum = got.reduce((total, bytes) => total + bytes, 0)
  expect(sum / seconds / (16 * MiB)).toBeLessThan(1.05)
  expect(Math.min(...got) / Math.max(...got)).toBeGreaterThan(fairMin)
})
