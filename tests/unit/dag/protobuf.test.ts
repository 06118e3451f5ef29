import fc from 'fast-check'
import { expect, test } from 'vitest'
import { ProtobufReader, ProtobufWriter, varintBytes } from '../../../src/dag/protobuf.ts'

function varintOf(value: number): Uint8Array {
  const writer = new ProtobufWriter(varintBytes(value))
  writer.varint(value)
  return writer.bytes
}

test('whole numbers of every size are read back', () => {
  const edges = [7, 14, 21, 28, 31, 32, 35, 42, 49, 52].flatMap(bits => [2 ** bits - 1, 2 ** bits])
  const numbers = fc.oneof(fc.maxSafeNat(), fc.constantFrom(0, ...edges, Number.MAX_SAFE_INTEGER))
  fc.assert(
    fc.property(numbers, value => {
      const reader = new ProtobufReader(varintOf(value))
      expect(reader.varint()).toBe(value)
      expect(reader.isDone).toBe(true)
    }),
    { numRuns: 500 },
  )
})

test('2^31 takes five bytes, as in every other implementation', () => {
  expect(Buffer.from(varintOf(2 ** 31)).toString('hex')).toBe('8080808008')
})

test('bytes that are read as a number are its one encoding', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 9 }), bytes => {
      const reader = new ProtobufReader(bytes)
      let value: number
      try {
        value = reader.varint()
      } catch {
        return
      }
      const encoded = varintOf(value)
      expect(encoded).toEqual(bytes.slice(0, encoded.length))
    }),
    { numRuns: 2000 },
  )
})

test.for(['', '80', '8000', 'ff00', '8080808080808080', 'ffffffffffffff7f', '8080808080808010'])(
  'refuses the number %j',
  hex => {
    expect(() => new ProtobufReader(Buffer.from(hex, 'hex')).varint()).toThrow('a bad DAG node')
  },
)

test('refuses a field that is longer than what is left', () => {
  const reader = new ProtobufReader(Buffer.of(1, 2, 3))
  expect(() => reader.raw(4)).toThrow('ends within')
  expect([...reader.raw(3)]).toEqual([1, 2, 3])
  expect(() => {
    reader.expect(1)
  }).toThrow('expected')
})
