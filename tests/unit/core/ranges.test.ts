import fc from 'fast-check'
import { expect, test } from 'vitest'
import { intersect, lengthOf, normalize, type Range, subtract } from '../../../src/core/ranges.ts'

const anyRanges: fc.Arbitrary<Range[]> = fc.array(
  fc.tuple(fc.nat(60), fc.nat(60)).map(([a, b]): Range => [a, b]),
  { maxLength: 12 },
)

function numbersOf(ranges: readonly Range[]): Set<number> {
  return new Set(
    ranges.flatMap(([start, end]) =>
      Array.from({ length: Math.max(0, end - start) }, (_, index) => start + index),
    ),
  )
}

function expectNormal(ranges: readonly Range[]): void {
  for (const [index, [start, end]] of ranges.entries()) {
    expect(start).toBeLessThan(end)
    expect(start).toBeGreaterThan(ranges[index - 1]?.[1] ?? -1)
  }
}

test('operations on ranges are those on the sets of their numbers', () => {
  fc.assert(
    fc.property(anyRanges, anyRanges, (a, b) => {
      const [left, right] = [normalize(a), normalize(b)]
      const [inA, inB] = [numbersOf(a), numbersOf(b)]
      for (const [result, expected] of [
        [left, inA],
        [normalize([...a, ...b]), inA.union(inB)],
        [intersect(left, right), inA.intersection(inB)],
        [subtract(left, right), inA.difference(inB)],
      ] as const) {
        expectNormal(result)
        expect(numbersOf(result)).toEqual(expected)
        expect(lengthOf(result)).toBe(expected.size)
      }
    }),
    { numRuns: 500 },
  )
})

test('offsets above 2^32 are kept', () => {
  const far = 2 ** 44
  expect(
    normalize([
      [far, far + 2],
      [far + 2, far + 3],
    ]),
  ).toEqual([[far, far + 3]])
  expect(lengthOf([[0, far]])).toBe(far)
})
