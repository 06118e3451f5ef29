import { EventEmitter } from 'node:events'
import type { Socket } from 'node:net'
import { expect, test } from 'vitest'
import { openVisitors, type Visitors, visitorOf } from '../../../../../daemon/http/hub/visitors.ts'
import { MiB, second } from '../../../../../src/core/units.ts'
import { FakeClock, settle } from '../../../../support/fake-clock.ts'

const lab = '192.168.1.7'
const signal = new AbortController().signal

function open(): { clock: FakeClock; visitors: Visitors } {
  const clock = new FakeClock()
  return { clock, visitors: openVisitors({ clock }) }
}

function socketOf(remoteAddress: string): Socket {
  return Object.assign(new EventEmitter(), { remoteAddress }) as unknown as Socket
}

test.for<[string, string]>([
  ['192.168.1.7', '192.168.1.7'],
  ['::ffff:192.168.1.7', '192.168.1.7'],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
  ['2001:db8:1:2::6', '2001:db8:1:2::/64'],
  ['2001:db8::6', '2001:db8:0:0::/64'],
  ['fe80::1%eth0', 'fe80:0:0:0::/64'],
])('%s counts as %s', ([address, visitor]) => {
  expect(visitorOf(address)).toBe(visitor)
})

test.for(['127.0.0.1', '127.8.9.1', '::1', '::ffff:127.0.0.1'])(
  '%s has no limits',
  async address => {
    const { visitors } = open()
    for (let times = 0; times < 10_000; times += 1) {
      expect(visitors.asked(address)).toBe(0)
      expect(visitors.connected(socketOf(address))).toBe(true)
    }
    for (let times = 0; times < 100; times += 1) {
      await visitors.reading(address)?.allow(1024 * MiB, signal)
    }
  },
)

test('an address asks 2,000 times at once and 200 times a second, and is told when to come back', async () => {
  const { clock, visitors } = open()
  for (let times = 0; times < 2000; times += 1) expect(visitors.asked(lab)).toBe(0)
  expect(visitors.asked(lab)).toBe(1)
  // Others are not held up by it.
  expect(visitors.asked('192.168.1.8')).toBe(0)
  await clock.advance(second)
  let answered = 0
  for (let times = 0; times < 1000; times += 1) if (visitors.asked(lab) === 0) answered += 1
  expect(answered).toBe(200)
})

test('an address has 128 connections, and another one for each that it closes', () => {
  const { visitors } = open()
  const sockets = Array.from({ length: 128 }, () => socketOf(lab))
  for (const socket of sockets) expect(visitors.connected(socket)).toBe(true)
  expect(visitors.connected(socketOf(`::ffff:${lab}`))).toBe(false)
  sockets[5]?.emit('close')
  expect(visitors.connected(socketOf(lab))).toBe(true)
  expect(visitors.connected(socketOf(lab))).toBe(false)
})

test('an address reads 64 files at a time', () => {
  const { visitors } = open()
  const readings = Array.from({ length: 64 }, () => visitors.reading(lab))
  expect(readings.every(reading => reading !== undefined)).toBe(true)
  expect(visitors.reading(lab)).toBeUndefined()
  expect(visitors.reading('192.168.1.8')).toBeDefined()
  readings[0]?.[Symbol.dispose]()
  expect(visitors.reading(lab)).toBeDefined()
})

test('a machine with two addresses leaves room for others, and all of them for this machine', () => {
  const { visitors } = open()
  const greedy = (address: string): number => {
    let taken = 0
    while (visitors.reading(address) !== undefined) taken += 1
    return taken
  }
  expect(greedy(lab)).toBe(64)
  expect(greedy('2001:db8::1')).toBe(16)
  expect(greedy('192.168.1.8')).toBe(8)
  expect(greedy('192.168.1.9')).toBe(8)
  // 96 of the 128 that there are.
  expect(greedy('192.168.1.10')).toBe(0)
  expect(visitors.reading('127.0.0.1')).toBeDefined()
})

test('an address gets 256 MiB a second over all that it reads', async () => {
  const { clock, visitors } = open()
  let sent = 0
  const stop = new AbortController()
  const read = async (): Promise<void> => {
    using reading = visitors.reading(lab)
    for (;;) {
      await reading?.allow(MiB, stop.signal)
      sent += 1
    }
  }
  const readers = Array.from({ length: 4 }, () => read().catch(() => undefined))
  await settle()
  const burst = sent
  expect(burst).toBeGreaterThanOrEqual(256)
  expect(burst).toBeLessThan(264)
  for (let passed = 0; passed < 10; passed += 0.25) await clock.advance(second / 4)
  expect((sent - burst) / 10).toBeGreaterThan(0.95 * 256)
  expect((sent - burst) / 10).toBeLessThan(1.05 * 256)
  stop.abort()
  await Promise.all(readers)
})
