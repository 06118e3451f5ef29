import { expect, test } from 'vitest'
import { TokenBucket } from '../../../src/core/token-bucket.ts'
import { fakeClock } from '../../support/fake-clock.ts'

test('gives the burst at once, then the rate', () => {
  const clock = fakeClock()
  const bucket = new TokenBucket(clock, { perSecond: 10, burst: 50 })
  expect(bucket.takeUpTo(40)).toBe(40)
  expect(bucket.takeUpTo(40)).toBe(10)
  expect(bucket.takeUpTo(1)).toBe(0)
  clock.advance(250)
  expect(bucket.takeUpTo(40)).toBe(2)
  clock.advance(50)
  expect(bucket.takeUpTo(40)).toBe(1)
})

test('saves no more than the burst', () => {
  const clock = fakeClock()
  const bucket = new TokenBucket(clock, { perSecond: 10, burst: 50 })
  bucket.takeUpTo(50)
  clock.advance(3_600_000)
  expect(bucket.takeUpTo(1000)).toBe(50)
})

test('is overdrawn by what cannot be split, and says when that is paid off', () => {
  const clock = fakeClock()
  const bucket = new TokenBucket(clock, { perSecond: 100, burst: 10 })
  bucket.spend(60)
  expect(bucket.waitMs).toBe(500)
  expect(bucket.takeUpTo(1)).toBe(0)
  clock.advance(490)
  expect(bucket.waitMs).toBeGreaterThan(0)
  clock.advance(10)
  expect(bucket.waitMs).toBe(0)
})

test('takes back what was not used', () => {
  const bucket = new TokenBucket(fakeClock(), { perSecond: 100, burst: 10 })
  bucket.spend(60)
  bucket.spend(-60)
  expect(bucket.takeUpTo(50)).toBe(10)
})
