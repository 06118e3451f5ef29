import { expect, test } from 'vitest'
import { backoffMs, hubPatience, patienceMsMax } from '../../../src/hub/patience.ts'

test.for([
  ['nothing is said', {}, undefined],
  ['a limit with nothing left', { ratelimit: '"resolvers";r=0;t=55' }, 56_000],
  ['a limit with something left', { ratelimit: '"resolvers";r=12;t=55' }, undefined],
  ['the one of two that is used up', { ratelimit: '"api";r=9;t=10, "resolvers";r=0;t=20' }, 21_000],
  ['the longer of two', { ratelimit: '"api";r=0;t=30,"resolvers";r=0;t=20' }, 31_000],
  ['a Retry-After in seconds', { 'retry-after': '7' }, 7000],
  ['the longer of both', { 'retry-after': '90', ratelimit: '"api";r=0;t=30' }, 90_000],
  ['a date', { 'retry-after': 'Thu, 01 Jan 1970 00:00:10 GMT' }, 9000],
  ['a wait without end', { ratelimit: '"api";r=0;t=999999999' }, patienceMsMax],
  ['nonsense', { ratelimit: 'r=0', 'retry-after': 'soon' }, undefined],
  ['r=0 that is another number', { ratelimit: '"api";r=01x;t=5' }, undefined],
] as const)('%s', ([, headers, expected]) => {
  expect(hubPatience(headers, 1000)).toBe(expected)
})

test('waits longer after each failure, and never more than half a minute', () => {
  expect([0, 1, 2, 3, 4, 5, 50].map(backoffMs)).toEqual([
    1000, 2000, 4000, 8000, 16_000, 30_000, 30_000,
  ])
})
