import { randomBytes } from 'node:crypto'
import { expect, test } from 'vitest'
import { silentLog } from '../../../../src/core/log.ts'
import { hour, minute } from '../../../../src/core/units.ts'
import { announceIntervalMs, openAnnounceLedger } from '../../../../src/net/dht/announce-ledger.ts'
import { openNetworkDb } from '../../../../src/net/network-db.ts'
import { FakeClock } from '../../../support/fake-clock.ts'
import { cpuMs } from '../../../support/cpu-time.ts'

const all = 1_000_000

function open() {
  const clock = new FakeClock()
  const { db } = openNetworkDb({ log: silentLog, clock }, ':memory:')
  return { clock, db, ledger: openAnnounceLedger({ db, clock }) }
}

function keysOf(count: number): Uint8Array[] {
  return Array.from({ length: count }, () => randomBytes(34))
}

const hex = (keys: readonly Uint8Array[]): string[] =>
  keys.map(key => Buffer.from(key).toString('hex')).sort()

test('new keys are due at once, gone ones are forgotten', () => {
  const { ledger } = open()
  const [a, b, c] = keysOf(3) as [Uint8Array, Uint8Array, Uint8Array]
  expect(ledger.sync([a, b, b])).toEqual({ added: 2, dropped: 0 })
  expect(hex(ledger.due(all))).toEqual(hex([a, b]))
  ledger.announced(a, 20)
  expect(ledger.sync([a, c])).toEqual({ added: 1, dropped: 1 })
  expect(hex(ledger.due(all))).toEqual(hex([c]))
  expect(ledger.has(a)).toBe(true)
  expect(ledger.has(b)).toBe(false)
})

test('a key comes due again after 18 to 22 hours, and all of them before a record expires', async () => {
  const { ledger, clock } = open()
  const keys = keysOf(1000)
  ledger.sync(keys)
  for (const key of keys) ledger.announced(key, 20)
  await clock.advance(17.5 * hour)
  expect(ledger.due(all)).toEqual([])
  await clock.advance(2.5 * hour)
  expect(ledger.due(all).length).toBeGreaterThan(300)
  expect(ledger.due(all).length).toBeLessThan(700)
  await clock.advance(2 * hour)
  expect(ledger.due(all)).toHaveLength(1000)
})

test('takes what is overdue after a long stop, and only that', async () => {
  const { db, ledger, clock } = open()
  const [old, fresh] = keysOf(2) as [Uint8Array, Uint8Array]
  ledger.sync([old, fresh])
  ledger.announced(old, 20)
  await clock.advance(30 * hour)
  ledger.announced(fresh, 20)
  const later = openAnnounceLedger({ db, clock })
  later.sync([old, fresh])
  expect(hex(later.due(all))).toEqual(hex([old]))
})

test('a failure is tried again after 1, 2, 4 … minutes, and forgotten by a success', async () => {
  const { ledger, clock } = open()
  const [key] = keysOf(1) as [Uint8Array]
  ledger.sync([key])
  const waits: number[] = []
  for (let failures = 0; failures < 4; failures += 1) {
    ledger.failed(key, 0)
    waits.push(((ledger.nextDueMs() ?? 0) - clock.now()) / minute)
    await clock.advance((waits.at(-1) ?? 0) * minute)
  }
  expect(waits).toEqual([1, 2, 4, 8])
  ledger.announced(key, 20)
  ledger.failed(key, 0)
  expect(((ledger.nextDueMs() ?? 0) - clock.now()) / minute).toBe(1)
})

test('retries never come later than the next round', () => {
  const { ledger, clock } = open()
  const [key] = keysOf(1) as [Uint8Array]
  ledger.sync([key])
  for (let failures = 0; failures < 60; failures += 1) ledger.failed(key, 0)
  expect((ledger.nextDueMs() ?? 0) - clock.now()).toBe(announceIntervalMs)
})

test('the newest key is announced before the backlog', async () => {
  const { ledger, clock } = open()
  const backlog = keysOf(100)
  ledger.sync(backlog)
  await clock.advance(minute)
  const [newest] = keysOf(1) as [Uint8Array]
  ledger.sync([...backlog, newest])
  expect(hex(ledger.due(1))).toEqual(hex([newest]))
})

test('a network that grew much makes keys with few holders due, one that grew little does not', () => {
  const { ledger } = open()
  const [lonely, held] = keysOf(2) as [Uint8Array, Uint8Array]
  ledger.sync([lonely, held])
  ledger.announced(lonely, 1)
  ledger.announced(held, 20)
  expect(ledger.grown(1)).toBe(0)
  expect(ledger.grown(2)).toBe(1)
  expect(hex(ledger.due(all))).toEqual(hex([lonely]))
  ledger.announced(lonely, 12)
  expect(ledger.grown(15)).toBe(0)
  expect(ledger.grown(500)).toBe(1)
  ledger.announced(lonely, 20)
  expect(ledger.grown(500)).toBe(0)
})

test('other addresses make every key due, the same ones none', () => {
  const { db, clock, ledger } = open()
  const keys = keysOf(3)
  ledger.sync(keys)
  expect(ledger.describe(['/ip4/192.0.2.1/tcp/1'])).toBe(true)
  for (const key of keys) ledger.announced(key, 20)
  expect(ledger.describe(['/ip4/192.0.2.1/tcp/1'])).toBe(false)
  const restarted = openAnnounceLedger({ db, clock })
  expect(restarted.describe(['/ip4/192.0.2.1/tcp/1'])).toBe(false)
  expect(restarted.due(all)).toEqual([])
  expect(restarted.describe(['/ip4/192.0.2.1/tcp/2'])).toBe(true)
  expect(restarted.due(all)).toHaveLength(3)
})

test('an address that is gone, or comes and goes, makes nothing due', () => {
  const { ledger } = open()
  const [key] = keysOf(1) as [Uint8Array]
  ledger.sync([key])
  expect(ledger.describe(['/ip4/192.0.2.1/tcp/1', '/ip4/192.0.2.2/tcp/1'])).toBe(true)
  ledger.announced(key, 20)
  expect(ledger.describe(['/ip4/192.0.2.2/tcp/1'])).toBe(false)
  expect(ledger.describe([])).toBe(false)
  expect(ledger.describe(['/ip4/192.0.2.2/tcp/1', '/ip4/192.0.2.1/tcp/1'])).toBe(false)
  expect(ledger.due(all)).toEqual([])
})

test('a clock that was once wrong does not silence a key', () => {
  const { ledger, clock } = open()
  const [key] = keysOf(1) as [Uint8Array]
  ledger.sync([key])
  const right = clock.now()
  clock.jump(right + 10_000 * hour)
  ledger.announced(key, 20)
  clock.jump(right)
  expect(ledger.nextDueMs()).toBeLessThanOrEqual(clock.now())
  expect(ledger.due(all)).toHaveLength(1)
})

test('says how much is announced and due', () => {
  const { ledger, clock } = open()
  expect(ledger.status()).toEqual({ keys: 0, due: 0, lastAtMs: undefined })
  const [a, b] = keysOf(2) as [Uint8Array, Uint8Array]
  ledger.sync([a, b])
  ledger.announced(a, 20)
  expect(ledger.status()).toEqual({ keys: 2, due: 1, lastAtMs: clock.now() })
})

test('syncs 30,000 keys in well under a second', () => {
  const { ledger } = open()
  const keys = keysOf(30_000)
  const startedMs = cpuMs()
  ledger.sync(keys)
  ledger.sync(keys)
  expect(cpuMs() - startedMs).toBeLessThan(3000)
})

test('says that the disk is full when it is, and works again afterwards', () => {
  const { db, ledger } = open()
  const { page_count: pages } = db.prepare('PRAGMA page_count').get() as { page_count: number }
  db.exec(`PRAGMA max_page_count = ${pages}`)
  const keys = keysOf(1000)
  expect(() => ledger.sync(keys)).toThrow(/full/)
  expect(ledger.due(all)).toEqual([])
  db.exec('PRAGMA max_page_count = 100000')
  expect(ledger.sync(keys)).toEqual({ added: 1000, dropped: 0 })
})
