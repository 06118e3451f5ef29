import * as dagCbor from '@ipld/dag-cbor'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { rawCid } from '../../../src/core/cid.ts'
import { InvalidInputError } from '../../../src/core/errors.ts'
import { CborReader } from '../../../src/manifest/cbor-reader.ts'

function readerOf(hex: string): CborReader {
  return new CborReader(Buffer.from(hex, 'hex'))
}

const edges = [0, 23, 24, 255, 256, 65_535, 65_536, 2 ** 32 - 1, 2 ** 32, Number.MAX_SAFE_INTEGER]

test('reads whole numbers as dag-cbor writes them', () => {
  fc.assert(
    fc.property(fc.oneof(fc.constantFrom(...edges), fc.maxSafeNat()), value => {
      const reader = new CborReader(dagCbor.encode(value))
      expect(reader.uint()).toBe(value)
      reader.end()
    }),
  )
})

test('reads texts, bytes and CIDs as dag-cbor writes them', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme', maxLength: 80 }), text => {
      expect(new CborReader(dagCbor.encode(text)).text(1000)).toBe(text)
    }),
  )
  const bytes = Uint8Array.from({ length: 300 }, (_, index) => index % 256)
  expect(new CborReader(dagCbor.encode(bytes)).bytes(300)).toEqual(bytes)
  const cid = rawCid(bytes.slice(0, 32))
  expect(new CborReader(dagCbor.encode(cid)).cid().equals(cid)).toBe(true)
})

test('accepts a word only when it is the next text', () => {
  const reader = new CborReader(dagCbor.encode('path'))
  expect(reader.accept('pat')).toBe(false)
  expect(reader.accept('paths')).toBe(false)
  expect(reader.accept('root')).toBe(false)
  expect(reader.accept('path')).toBe(true)
  expect(reader.accept('path')).toBe(false)
})

test.for([
  '1817',
  '1900ff',
  '1a0000ffff',
  '1b00000000ffffffff',
  '1bffffffffffffffff',
  '20',
  '18',
  '',
])('refuses %j as a whole number', hex => {
  expect(() => readerOf(hex).uint()).toThrow(InvalidInputError)
})

test.for([
  ['a text in pieces', '7f6161ff', (reader: CborReader) => reader.text(9)],
  ['a text that is bytes', '4161', (reader: CborReader) => reader.text(9)],
  ['a text past the end', '6261', (reader: CborReader) => reader.text(9)],
  ['a text that is too long', '63616161', (reader: CborReader) => reader.text(2)],
  ['a text of 2^53 - 1 bytes', '7b001fffffffffffff', (reader: CborReader) => reader.text(9)],
  ['a text that is not UTF-8', '62c0af', (reader: CborReader) => reader.text(9)],
  ['a text with a surrogate', '63eda080', (reader: CborReader) => reader.text(9)],
  ['too few bytes', '4161', (reader: CborReader) => reader.bytes(2)],
  ['an indefinite map', 'bf', (reader: CborReader) => reader.map()],
  ['an indefinite array', '9f', (reader: CborReader) => reader.array()],
  ['a reserved length', '9c', (reader: CborReader) => reader.array()],
  ['another tag than 42', 'd82b40', (reader: CborReader) => reader.cid()],
  ['a CID without its zero', `d82a5825${'01'.repeat(37)}`, (reader: CborReader) => reader.cid()],
  [
    'a CID of another hash',
    `d82a58250001551e20${'01'.repeat(32)}`,
    (reader: CborReader) => reader.cid(),
  ],
] as const)('refuses %s', ([, hex, read]) => {
  expect(() => read(readerOf(hex))).toThrow(InvalidInputError)
})

test('keeps a byte order mark as part of the text', () => {
  expect(readerOf('63efbbbf').text(9)).toBe('\ufeff')
})

test('the end is the end', () => {
  expect(() => {
    readerOf('00').end()
  }).toThrow('after the end')
})
