import { expect, test } from 'vitest'
import { hour } from '../../../../src/core/units.ts'
import {
  bannedPeersMax,
  banMs,
  longBanMs,
  openBanList,
  strikesForLongBan,
} from '../../../../src/net/swarm/ban-list.ts'
import { fakeClock } from '../../../support/fake-clock.ts'

const reason = new Error('a bad chunk')

test('keeps a peer out for an hour after one strike, and no other peer', () => {
  const clock = fakeClock()
  const bans = openBanList(clock)
  bans.strike('a', reason)
  expect(bans.banned('a')).toBe(reason)
  expect(bans.banned('b')).toBeUndefined()
  clock.advance(banMs - 1)
  expect(bans.banned('a')).toBe(reason)
  clock.advance(1)
  expect(bans.banned('a')).toBeUndefined()
})

test('remembers strikes after the ban is over: the third keeps a peer out for a day', () => {
  const clock = fakeClock()
  const bans = openBanList(clock)
  for (let strike = 0; strike < strikesForLongBan; strike += 1) {
    clock.advance(2 * hour)
    bans.strike('a', reason)
  }
  clock.advance(longBanMs - 1)
  expect(bans.banned('a')).toBe(reason)
  clock.advance(1)
  expect(bans.banned('a')).toBeUndefined()
})

test('forgets the least recent strike when there are too many', () => {
  const bans = openBanList(fakeClock())
  bans.strike('first', reason)
  bans.strike('second', reason)
  bans.strike('first', reason)
  for (let index = 0; index < bannedPeersMax - 1; index += 1) bans.strike(`peer ${index}`, reason)
  expect(bans.banned('second')).toBeUndefined()
  expect(bans.banned('first')).toBe(reason)
})
