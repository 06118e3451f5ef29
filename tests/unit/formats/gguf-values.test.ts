import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type ByteSource, memorySource } from '../../../src/core/bytes.ts'
import { InvalidInputError } from '../../../src/core/errors.ts'
import { type GgufValue, ggufValueBytesMax, ggufValues } from '../../../src/formats/gguf-values.ts'
import { fuzzTimeoutMs, untilTime } from '../../support/fuzz.ts'
import { ggufFile, ggufString, keyValue, u32, u64 } from '../../support/weight-files.ts'

const keys = ['general.architecture', 'general.file_type']
const architecture = keyValue('general.architecture', 8, ggufString('llama'))
const fileType = keyValue('general.file_type', 4, u32(15))
/** As in every model: strings of many lengths, more than a window of the reader. */
const words = Array.from({ length: 40_000 }, (_, index) => ggufString('x'.repeat(index % 17)))
const vocabulary = keyValue(
  'tokenizer.ggml.tokens',
  9,
  Buffer.concat([u32(8), u64(40_000), ...words]),
)

async function valuesOf(...keyValues: Buffer[]): Promise<Record<string, GgufValue>> {
  return Object.fromEntries(await ggufValues(memorySource(ggufFile({ keyValues })), keys))
}

test('finds strings and numbers, before and behind a vocabulary', async () => {
  expect(await valuesOf(architecture, vocabulary, fileType)).toEqual({
    'general.architecture': 'llama',
    'general.file_type': 15,
  })
})

test('reads no further than the last that is asked for', async () => {
  const file = ggufFile({ keyValues: [architecture, fileType, vocabulary] })
  let furthest = 0
  const source: ByteSource = {
    size: 2 ** 40,
    readAt(offset, length) {
      furthest = Math.max(furthest, offset)
      const bytes = Buffer.alloc(length)
      file.copy(bytes, 0, offset)
      return Promise.resolve(bytes)
    },
  }
  expect(await ggufValues(source, keys)).toHaveProperty('size', 2)
  expect(furthest).toBe(0)
})

test('leaves out what is missing or of another type', async () => {
  const array = keyValue('general.file_type', 9, Buffer.concat([u32(4), u64(1), u32(15)]))
  expect(await valuesOf(vocabulary)).toEqual({})
  expect(await valuesOf(array, architecture)).toEqual({ 'general.architecture': 'llama' })
})

test('the first of two counts', async () => {
  const second = keyValue('general.architecture', 8, ggufString('other'))
  expect(await valuesOf(architecture, second)).toEqual({ 'general.architecture': 'llama' })
})

test('reads over keys of any length', async () => {
  const long = keyValue('k'.repeat(700_000), 4, u32(1))
  expect(await valuesOf(long, fileType)).toEqual({ 'general.file_type': 15 })
})

test('refuses a name without end', async () => {
  const long = keyValue('general.architecture', 8, ggufString('x'.repeat(ggufValueBytesMax + 1)))
  await expect(valuesOf(long)).rejects.toThrow(InvalidInputError)
})

test('whatever bytes: values or InvalidInputError', { timeout: fuzzTimeoutMs() }, async () => {
  const file = ggufFile({ keyValues: [architecture, fileType] })
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.nat(file.length - 1), fc.nat(255)), { maxLength: 6 }),
      fc.nat(file.length),
      async (edits, cut) => {
        const bytes = Buffer.from(file.subarray(0, file.length - (cut % 20)))
        for (const [at, byte] of edits) if (at < bytes.length) bytes[at] = byte
        const found = await ggufValues(memorySource(bytes), keys).catch((error: unknown) => error)
        expect(found instanceof Map || found instanceof InvalidInputError).toBe(true)
      },
    ),
    { plugins: [untilTime()], numRuns: 1e6 },
  )
})
