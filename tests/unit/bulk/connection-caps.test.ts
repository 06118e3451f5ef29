import { beforeEach, expect, test } from 'vitest'
import { ConnectionCaps, sourceOf } from '../../../src/bulk/connection-caps.ts'
import { second } from '../../../src/core/units.ts'
import { FakeClock } from '../../support/fake-clock.ts'

let clock: FakeClock
let caps: ConnectionCaps
beforeEach(() => {
  clock = new FakeClock()
  caps = new ConnectionCaps(clock, { perAddressMax: 3, totalMax: 5, perAddressPerSecondMax: 4 })
})

test('holds the bound of one address and the one of all', () => {
  const enter = (address: string): boolean => caps.enter(address) !== undefined
  expect([enter('192.0.2.1'), enter('192.0.2.1'), enter('192.0.2.1')]).toEqual([true, true, true])
  expect(enter('192.0.2.1')).toBe(false)
  expect([enter('192.0.2.2'), enter('192.0.2.3')]).toEqual([true, true])
  expect(enter('192.0.2.4')).toBe(false)
  expect(caps.total).toBe(5)
})

test('a place that was given back can be taken, and is given back once', async () => {
  const leave = caps.enter('192.0.2.1')
  caps.enter('192.0.2.1')
  leave?.()
  leave?.()
  expect(caps.total).toBe(1)
  await clock.advance(second)
  expect([caps.enter('192.0.2.1'), caps.enter('192.0.2.1')].every(Boolean)).toBe(true)
  expect(caps.enter('192.0.2.1')).toBeUndefined()
})

test('an address begins so many in a second, also when it gives each back', async () => {
  for (let time = 0; time < 4; time += 1) caps.enter('192.0.2.1')?.()
  expect(caps.enter('192.0.2.1')).toBeUndefined()
  expect(caps.enter('192.0.2.2')).toBeDefined()
  await clock.advance(second - 1)
  expect(caps.enter('192.0.2.1')).toBeUndefined()
  await clock.advance(1)
  expect(caps.enter('192.0.2.1')).toBeDefined()
})

test.for([
  ['192.0.2.1', '192.0.2.1'],
  ['::ffff:192.0.2.1', '192.0.2.1'],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
  ['2001:db8:1:2::9', '2001:db8:1:2::/64'],
  ['2001:db8::9', '2001:db8:0:0::/64'],
  ['::1', '0:0:0:0::/64'],
  ['fe80::1%eth0', 'fe80:0:0:0::/64'],
] as const)('%s counts as %s', ([address, source]) => {
  expect(sourceOf(address)).toBe(source)
})
