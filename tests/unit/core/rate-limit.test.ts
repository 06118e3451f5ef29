import { expect, test } from 'vitest'
import { InvalidInputError } from '../../../src/core/errors.ts'
import { parseRate, RateLimit } from '../../../src/core/rate-limit.ts'
import { KiB, MiB, second } from '../../../src/core/units.ts'
import { FakeClock, settle } from '../../support/fake-clock.ts'

const signal = new AbortController().signal

/** Takes `bytes` again and again, for ever; counts. */
function taker(limit: RateLimit, bytes: number, until = signal): { bytes: number } {
  const taken = { bytes: 0 }
  const run = async (): Promise<void> => {
    for (;;) {
      await limit.take(bytes, until)
      taken.bytes += bytes
    }
  }
  run().catch(() => undefined)
  return taken
}

/** How far off, as a part of what was wanted. */
const errorOf = (bytes: number, wanted: number): number => Math.abs(bytes / wanted - 1)

test.for([
  ['the least', 16 * KiB, KiB],
  ['a phone', 500_000, 10 * KiB],
  ['a home', 10 * MiB, 256 * KiB],
  ['a data centre', 200 * MiB, MiB],
] as const)('is exact to 5 %% over 10 s: %s', async ([, rate, piece]) => {
  const clock = new FakeClock()
  const limit = new RateLimit(clock, rate)
  // The bucket is full, as after a pause: the worst case.
  await clock.advance(second)
  const taken = taker(limit, piece)
  await clock.advance(10 * second)
  expect(errorOf(taken.bytes, 10 * rate)).toBeLessThan(0.05)
  const before = taken.bytes
  await clock.advance(10 * second)
  expect(errorOf(taken.bytes - before, 10 * rate)).toBeLessThan(0.05)
})

test('is exact when timers come late', async () => {
  const clock = new FakeClock()
  let late = 0
  const limit = new RateLimit(
    {
      now: () => clock.now(),
      monotonic: () => clock.monotonic(),
      sleep: (ms, stop) => clock.sleep(ms + (late++ % 5) * 40, stop),
    },
    10 * MiB,
  )
  const taken = taker(limit, 64 * KiB)
  await clock.advance(10 * second)
  expect(errorOf(taken.bytes, 100 * MiB)).toBeLessThan(0.05)
})

test('holds over all who share it, each getting the same', async () => {
  const clock = new FakeClock()
  const limit = new RateLimit(clock, MiB)
  const takers = Array.from({ length: 5 }, () => taker(limit, 16 * KiB))
  await clock.advance(10 * second)
  const sum = takers.reduce((total, { bytes }) => total + bytes, 0)
  expect(errorOf(sum, 10 * MiB)).toBeLessThan(0.05)
  for (const { bytes } of takers) expect(errorOf(bytes, 2 * MiB)).toBeLessThan(0.05)
})

test('lets everything pass at once without a limit', async () => {
  const limit = new RateLimit(new FakeClock())
  for (let turn = 0; turn < 1000; turn += 1) await limit.take(MiB, signal)
  expect(limit.isOpen).toBe(true)
})

test('a change holds at once, for those who wait too', async () => {
  const clock = new FakeClock()
  const limit = new RateLimit(clock, 16 * KiB)
  const taken = taker(limit, 256 * KiB)
  await clock.advance(second)
  // Sixteen seconds in debt; the new rate does not wait for that.
  limit.set(MiB)
  const before = taken.bytes
  await clock.advance(10 * second)
  expect(errorOf(taken.bytes - before, 10 * MiB)).toBeLessThan(0.05)
  limit.set(100 * KiB)
  const between = taken.bytes
  await clock.advance(20 * second)
  // One piece more may have passed in the moment of the change.
  expect(errorOf(taken.bytes - between, 2000 * KiB)).toBeLessThan(0.15)
})

test('turning the limit off wakes everybody', async () => {
  const clock = new FakeClock()
  const limit = new RateLimit(clock, 16 * KiB)
  limit.spend(100 * MiB)
  const taken = Promise.all([1, 2, 3].map(() => limit.take(MiB, signal)))
  await settle()
  limit.set(undefined)
  await expect(taken).resolves.toHaveLength(3)
})

test('whoever leaves gives its place to the next, and leaves no timer behind', async () => {
  const clock = new FakeClock()
  let sleeping = 0
  const limit = new RateLimit(
    {
      now: () => clock.now(),
      monotonic: () => clock.monotonic(),
      sleep: async (ms, stop) => {
        sleeping += 1
        await clock.sleep(ms, stop).finally(() => (sleeping -= 1))
      },
    },
    MiB,
  )
  limit.spend(MiB)
  const leaving = new AbortController()
  const first = limit.take(MiB, leaving.signal)
  const next = limit.take(MiB, leaving.signal)
  let hasPassed = false
  const last = limit.take(KiB, signal).then(() => (hasPassed = true))
  leaving.abort(new Error('gone'))
  await expect(first).rejects.toThrow('gone')
  await expect(next).rejects.toThrow('gone')
  await clock.advance(1001)
  expect(hasPassed).toBe(true)
  await last
  limit.spend(MiB)
  const leave = limit.whenOpen(() => undefined)
  await settle()
  expect(sleeping).toBe(1)
  leave()
  await settle()
  expect(sleeping).toBe(0)
  await expect(limit.take(1, AbortSignal.abort(new Error('late')))).rejects.toThrow('late')
})

test('is closed to whoever comes while others wait, and open to the one whose turn it is', async () => {
  const clock = new FakeClock()
  const limit = new RateLimit(clock, MiB)
  limit.spend(KiB)
  const seen: string[] = []
  const use = (name: string) => (): void => {
    seen.push(`${name} ${limit.isOpen}`)
    limit.spend(KiB)
    seen.push(`${name} then ${limit.isOpen}`)
  }
  limit.whenOpen(use('a'))
  limit.whenOpen(use('b'))
  await clock.advance(1)
  expect(seen).toEqual(['a true', 'a then false'])
  expect(limit.isOpen).toBe(false)
  await clock.advance(2)
  expect(seen.slice(2)).toEqual(['b true', 'b then false'])
})

test.for([
  ['10MiB', 10 * MiB],
  ['10 MiB/s', 10 * MiB],
  ['500KB', 500_000],
  ['200000', 200_000],
  ['off', null],
] as const)('%s is a rate', ([text, rate]) => {
  expect(parseRate(text)).toBe(rate)
})

test.for(['0', '15KiB', '10Mbit', 'fast', '', '-1MiB', 'off/s'])('%o is no rate', text => {
  expect(() => parseRate(text)).toThrow(InvalidInputError)
})
