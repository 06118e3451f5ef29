import type { Libp2p, PeerId } from '@libp2p/interface'
import type { KadDHT } from '@libp2p/kad-dht'
import { expect, onTestFinished, test } from 'vitest'
import { silentLog } from '../../../../src/core/log.ts'
import { minute, second } from '../../../../src/core/units.ts'
import { type Dht, openDht } from '../../../../src/net/dht/dht.ts'
import type { KadTable } from '../../../../src/net/dht/dht-guard.ts'
import { replication } from '../../../../src/net/dht/kad-space.ts'
import type { ProviderRecords } from '../../../../src/net/dht/provider-records.ts'
import { FakeClock, settle } from '../../../support/fake-clock.ts'

function aPeer(name: string): PeerId {
  const bytes = Buffer.from(name)
  return {
    toString: () => name,
    toMultihash: () => ({ bytes }),
    equals: (other: PeerId) => other.toString() === name,
  } as unknown as PeerId
}

/** kad-dht's table and lookups, as far as a join sees them; `onLookup` is what the next one brings. */
class FakeKad extends EventTarget {
  readonly clock = new FakeClock()
  readonly peers: PeerId[] = []
  /** When each lookup began. */
  readonly lookupsAtMs: number[] = []
  onLookup: () => void = () => undefined
  readonly #startedMs = this.clock.now()

  readonly table = {
    closestPeers: () => [...this.peers],
    addEventListener: this.addEventListener.bind(this),
  } as unknown as KadTable

  readonly kad = { getClosestPeers: () => this.#lookUp() } as unknown as KadDHT

  /** kad-dht tells of a peer after it wrote it down, so of several they may all be there by then. */
  add(...names: string[]): void {
    const added = names.map(aPeer)
    this.peers.push(...added)
    for (const detail of added) this.dispatchEvent(new CustomEvent('peer:add', { detail }))
  }

  removeAll(): void {
    for (const detail of this.peers.splice(0)) {
      this.dispatchEvent(new CustomEvent('peer:remove', { detail }))
    }
  }

  open(): Dht {
    const dht = openDht({
      libp2p: { peerId: aPeer('self') } as unknown as Libp2p,
      kad: this.kad,
      table: this.table,
      records: { sweep: () => undefined } as unknown as ProviderRecords,
      clock: this.clock,
      log: silentLog,
    })
    onTestFinished(() => dht[Symbol.asyncDispose]())
    return dht
  }

  // oxlint-disable-next-line require-yield -- a lookup that nobody answers
  async *#lookUp(): AsyncGenerator<never> {
    this.lookupsAtMs.push(this.clock.now() - this.#startedMs)
    this.onLookup()
  }
}

test('a join that brings nobody is tried again, soon at first, until it is the turn of kad-dht', async () => {
  const net = new FakeKad()
  net.open()
  net.add('first')
  await net.clock.advance(10 * minute)
  expect(net.lookupsAtMs.map(ms => ms / second)).toEqual([0, 2, 6, 14, 30, 62, 126, 254])
})

test('a join ends with a bucketful of servers', async () => {
  const net = new FakeKad()
  net.open()
  const others = Array.from({ length: replication - 1 }, (_, index) => `server ${index}`)
  net.onLookup = () => {
    if (net.lookupsAtMs.length === 2) net.add(...others)
  }
  net.add('first')
  await net.clock.advance(4 * minute)
  expect(net.lookupsAtMs).toEqual([0, 2 * second])
})

test('two first servers that come at once are joined through', async () => {
  const net = new FakeKad()
  net.open()
  net.add('first', 'second')
  await settle()
  expect(net.lookupsAtMs).toEqual([0])
})

test('servers that the table had before anybody listened are joined through', async () => {
  const net = new FakeKad()
  net.add('of the last run', 'another')
  net.open()
  await settle()
  expect(net.lookupsAtMs).toEqual([0])
})

test('a node that was left alone joins anew through the next server, at once', async () => {
  const net = new FakeKad()
  net.open()
  net.add('first')
  await net.clock.advance(20 * second)
  const before = net.lookupsAtMs.length
  net.removeAll()
  net.add('next')
  await settle()
  expect(net.lookupsAtMs.slice(before)).toEqual([20 * second])
  await net.clock.advance(2 * second)
  expect(net.lookupsAtMs.slice(before)).toEqual([20 * second, 22 * second])
})

test('closing ends a join that is under way', async () => {
  const net = new FakeKad()
  const dht = net.open()
  net.add('first')
  await net.clock.advance(second)
  await dht[Symbol.asyncDispose]()
  await net.clock.advance(minute)
  expect(net.lookupsAtMs).toEqual([0])
  expect(net.clock.sleepers).toBe(0)
})
