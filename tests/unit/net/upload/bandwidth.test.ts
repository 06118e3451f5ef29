import { multiaddr } from '@multiformats/multiaddr'
import { expect, test } from 'vitest'
import { openBandwidth } from '../../../../src/net/upload/bandwidth.ts'
import { FakeClock } from '../../../support/fake-clock.ts'

const near = [
  '/ip4/127.0.0.1/tcp/4011',
  '/ip4/192.168.1.20/tcp/4011',
  '/ip4/10.1.2.3/tcp/4011',
  '/ip6/::1/tcp/4011',
  '/ip6/fe80::1/tcp/4011',
  '/ip6/fd00::1/tcp/4011',
]
const peer = '12D3KooWGzXzCFnUTGmDkdXS4CPPzj8YRu8fSPkTkZtpJ7YhTtmE'
const far = [
  '/ip4/8.8.8.8/tcp/4011',
  '/ip6/2001:4860:4860::8888/tcp/4011',
  '/dns4/seed.example.org/tcp/4011',
  // Through a relay on the LAN: who is behind it may be anywhere.
  `/ip4/192.168.1.20/tcp/4011/p2p/${peer}/p2p-circuit`,
]

test('limits hold for the world and not for the LAN', () => {
  const bandwidth = openBandwidth(new FakeClock(), { maxUp: 100_000 })
  for (const text of near)
    expect([text, bandwidth.isLimited(multiaddr(text))]).toEqual([text, false])
  for (const text of far) expect([text, bandwidth.isLimited(multiaddr(text))]).toEqual([text, true])
})

test('limits hold for the LAN too when asked for', () => {
  const bandwidth = openBandwidth(new FakeClock(), { limitLan: true })
  for (const text of [...near, ...far]) expect(bandwidth.isLimited(multiaddr(text))).toBe(true)
})

test('has no limits unless told', () => {
  const { down, up, limitLan } = openBandwidth(new FakeClock())
  expect([down.bytesPerSecond, up.bytesPerSecond, limitLan]).toEqual([undefined, undefined, false])
  const set = openBandwidth(new FakeClock(), { maxDown: 100_000, maxUp: 200_000 })
  expect([set.down.bytesPerSecond, set.up.bytesPerSecond]).toEqual([100_000, 200_000])
})
