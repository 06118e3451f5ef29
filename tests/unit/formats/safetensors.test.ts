import { expect, test } from 'vitest'
import { memorySource } from '../../../src/core/bytes.ts'
import { InvalidInputError } from '../../../src/core/errors.ts'
import { safetensorsStarts } from '../../../src/formats/safetensors.ts'
import { safetensorsFile, u64 } from '../../support/weight-files.ts'

function startsOf(header: object | string | Uint8Array, dataBytes: number): Promise<number[]> {
  return safetensorsStarts(memorySource(safetensorsFile(header, dataBytes)))
}

/** Starts relative to the data, for headers whose own length does not matter. */
async function dataStartsOf(header: string, dataBytes: number): Promise<number[]> {
  const starts = await startsOf(header, dataBytes)
  return starts.slice(1).map(start => start - 8 - Buffer.byteLength(header))
}

test('dtype and shape do not matter, nor do they have to be there', async () => {
  const header =
    '{"a":{"dtype":"F99","shape":"odd","data_offsets":[0,4]},"b":{"data_offsets":[4,9]}}'
  expect(await dataStartsOf(header, 9)).toEqual([0, 4])
})

test('the last of equal keys wins, written with escapes or not', async () => {
  const header =
    '{"é":{"data_offsets":[0,1]},"\\u00e9":{"data_offsets":[0,6]},"b":7,"b":{"data_offsets":[6,9]}}'
  expect(await dataStartsOf(header, 9)).toEqual([0, 6])
})

test('the last data_offsets of an entry wins', async () => {
  const header = '{"a":{"data_offsets":"x","data_offsets":[0,3],"data\\u005foffsets":[0,9]}}'
  expect(await dataStartsOf(header, 9)).toEqual([0])
})

test('an earlier value that a later one replaces may be anything', async () => {
  await expect(dataStartsOf('{"a":{"data_offsets":[0,9]},"a":null}', 9)).rejects.toThrow(
    InvalidInputError,
  )
})

test('metadata may be anything, also under an escaped key', async () => {
  expect(await dataStartsOf('{"__metadata__":[[{}],1e9],"a":{"data_offsets":[0,9]}}', 9)).toEqual([
    0,
  ])
  expect(await dataStartsOf('{"\\u005f_metadata__":5,"a":{"data_offsets":[0,9]}}', 9)).toEqual([0])
})

test('an empty tensor may lie anywhere', async () => {
  const header = '{"e":{"data_offsets":[99,99]},"a":{"data_offsets":[0,9]}}'
  expect(await dataStartsOf(header, 9)).toEqual([0])
})

test('minus zero is zero', async () => {
  expect(await dataStartsOf('{"a":{"data_offsets":[-0,9]}}', 9)).toEqual([0])
})

test('a nesting of a million arrays is skipped', async () => {
  const deep = `${'['.repeat(1e6)}${']'.repeat(1e6)}`
  const header = `{"a":{"x":${deep},"data_offsets":[0,9]}}`
  expect(await dataStartsOf(header, 9)).toEqual([0])
})

test.for([
  ['no object', '5'],
  ['two values', '{} {}'],
  ['an entry that is an array', '{"a":[0,9]}'],
  ['an entry without offsets', '{"a":{}}'],
  ['one offset', '{"a":{"data_offsets":[9]}}'],
  ['a fraction', '{"a":{"data_offsets":[0.5,9]}}'],
  ['offsets in an object', '{"a":{"data_offsets":{"0":0,"1":9}}}'],
  ['a nested offset', '{"a":{"data_offsets":[[0],9]}}'],
  ['true for one', '{"a":{"data_offsets":[false,9]}}'],
  ['tensors twice', '{"a":{"data_offsets":[0,9]},"b":{"data_offsets":[0,9]}}'],
  ['crossed ranges', '{"a":{"data_offsets":[0,6]},"b":{"data_offsets":[3,9]}}'],
  ['a range within another', '{"a":{"data_offsets":[0,9]},"b":{"data_offsets":[3,6]}}'],
  ['too little data', '{"a":{"data_offsets":[0,8]}}'],
  ['no tensors but data', '{}'],
  ['an infinite offset', '{"a":{"data_offsets":[0,1e999]}}'],
] as const)('refuses %s', async ([, header]) => {
  await expect(dataStartsOf(header, 9)).rejects.toThrow(InvalidInputError)
})

test.for([
  ['a surrogate', [0xed, 0xa0, 0x80]],
  ['an overlong slash', [0xc0, 0xaf]],
  ['a lone continuation', [0x80]],
  ['a character cut short', [0xe2, 0x82]],
] as const)('refuses %s in UTF-8', async ([, bytes]) => {
  const header = Buffer.concat([
    Buffer.from('{"__metadata__":"'),
    Buffer.from(bytes),
    Buffer.from('"}'),
  ])
  await expect(startsOf(header, 0)).rejects.toThrow('UTF-8')
})

test('a header of 100,000,001 bytes is refused without reading it', async () => {
  const source = {
    size: 200_000_000,
    readAt(offset: number, length: number): Promise<Uint8Array> {
      if (offset !== 0 || length !== 8) return Promise.reject(new RangeError('read too much'))
      return Promise.resolve(u64(100_000_001))
    },
  }
  await expect(safetensorsStarts(source)).rejects.toThrow('100000001')
})
