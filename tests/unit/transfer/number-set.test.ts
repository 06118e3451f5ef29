/** The growing bit set, against Set as the oracle. */

import fc from 'fast-check'
import { expect, test } from 'vitest'
import { NumberSet } from '../../../src/transfer/number-set.ts'

const change = fc.record({ add: fc.boolean(), number: fc.nat(300) })

test('holds what a Set would hold', () => {
  fc.assert(
    fc.property(fc.array(change), fc.nat(320), fc.nat(320), (changes, start, end) => {
      const numbers = new NumberSet()
      const oracle = new Set<number>()
      for (const { add, number } of changes) {
        const isChange = oracle.has(number) !== add
        expect(add ? numbers.add(number) : numbers.delete(number)).toBe(isChange)
        if (add) oracle.add(number)
        else oracle.delete(number)
      }
      expect(numbers.size).toBe(oracle.size)
      const visited: number[] = []
      numbers.each(start, end, number => visited.push(number))
      const inside = [...oracle].filter(number => number >= start && number < end)
      expect(visited).toEqual(inside.toSorted((a, b) => a - b))
      for (let number = 0; number <= 320; number += 1) {
        expect(numbers.has(number)).toBe(oracle.has(number))
      }
    }),
  )
})

test('lets a visitor delete what it visits', () => {
  const numbers = new NumberSet()
  for (let number = 0; number < 100; number += 1) numbers.add(number)
  numbers.each(10, 90, number => numbers.delete(number))
  expect(numbers.size).toBe(20)
})
