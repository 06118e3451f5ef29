import fc from 'fast-check'
import { expect, test } from 'vitest'
import { MiB } from '../../../src/core/units.ts'
import { planChunks, smallSegmentBytes } from '../../../src/dag/chunking.ts'
import { chunkingCases } from '../../support/vectors.ts'
import { cpuMs } from '../../support/cpu-time.ts'

test.for(chunkingCases)('$name: cuts as the golden vector', ({ size, starts, chunks }) => {
  expect([...planChunks(size, starts)]).toEqual(chunks.map(([, length]) => length))
})

/** Files by the lengths of their segments: many small tensors, some large, at every edge. */
const segments = fc.array(
  fc.oneof(
    fc.integer({ min: 1, max: 3 }),
    fc.integer({ min: 1, max: smallSegmentBytes - 1 }),
    fc.constantFrom(smallSegmentBytes - 1, smallSegmentBytes, MiB - 1, MiB, MiB + 1, 3 * MiB),
    fc.integer({ min: smallSegmentBytes, max: 5 * MiB }),
  ),
  { minLength: 1, maxLength: 60 },
)

function planOf(lengths: readonly number[]): { size: number; starts: number[]; chunks: number[] } {
  const starts: number[] = []
  let size = 0
  for (const length of lengths) {
    starts.push(size)
    size += length
  }
  return { size, starts, chunks: [...planChunks(size, starts)] }
}

test('chunks tile the file, each of 1 byte to 1 MiB', () => {
  fc.assert(
    fc.property(segments, lengths => {
      const { size, chunks } = planOf(lengths)
      expect(chunks.reduce((sum, length) => sum + length, 0)).toBe(size)
      expect(chunks.every(length => length >= 1 && length <= MiB)).toBe(true)
    }),
  )
})

test('a large tensor starts a chunk and is cut alone, wherever it lies in the file', () => {
  fc.assert(
    fc.property(segments, lengths => {
      const { starts, chunks } = planOf(lengths)
      const cuts = new Set<number>([0])
      let offset = 0
      for (const length of chunks) cuts.add((offset += length))
      for (const [index, length] of lengths.entries()) {
        if (index > 0 && length < smallSegmentBytes) continue
        for (let at = 0; at < length; at += MiB)
          expect(cuts.has((starts[index] ?? 0) + at)).toBe(true)
        expect(cuts.has((starts[index] ?? 0) + length)).toBe(true)
      }
    }),
  )
})

test('no chunk holds a part of a small tensor, and runs are as long as they can be', () => {
  fc.assert(
    fc.property(segments, lengths => {
      const small = lengths.map((length, index) =>
        index > 0 && length < smallSegmentBytes ? length : 0,
      )
      const { starts, chunks } = planOf(lengths)
      let offset = 0
      const ends = chunks.map(length => (offset += length))
      const chunkOf = (at: number): number => ends.findIndex(end => end > at)
      for (const [index, length] of small.entries()) {
        if (length === 0) continue
        const start = starts[index] ?? 0
        const chunk = chunkOf(start)
        expect(chunkOf(start + length - 1)).toBe(chunk)
        const followsSmall = (small[index - 1] ?? 0) > 0
        if (!followsSmall || chunkOf(start - 1) === chunk) continue
        // A new run was opened: the one before had no room.
        expect((chunks[chunk - 1] ?? 0) + length).toBeGreaterThan(MiB)
      }
    }),
  )
})

test('a file without tensors is cut every MiB', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 40 * MiB }), size => {
      const chunks = [...planChunks(size, [0])]
      const full = Math.floor(size / MiB)
      expect(chunks).toEqual(
        [...Array.from({ length: full }, () => MiB), size % MiB].filter(length => length > 0),
      )
    }),
  )
})

test('two million tensors are planned within a second of CPU time', () => {
  const starts = Array.from({ length: 2_000_000 }, (_, index) => index * 10_000)
  const before = cpuMs()
  const chunks = planChunks(2_000_000 * 10_000, starts)
  expect(cpuMs() - before).toBeLessThan(1000)
  expect(chunks).toHaveLength(1 + Math.ceil(1_999_999 / 104))
})
