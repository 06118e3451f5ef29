import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Bitfield } from '../../../src/core/bitfield.ts'
import { InvalidInputError } from '../../../src/core/errors.ts'

const commands = fc.array(fc.tuple(fc.boolean(), fc.nat(99)), { maxLength: 200 })

test('holds what a set of numbers holds', () => {
  fc.assert(
    fc.property(commands, changes => {
      const field = new Bitfield(100)
      const model = new Set<number>()
      for (const [isAdd, index] of changes) {
        const changed = isAdd ? field.add(index) : field.delete(index)
        expect(changed).toBe(model.has(index) !== isAdd)
        if (isAdd) model.add(index)
        else model.delete(index)
      }
      expect(field.count).toBe(model.size)
      expect(field.isFull).toBe(model.size === 100)
      for (let index = 0; index < 100; index += 1) expect(field.has(index)).toBe(model.has(index))
      const fromRuns = [...field.runs()].flatMap(([start, end]) =>
        Array.from({ length: end - start }, (_, n) => start + n),
      )
      expect(fromRuns).toEqual([...model].toSorted((a, b) => a - b))
      expect(new Bitfield(100, field.bytes.slice()).count).toBe(model.size)
    }),
  )
})

test('runs are apart and as long as they can be', () => {
  const field = new Bitfield(40)
  for (const index of [0, 1, 7, 8, 9, 31, 39]) field.add(index)
  expect([...field.runs()]).toEqual([
    [0, 2],
    [7, 10],
    [31, 32],
    [39, 40],
  ])
})

test.for([0, 1, 7, 8, 9, 64, 65])('a full field of %i bits is full', length => {
  const field = Bitfield.full(length)
  expect(field.isFull).toBe(true)
  expect(field.count).toBe(length)
  expect([...field.runs()]).toEqual(length === 0 ? [] : [[0, length]])
})

test('the least significant bit comes first', () => {
  const field = new Bitfield(10)
  field.add(0)
  field.add(9)
  expect([...field.bytes]).toEqual([1, 2])
})

test('bytes of the wrong length, or with bits past the end, are refused', () => {
  expect(() => new Bitfield(9, new Uint8Array(1))).toThrow(InvalidInputError)
  expect(() => new Bitfield(8, new Uint8Array(2))).toThrow(InvalidInputError)
  expect(() => new Bitfield(9, Uint8Array.of(0, 0b10))).toThrow(InvalidInputError)
  expect(new Bitfield(9, Uint8Array.of(0, 1)).count).toBe(1)
})

test('a bit outside cannot be set, and is never held', () => {
  const field = Bitfield.full(9)
  expect(() => field.add(9)).toThrow(RangeError)
  expect(() => field.add(-1)).toThrow(RangeError)
  expect(field.has(9)).toBe(false)
  expect(field.delete(9)).toBe(false)
})

test('a clone goes its own way', () => {
  const field = Bitfield.full(9)
  const clone = field.clone()
  clone.delete(3)
  expect([field.count, clone.count]).toEqual([9, 8])
})
