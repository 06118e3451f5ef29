import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type ByteSource, memorySource } from '../../../src/core/bytes.ts'
import { InvalidInputError, StorageError } from '../../../src/core/errors.ts'
import { isPlain, tensorStarts } from '../../../src/formats/detect.ts'
import { ggufStarts } from '../../../src/formats/gguf.ts'
import { safetensorsStarts } from '../../../src/formats/safetensors.ts'
import { chunkingCases, contentOf } from '../../support/vectors.ts'
import { ggufFile, safetensorsFile, tensorInfo } from '../../support/weight-files.ts'

const braces = Buffer.from('{}')

test.for(chunkingCases)('$name: finds the starts of the golden vector', async vector => {
  expect(await tensorStarts(memorySource(contentOf(vector.parts)))).toEqual(vector.starts)
})

test.for(chunkingCases.filter(({ starts }) => starts.length > 1))('$name is not plain', vector => {
  const bytes = contentOf(vector.parts)
  expect(isPlain(bytes.length, bytes.subarray(0, 8))).toBe(false)
})

test('calls plain what every parser refuses, for any short content', async () => {
  const start = fc.oneof(
    fc.uint8Array({ maxLength: 24 }),
    // A header length that may fit, and GGUF's magic.
    fc.nat(40).map(length => Buffer.concat([Uint8Array.of(length, 0, 0, 0, 0, 0, 0, 0), braces])),
    fc.uint8Array({ maxLength: 24 }).map(bytes => Buffer.concat([Buffer.from('GGUF'), bytes])),
  )
  await fc.assert(
    fc.asyncProperty(start, async bytes => {
      if (!isPlain(bytes.length, bytes)) return
      await expect(safetensorsStarts(memorySource(bytes))).rejects.toThrow(InvalidInputError)
      await expect(ggufStarts(memorySource(bytes))).rejects.toThrow(InvalidInputError)
    }),
  )
  expect(isPlain(10, Buffer.concat([Uint8Array.of(2, 0, 0, 0, 0, 0, 0, 0), braces]))).toBe(false)
})

test('a source that fails to read is no plain file: the error comes out', async () => {
  const failing: ByteSource = {
    size: 1000,
    readAt: () => Promise.reject(new StorageError('reading model.gguf')),
  }
  await expect(tensorStarts(failing)).rejects.toThrow(StorageError)
})

test('reads no tensor data', async () => {
  const gguf = ggufFile({ tensors: [tensorInfo('a', 0)], dataBytes: 4_000_000 })
  const safetensors = safetensorsFile({ a: { data_offsets: [0, 4_000_000] } }, 4_000_000)
  for (const file of [gguf, safetensors]) {
    const memory = memorySource(file)
    let bytesRead = 0
    const counting: ByteSource = {
      size: memory.size,
      readAt(offset, length) {
        bytesRead += length
        return memory.readAt(offset, length)
      },
    }
    expect(await tensorStarts(counting)).toHaveLength(2)
    expect(bytesRead).toBeLessThan(300_000)
  }
})

test('a file that begins as GGUF and fails is not tried as safetensors', async () => {
  expect(await tensorStarts(memorySource(Buffer.from('GGUF and then text')))).toEqual([0])
})

test.for([0, 1, 3, 4, 7, 8, 23])('a file of %i bytes is plain', async size => {
  expect(await tensorStarts(memorySource(Buffer.alloc(size)))).toEqual([0])
})
