/** What is measured of a source, and what follows from it. */

import { expect, test } from 'vitest'
import { KiB, MiB, minute, second } from '../../../src/core/units.ts'
import { type Ask, noBlame, Score } from '../../../src/transfer/scoreboard.ts'

/** Keeps the pipe as full as it may be over a link of this rate and delay; returns the last time. */
function drive(score: Score, link: { bytesPerMs: number; delayMs: number; forMs: number }): number {
  const flying: { ask: Ask; atMs: number }[] = []
  let nowMs = 1
  let freeAtMs = 0
  while (nowMs < link.forMs) {
    while (score.hasRoom(nowMs)) {
      freeAtMs = Math.max(freeAtMs, nowMs + link.delayMs / 2) + MiB / link.bytesPerMs
      flying.push({ ask: score.asked(MiB, nowMs), atMs: freeAtMs + link.delayMs / 2 })
    }
    const next = flying.shift()
    if (next === undefined) break
    nowMs = Math.max(nowMs, next.atMs)
    score.arrived(next.ask, nowMs)
  }
  return nowMs
}

test('asks four chunks of a source it knows nothing of', () => {
  const score = new Score(noBlame())
  let asked = 0
  for (; score.hasRoom(0); asked += 1) score.asked(MiB, 0)
  expect(asked).toBe(4)
})

test('asks only a few small chunks before the first answer', () => {
  const score = new Score(noBlame(), 64)
  let asked = 0
  for (; score.hasRoom(0); asked += 1) score.asked(4 * KiB, 0)
  expect(asked).toBe(16)
})

test('grows to twice the product of rate and delay, and no further', () => {
  const score = new Score(noBlame(), 1000)
  drive(score, { bytesPerMs: 50_000, delayMs: 200, forMs: 20 * second })
  // 50 MB/s at 200 ms, and the time of the chunk itself.
  const product = 50_000 * (200 + MiB / 50_000)
  expect(score.rate).toBeGreaterThan(0.9 * 50_000 * second)
  expect(score.windowBytes).toBeGreaterThan(1.8 * product)
  expect(score.windowBytes).toBeLessThan(2.4 * product)
})

test('does not take a full pipe for a long way, minutes on', () => {
  const score = new Score(noBlame(), 1000)
  drive(score, { bytesPerMs: 20_000, delayMs: 100, forMs: 5 * minute })
  const product = 20_000 * (100 + MiB / 20_000)
  expect(score.windowBytes).toBeLessThan(2.6 * product)
})

test('keeps no more than 64 MiB in flight at one source', () => {
  const score = new Score(noBlame(), 1000)
  drive(score, { bytesPerMs: 1_000_000, delayMs: 500, forMs: 20 * second })
  expect(score.windowBytes).toBe(64 * MiB)
})

test('asks no more at a time than the source takes', () => {
  const score = new Score(noBlame(), 3)
  for (let asked = 0; asked < 3; asked += 1) score.asked(KiB, 0)
  expect(score.hasRoom(0)).toBe(false)
})

test('waits five seconds at least, and four times what an answer should take', () => {
  const score = new Score(noBlame())
  expect(score.asked(MiB, 0).deadlineMs).toBe(5 * second)
  const slow = new Score(noBlame())
  slow.arrived(slow.asked(MiB, 0), 8 * second)
  const { deadlineMs } = slow.asked(MiB, 8 * second)
  // 8 s for the bytes at the measured rate and 8 s of latency, times four.
  expect(deadlineMs).toBe(8 * second + 4 * 16 * second)
})

test('asks one chunk at a time of a snubbed source, until it answers', () => {
  const score = new Score(noBlame())
  const ask = score.asked(MiB, 0)
  score.snub()
  expect(score.hasRoom(6 * second)).toBe(false)
  score.arrived(ask, 7 * second)
  expect(score.isSnubbed).toBe(false)
  expect(score.hasRoom(7 * second)).toBe(true)
})

test('calls a source stalled after 20 s and the time of a chunk at 16 KiB/s', () => {
  const score = new Score(noBlame())
  const ask = score.asked(MiB, 0)
  expect(score.isStalled(ask, 83 * second)).toBe(false)
  expect(score.isStalled(ask, 85 * second)).toBe(true)
})

test('leaves a source alone for longer each time it stalls', () => {
  const score = new Score(noBlame())
  score.pause(0)
  expect(score.isOut(29 * second)).toBe(true)
  expect(score.isOut(31 * second)).toBe(false)
  score.pause(31 * second)
  expect(score.isOut(90 * second)).toBe(true)
})

test('ignores the claims of a source for an hour after three that were not served', () => {
  const score = new Score(noBlame())
  expect([1, 2, 3].map(() => score.brokeClaim(0))).toEqual([false, false, true])
  expect(score.isOut(59 * minute)).toBe(true)
  expect(score.isOut(61 * minute)).toBe(false)
})

test('forgives a broken claim for each one kept', () => {
  const score = new Score(noBlame())
  score.brokeClaim(0)
  score.brokeClaim(0)
  score.keptClaim()
  expect(score.brokeClaim(0)).toBe(false)
})

test('remembers blame over a reconnect', () => {
  const blame = noBlame()
  new Score(blame).brokeClaim(0)
  new Score(blame).brokeClaim(0)
  expect(new Score(blame).brokeClaim(0)).toBe(true)
})
