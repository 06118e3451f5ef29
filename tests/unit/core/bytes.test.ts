import { expect, test } from 'vitest'
import {
  compareBytes,
  equalBytes,
  fromHex,
  memorySource,
  toHex,
  viewOf,
} from '../../../src/core/bytes.ts'
import { InvalidInputError } from '../../../src/core/errors.ts'

test('hex is read back as it was written', () => {
  const bytes = Uint8Array.from({ length: 256 }, (_, index) => index)
  expect(Uint8Array.from(fromHex(toHex(bytes)))).toEqual(bytes)
})

test.for(['a', 'AB', '0x', 'zz', 'ab '])('refuses %j as hex', text => {
  expect(() => fromHex(text)).toThrow(InvalidInputError)
})

test('compares as memcmp does: by unsigned bytes, then by length', () => {
  expect(compareBytes(Buffer.of(0x7f), Buffer.of(0x80))).toBeLessThan(0)
  expect(compareBytes(Buffer.of(1), Buffer.of(1, 0))).toBeLessThan(0)
  expect(compareBytes(Buffer.of(2), Buffer.of(1, 9))).toBeGreaterThan(0)
  expect(equalBytes(Buffer.of(1, 2), Uint8Array.of(1, 2))).toBe(true)
  expect(equalBytes(Buffer.of(1, 2), Uint8Array.of(1))).toBe(false)
})

test('a view is the same memory', () => {
  const bytes = Uint8Array.of(0, 1, 2, 3).subarray(1, 3)
  const view = viewOf(bytes)
  view[0] = 9
  expect([...bytes]).toEqual([9, 2])
})

test('a memory source gives exactly the range, and refuses one that is not inside', async () => {
  const source = memorySource(Buffer.from('weights'))
  expect(source.size).toBe(7)
  expect(Buffer.from(await source.readAt(2, 3)).toString()).toBe('igh')
  expect(await source.readAt(7, 0)).toHaveLength(0)
  for (const [offset, length] of [
    [-1, 2],
    [0, 8],
    [7, 1],
    [3, -1],
  ] as const) {
    await expect(source.readAt(offset, length)).rejects.toThrow(RangeError)
  }
})
