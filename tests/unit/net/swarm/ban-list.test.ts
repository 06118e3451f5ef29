import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
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
  expect(bans.banned('a')).toBe(reason.message)
  expect(bans.banned('b')).toBeUndefined()
  clock.advance(banMs - 1)
  expect(bans.banned('a')).toBe(reason.message)
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
  expect(bans.banned('a')).toBe(reason.message)
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
  expect(bans.banned('first')).toBe(reason.message)
})

test('holds on to nothing but the words of a reason', async () => {
  const bans = openBanList(fakeClock())
  // An error keeps what threw it: a peer's whole channel, 35 KB for each of 10,000.
  const strike = (): WeakRef<Error> => {
    const error = new Error('a bad chunk')
    bans.strike('a', error)
    return new WeakRef(error)
  }
  const error = strike()
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  // A WeakRef keeps its target until the turn is over.
  await new Promise(resolve => setImmediate(resolve))
  collect()
  expect(error.deref()).toBeUndefined()
  expect(bans.banned('a')).toBe('a bad chunk')
})
