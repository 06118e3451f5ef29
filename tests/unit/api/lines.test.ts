import fc from 'fast-check'
import { expect, test } from 'vitest'
import { readLines } from '../../../src/api/lines.ts'
import { LimitError } from '../../../src/core/errors.ts'

async function* cut(bytes: Uint8Array, lengths: readonly number[]): AsyncGenerator<Uint8Array> {
  let start = 0
  for (const length of lengths) {
    yield bytes.subarray(start, start + length)
    start += length
  }
  yield bytes.subarray(start)
}

function lines(bytes: Uint8Array, lengths: readonly number[] = [], max = 1000): Promise<string[]> {
  return Array.fromAsync(readLines(cut(bytes, lengths), max))
}

test('reads the same lines however their bytes were cut', async () => {
  const line = fc.string({ unit: 'grapheme', maxLength: 30 }).map(text => text.replaceAll('\n', ''))
  await fc.assert(
    fc.asyncProperty(fc.array(line), fc.array(fc.nat(20)), async (expected, lengths) => {
      const bytes = Buffer.from(expected.map(text => `${text}\n`).join(''))
      expect(await lines(bytes, lengths)).toEqual(expected.map(text => text.toWellFormed()))
    }),
    { numRuns: 500 },
  )
})

test('drops a line that was cut off', async () => {
  expect(await lines(Buffer.from('one\ntw'))).toEqual(['one'])
})

test.for([[[]], [[3, 3, 3]], [[1, 1]]])(
  'refuses a line over the bound, cut at %j',
  async ([cuts]) => {
    expect(await lines(Buffer.from('12345\n'), cuts, 5)).toEqual(['12345'])
    await expect(lines(Buffer.from('123456\n'), cuts, 5)).rejects.toThrow(LimitError)
    await expect(lines(Buffer.from('123456'), cuts, 5)).rejects.toThrow(LimitError)
  },
)
