import { randomBytes } from 'node:crypto'
import type { PeerId } from '@libp2p/interface'
import { expect, test } from 'vitest'
import { type CID, rawCid } from '../../../../src/core/cid.ts'
import { silentLog } from '../../../../src/core/log.ts'
import { hour, minute, second } from '../../../../src/core/units.ts'
import { openAnnounceLedger } from '../../../../src/net/dht/announce-ledger.ts'
import type { Sent } from '../../../../src/net/dht/announce-stream.ts'
import { kadIdOf, type Located, nearest, replication } from '../../../../src/net/dht/kad-space.ts'
import { openNetworkDb } from '../../../../src/net/network-db.ts'
import { openProviding } from '../../../../src/net/dht/providing.ts'
import { FakeClock, settle } from '../../../support/fake-clock.ts'

/** A network of servers by name; `fails` says which of them take nothing. */
class FakeNetwork {
  servers: Located<PeerId>[] = []
  readonly records = new Map<string, Set<string>>()
  fails: (server: string) => boolean = () => false
  sends = 0
  #listeners: (() => void)[] = []

  join(count: number): void {
    for (let index = 0; index < count; index += 1) {
      const name = `server ${this.servers.length}`
      const item = { toString: () => name } as PeerId
      this.servers.push({ place: kadIdOf(Buffer.from(name)), item })
      for (const listener of this.#listeners) listener()
    }
  }

  readonly dht = {
    size: () => this.servers.length,
    closest: (key: Uint8Array) => Promise.resolve(nearest(kadIdOf(key), this.servers, replication)),
    onServer: (listener: () => void) => {
      this.#listeners.push(listener)
      return () => {
        this.#listeners = this.#listeners.filter(other => other !== listener)
      }
    },
  }

  readonly sender = {
    send: (server: PeerId, keys: readonly Uint8Array[]): Promise<Sent> => {
      this.sends += 1
      const name = server.toString()
      if (this.fails(name)) return Promise.resolve({ taken: 0, error: new Error('gone') })
      for (const key of keys) {
        const hex = Buffer.from(key).toString('hex')
        this.records.set(hex, (this.records.get(hex) ?? new Set()).add(name))
      }
      return Promise.resolve({ taken: keys.length })
    },
  }

  holders(key: CID): number {
    return this.records.get(Buffer.from(key.multihash.bytes).toString('hex'))?.size ?? 0
  }
}

function keysOf(count: number): CID[] {
  return Array.from({ length: count }, () => rawCid(randomBytes(32)))
}

function open(network: FakeNetwork, keys: CID[]) {
  const clock = new FakeClock()
  const { db } = openNetworkDb({ log: silentLog, clock }, ':memory:')
  const self = { addresses: ['/ip4/192.0.2.1/tcp/1'] }
  const providing = openProviding({
    ledger: openAnnounceLedger({ db, clock }),
    dht: network.dht,
    sender: network.sender,
    providedKeys: () => keys,
    addresses: () => self.addresses,
    clock,
    log: silentLog,
  })
  return { clock, providing, self }
}

test('announces what there is at the start to the nearest servers', async () => {
  const network = new FakeNetwork()
  network.join(100)
  const keys = keysOf(3)
  const { clock, providing } = open(network, keys)
  await using _ = providing
  await clock.advance(second)
  for (const key of keys) expect(network.holders(key)).toBeGreaterThanOrEqual(replication)
  expect(providing.status()).toMatchObject({ keys: 3, due: 0 })
})

test('announces a new key within a second or two, and changes that come together at once', async () => {
  const network = new FakeNetwork()
  network.join(10)
  const keys: CID[] = []
  const { clock, providing } = open(network, keys)
  await using _ = providing
  await clock.advance(10 * minute)
  keys.push(...keysOf(50))
  for (let index = 0; index < 50; index += 1) providing.changed()
  await clock.advance(2 * second)
  for (const key of keys) expect(network.holders(key)).toBe(10)
  expect(network.sends).toBe(10)
})

test('a seeder that was alone is announced to whoever joins later', async () => {
  const network = new FakeNetwork()
  const keys = keysOf(1)
  const { clock, providing } = open(network, keys)
  await using _ = providing
  await clock.advance(hour)
  expect(providing.status().due).toBe(1)
  network.join(1)
  await clock.advance(2 * second)
  expect(network.holders(keys[0] as CID)).toBe(1)
  network.join(4)
  await clock.advance(2 * second)
  expect(network.holders(keys[0] as CID)).toBe(5)
})

test('announces each key again for as long as it is provided', async () => {
  const network = new FakeNetwork()
  network.join(5)
  const keys = keysOf(4)
  const { clock, providing } = open(network, keys)
  await using _ = providing
  await clock.advance(second)
  const dropped = keys.pop() as CID
  providing.changed()
  await clock.advance(second)
  for (let day = 0; day < 3; day += 1) {
    network.records.clear()
    await clock.advance(23 * hour)
    for (const key of keys) expect(network.holders(key)).toBe(5)
    expect(network.holders(dropped)).toBe(0)
  }
})

test('tries again soon when too few servers took a record', async () => {
  const network = new FakeNetwork()
  network.join(10)
  const keys = keysOf(1)
  network.fails = name => name !== 'server 3'
  const { clock, providing } = open(network, keys)
  await using _ = providing
  await clock.advance(30 * second)
  expect(network.holders(keys[0] as CID)).toBe(1)
  expect(network.sends).toBe(10)
  network.fails = () => false
  await clock.advance(minute)
  expect(network.holders(keys[0] as CID)).toBe(10)
  const { sends } = network
  await clock.advance(hour)
  expect(network.sends).toBe(sends)
})

test('a server that is always down does not cause rounds for it', async () => {
  const network = new FakeNetwork()
  network.join(10)
  network.fails = name => name === 'server 3'
  const { clock, providing } = open(network, keysOf(5))
  await using _ = providing
  await clock.advance(6 * hour)
  expect(network.sends).toBe(10)
})

test('announces all again under new addresses, and nothing without one', async () => {
  const network = new FakeNetwork()
  network.join(3)
  const keys = keysOf(2)
  const { clock, providing, self } = open(network, keys)
  await using _ = providing
  await clock.advance(second)
  expect(network.sends).toBe(3)
  self.addresses = []
  providing.moved()
  await clock.advance(minute)
  expect(network.sends).toBe(3)
  self.addresses = ['/ip4/192.0.2.2/tcp/1']
  providing.moved()
  await clock.advance(minute)
  expect(network.sends).toBe(6)
  providing.moved()
  await clock.advance(hour)
  expect(network.sends).toBe(6)
})

test('goes on after a lookup that failed', async () => {
  const network = new FakeNetwork()
  network.join(5)
  const { closest } = network.dht
  let failures = 2
  network.dht.closest = key => {
    failures -= 1
    return failures >= 0 ? Promise.reject(new Error('no answer')) : closest(key)
  }
  const keys = keysOf(1)
  const { clock, providing } = open(network, keys)
  await using _ = providing
  await clock.advance(5 * minute)
  expect(network.holders(keys[0] as CID)).toBe(5)
})

test('ends at once, also in the middle of a pass', async () => {
  const network = new FakeNetwork()
  network.join(5)
  const { clock, providing } = open(network, keysOf(1))
  network.sender.send = (_server, _keys, signal?: AbortSignal) =>
    new Promise((_, reject) => {
      signal?.addEventListener('abort', () => reject(signal.reason as Error))
    })
  await clock.advance(second)
  await settle()
  await expect(providing[Symbol.asyncDispose]()).resolves.toBeUndefined()
})
