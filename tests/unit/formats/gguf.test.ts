import { expect, test } from 'vitest'
import { memorySource } from '../../../src/core/bytes.ts'
import { InvalidInputError } from '../../../src/core/errors.ts'
import { ggufStarts } from '../../../src/formats/gguf.ts'
import {
  ggufFile,
  type GgufParts,
  ggufString,
  keyValue,
  tensorInfo,
  u32,
  u64,
} from '../../support/weight-files.ts'

function startsOf(parts: GgufParts): Promise<number[]> {
  return ggufStarts(memorySource(ggufFile(parts)))
}

const oneTensor = { tensors: [tensorInfo('a', 0)], dataBytes: 64 }

test.for([0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12])('skips a value of type %i', async type => {
  const bytes = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8][type] ?? 0
  const scalar = keyValue('k', type, Buffer.alloc(bytes))
  const array = keyValue('n', 9, Buffer.concat([u32(type), u64(3), Buffer.alloc(3 * bytes)]))
  expect(await startsOf({ ...oneTensor, keyValues: [scalar, array] })).toHaveLength(2)
})

test('skips strings that are longer than a window of the reader', async () => {
  const long = ggufString('x'.repeat(700_000))
  const keyValues = [
    keyValue('k', 8, long),
    keyValue('n', 9, Buffer.concat([u32(8), u64(3), long, ggufString(''), long])),
  ]
  expect(await startsOf({ ...oneTensor, keyValues })).toHaveLength(2)
})

test('reads on where a window ends within a number', async () => {
  // Key-values of 4,096 bytes less one: the windows end at every position within them.
  const keyValues = Array.from({ length: 700 }, (_, index) =>
    keyValue(`k${String(index).padStart(4, '0')}`, 8, ggufString('x'.repeat(4095 - 25))),
  )
  expect(await startsOf({ ...oneTensor, keyValues })).toHaveLength(2)
})

test('tensor sizes are not looked at', async () => {
  const tensors = [tensorInfo('huge', 0, [2 ** 50, 2 ** 50]), tensorInfo('none', 32, [0])]
  const starts = await startsOf({ tensors, dataBytes: 64 })
  expect(starts).toHaveLength(3)
})

test('an alignment of 2^31 is a power of two, but leaves no room for data', async () => {
  const keyValues = [keyValue('general.alignment', 4, u32(2 ** 31))]
  await expect(startsOf({ ...oneTensor, keyValues })).rejects.toThrow('after the end')
})

test.for([
  ['version 1', { ...oneTensor, version: 1 }],
  ['alignment 0', { ...oneTensor, keyValues: [keyValue('general.alignment', 4, u32(0))] }],
  [
    'an alignment of type u64',
    { ...oneTensor, keyValues: [keyValue('general.alignment', 10, u64(32))] },
  ],
  [
    'an array of unknown type',
    { ...oneTensor, keyValues: [keyValue('k', 9, Buffer.concat([u32(13), u64(0)]))] },
  ],
  [
    'an array of 2^61 items',
    { ...oneTensor, keyValues: [keyValue('k', 9, Buffer.concat([u32(12), u64(2n ** 61n)]))] },
  ],
  [
    '2^60 strings',
    { ...oneTensor, keyValues: [keyValue('k', 9, Buffer.concat([u32(8), u64(2n ** 60n)]))] },
  ],
  ['an offset of 2^64 - 1', { tensors: [tensorInfo('a', 2n ** 64n - 1n)], dataBytes: 64 }],
  ['an offset at the end', { tensors: [tensorInfo('a', 64)], dataBytes: 64 }],
] satisfies [string, GgufParts][])('refuses %s', async ([, parts]) => {
  await expect(startsOf(parts)).rejects.toThrow(InvalidInputError)
})

test.for([
  ['tensors', [Buffer.from('GGUF'), u32(3), u64(2_000_001), u64(0)]],
  ['tensors that are not there', [Buffer.from('GGUF'), u32(3), u64(2_000_000), u64(0)]],
  ['key-values', [Buffer.from('GGUF'), u32(3), u64(0), u64(2n ** 64n - 1n)]],
] as const)('refuses a count of too many %s', async ([, parts]) => {
  const file = Buffer.concat([...parts, Buffer.alloc(1000)])
  await expect(ggufStarts(memorySource(file))).rejects.toThrow(InvalidInputError)
})

test('a header past 100,000,000 bytes is refused, however large the file', async () => {
  const prefix = Buffer.concat([
    Buffer.from('GGUF'),
    u32(3),
    u64(0),
    u64(1),
    ggufString('k'),
    u32(9),
    u32(0),
    u64(100_000_000),
  ])
  const source = {
    size: 10 ** 12,
    readAt(offset: number, length: number): Promise<Uint8Array> {
      const bytes = Buffer.alloc(length)
      prefix.copy(bytes, 0, offset)
      return Promise.resolve(bytes)
    },
  }
  await expect(ggufStarts(source)).rejects.toThrow('ends too early')
})
