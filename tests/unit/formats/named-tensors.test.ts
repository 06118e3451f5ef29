import { expect, test } from 'vitest'
import { memorySource } from '../../../src/core/bytes.ts'
import { tensorStarts } from '../../../src/formats/detect.ts'
import { namedTensors } from '../../../src/formats/named-tensors.ts'
import { tensorFile } from '../../support/model-files.ts'
import { ggufFile, safetensorsFile, tensorInfo } from '../../support/weight-files.ts'

test('names the tensors of safetensors with the bytes they take', async () => {
  const file = tensorFile(
    { a: Buffer.alloc(10), b: Buffer.alloc(0), 'c é': Buffer.alloc(5) },
    { x: 'y' },
  )
  const tensors = await namedTensors(memorySource(file))
  const data = file.length - 15
  expect(tensors).toEqual([
    { name: 'a', start: data, end: data + 10 },
    { name: 'c é', start: data + 10, end: data + 15 },
  ])
})

test('names the tensors of GGUF, each up to the next in the file', async () => {
  const tensors = [tensorInfo('late', 64), tensorInfo('early', 0)]
  const file = ggufFile({ tensors, dataBytes: 100 })
  const data = file.length - 100
  expect(await namedTensors(memorySource(file))).toEqual([
    { name: 'early', start: data, end: data + 64 },
    { name: 'late', start: data + 64, end: file.length },
  ])
})

test('agrees with the starts that chunks are cut at', async () => {
  const file = tensorFile({ a: Buffer.alloc(3), b: Buffer.alloc(4), c: Buffer.alloc(5) })
  const starts = (await namedTensors(memorySource(file))).map(({ start }) => start)
  expect([0, ...starts]).toEqual(await tensorStarts(memorySource(file)))
})

test.for([
  ['nothing', Buffer.alloc(0)],
  ['zeros', Buffer.alloc(100)],
  ['a header past the end', Buffer.from('ff00000000000000', 'hex')],
  ['offsets past the end', safetensorsFile({ a: { data_offsets: [0, 1e9] } }, 10)],
  ['offsets that run backwards', safetensorsFile({ a: { data_offsets: [9, 1] } }, 10)],
  ['a GGUF name without end', ggufFile({ tensors: [Buffer.alloc(16, 0xff)] })],
] as const)('finds none in %s', async ([, file]) => {
  expect(await namedTensors(memorySource(file))).toEqual([])
})
