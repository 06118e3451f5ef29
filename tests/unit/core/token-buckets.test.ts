import { expect, test } from 'vitest'
import { openTokenBuckets } from '../../../src/core/token-buckets.ts'
import { FakeClock } from '../../support/fake-clock.ts'

test('gives the burst at once, then the rate', async () => {
  const clock = new FakeClock()
  const buckets = openTokenBuckets(clock, { perSecond: 10, burst: 50 })
  expect(buckets.take('a', 40)).toBe(40)
  expect(buckets.take('a', 40)).toBe(10)
  expect(buckets.take('a', 1)).toBe(0)
  await clock.advance(250)
  expect(buckets.take('a', 40)).toBe(2)
  await clock.advance(50)
  expect(buckets.take('a', 40)).toBe(1)
  await clock.advance(3_600_000)
  expect(buckets.take('a', 1000)).toBe(50)
})

test('names do not share', () => {
  const buckets = openTokenBuckets(new FakeClock(), { perSecond: 1, burst: 3 })
  expect(buckets.take('a', 5)).toBe(3)
  expect(buckets.take('b', 5)).toBe(3)
})

test('forgets the idlest of very many, not the busy one', () => {
  const buckets = openTokenBuckets(new FakeClock(), { perSecond: 1, burst: 3 })
  buckets.take('busy', 3)
  let taken = 0
  for (let index = 0; index < 30_000; index += 1) {
    buckets.take(`other-${index}`, 1)
    if (index % 1000 === 0) taken += buckets.take('busy', 1)
  }
  expect(taken).toBe(0)
  expect(buckets.take('other-0', 5)).toBe(3)
})
