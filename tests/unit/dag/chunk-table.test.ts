import { expect, test } from 'vitest'
import { MiB } from '../../../src/core/units.ts'
import { ChunkTable, chunkBytesMax, recordBytes } from '../../../src/dag/chunk-table.ts'
import { inventedTable } from '../../support/dags.ts'

const table = inventedTable(5, index => [10, 1, MiB, 7, 3][index] ?? 0)

test('gives each chunk its offset and length', () => {
  expect(table.count).toBe(5)
  expect(table.size).toBe(21 + MiB)
  expect(Array.from({ length: 5 }, (_, index) => table.offset(index))).toEqual([
    0,
    10,
    11,
    11 + MiB,
    18 + MiB,
  ])
  expect(table.offset(5)).toBe(table.size)
  expect(table.ref(2)).toEqual({ digest: table.digest(2), offset: 11, length: MiB })
})

test('the bytes of a table make the same table', () => {
  expect(new ChunkTable(table.bytes).ref(3)).toEqual(table.ref(3))
  expect(table.bytes).toHaveLength(5 * recordBytes)
})

test('a file of one chunk has its SHA-256 as the digest; an empty one has no chunks', () => {
  const digest = new Uint8Array(32).fill(7)
  expect(ChunkTable.ofOneChunk(digest, 9).ref(0)).toMatchObject({ offset: 0, length: 9 })
  expect(Buffer.from(ChunkTable.ofOneChunk(digest, 9).digest(0))).toEqual(Buffer.from(digest))
  expect(ChunkTable.ofOneChunk(digest, 0).count).toBe(0)
})

function record(length: number): Buffer {
  const bytes = Buffer.alloc(recordBytes)
  bytes.writeUInt32LE(length, 32)
  return bytes
}

test.for([
  ['cut short', Buffer.alloc(recordBytes - 1), 'cut short'],
  ['with an empty chunk', record(0), 'chunk 0 has 0 bytes'],
  ['with a chunk above 1 MiB', record(chunkBytesMax + 1), 'chunk 0 has 1048577 bytes'],
  ['with a length of 2^32 - 1', record(2 ** 32 - 1), 'chunk 0'],
] satisfies [string, Buffer, string][])('refuses a table %s', ([, bytes, reason]) => {
  expect(() => new ChunkTable(bytes)).toThrow(reason)
})
