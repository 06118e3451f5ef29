import fc from 'fast-check'
import { expect, test } from 'vitest'
import { GiB, KiB, MiB, TiB } from '../../../../src/core/units.ts'
import { recordBytes } from '../../../../src/dag/chunk-table.ts'
import { planChunks } from '../../../../src/dag/chunking.ts'
import { tableBytesFor } from '../../../../src/net/swarm/peer-source.ts'
import { tableBytesMax } from '../../../../src/wire/messages.ts'

test('no table of cw-chunk-1 is larger than its file may have', () => {
  const starts = fc
    .array(
      fc.oneof(fc.nat({ max: 600 * KiB }), fc.constantFrom(1, 256 * KiB, 256 * KiB - 1, MiB)),
      {
        maxLength: 60,
      },
    )
    .map(lengths => {
      let offset = 0
      return lengths.map(length => (offset += length))
    })
  fc.assert(
    fc.property(starts, fc.nat({ max: 2 * MiB }), (tensors, rest) => {
      const size = (tensors.at(-1) ?? 0) + rest
      const chunks = planChunks(
        size,
        [...new Set([0, ...tensors])].filter(at => at < size || at === 0),
      )
      expect(chunks.length * recordBytes).toBeLessThanOrEqual(tableBytesFor(size))
    }),
  )
})

test('the bound is small for small files, and never above that of any file', () => {
  expect(tableBytesFor(0)).toBe(0)
  expect(tableBytesFor(1)).toBe(recordBytes)
  expect(tableBytesFor(GiB)).toBeLessThan(300 * KiB)
  expect(tableBytesFor(16 * TiB)).toBe(tableBytesMax)
  expect(tableBytesFor(undefined)).toBe(tableBytesMax)
})
