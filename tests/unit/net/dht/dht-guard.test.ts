import { generateKeyPair } from '@libp2p/crypto/keys'
import { identify } from '@libp2p/identify'
import { type PeerId, peerRoutingSymbol, type PeerStore } from '@libp2p/interface'
import { kadDHT, type KadDHT } from '@libp2p/kad-dht'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { ping } from '@libp2p/ping'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { expect, test } from 'vitest'
import { second } from '../../../../src/core/units.ts'
import { guardDht, internalsOf, tablePeersPerGroupMax } from '../../../../src/net/dht/dht-guard.ts'
import { FakeClock, settle } from '../../../support/fake-clock.ts'

async function newPeer(): Promise<PeerId> {
  return peerIdFromPrivateKey(await generateKeyPair('Ed25519'))
}

/** kad-dht's insides with a table that takes whoever is added, and a peer store that knows addresses. */
async function openFake() {
  const self = await newPeer()
  const members: PeerId[] = []
  const addresses = new Map<string, string>()
  const clock = new FakeClock()
  const walks: number[] = []
  const kad = {
    rpc: { handleMessage: () => Promise.resolve(undefined) },
    peerRouting: { getClosestPeersOffline: () => Promise.resolve([]) },
    routingTable: {
      get size() {
        return members.length
      },
      add: (peer: PeerId) => {
        members.push(peer)
        return Promise.resolve()
      },
      remove: () => Promise.resolve(),
      closestPeers: () => members,
    },
    [peerRoutingSymbol]: {
      // eslint-disable-next-line require-yield
      async *getClosestPeers() {
        walks.push(clock.monotonic())
        await Promise.resolve()
      },
    },
  }
  const peerStore = {
    has: (peer: PeerId) => Promise.resolve(addresses.has(peer.toString())),
    get: (peer: PeerId) => {
      const address = { multiaddr: multiaddr(addresses.get(peer.toString()) ?? '') }
      return Promise.resolve({ addresses: [address] })
    },
  } as unknown as PeerStore
  const table = guardDht(kad as unknown as KadDHT, {
    self,
    peerStore,
    records: { add: () => 'stored', get: () => [], sweep: () => 0, size: () => 0 },
    clock,
    provides: () => false,
    ownAddresses: () => [],
    shareable: all => all,
  })
  const join = async (address: string): Promise<void> => {
    const peer = await newPeer()
    addresses.set(peer.toString(), address)
    await table.add(peer)
  }
  return { kad, table, join, members, clock, walks }
}

test('kad-dht still has inside what the guard holds on to', async () => {
  const libp2p = await createLibp2p({
    start: false,
    services: { identify: identify(), ping: ping(), dht: kadDHT({ protocol: '/test/kad/1.0.0' }) },
  })
  const { dht } = libp2p.services
  const inside = internalsOf(dht)
  expect(inside.routingTable.size).toBe(0)
  // A stream must still go through the method that the guard replaces.
  const onStream = (inside.rpc as unknown as { onIncomingStream: () => void }).onIncomingStream
  expect(onStream.toString()).toContain('this.handleMessage(')
})

test('another kad-dht is refused rather than run without its guard', () => {
  expect(() => internalsOf({} as KadDHT)).toThrow(/kad-dht has changed/)
})

test('one network gets few places in the table once there are others to fill it', async () => {
  const { join, members } = await openFake()
  for (let index = 0; index < 30; index += 1) await join(`/ip4/8.8.${index}.1/tcp/1`)
  expect(members).toHaveLength(30)
  for (let index = 0; index < 10; index += 1) await join(`/ip4/9.9.9.${index}/tcp/1`)
  expect(members).toHaveLength(30 + tablePeersPerGroupMax)
  for (let index = 0; index < 10; index += 1) await join(`/ip6/2a00:1450:1::${index}/tcp/1`)
  expect(members).toHaveLength(30 + 2 * tablePeersPerGroupMax)
})

test('ten machines of one library find each other, and a LAN has no groups', async () => {
  const { join, members } = await openFake()
  for (let index = 0; index < 10; index += 1) await join(`/ip4/9.9.9.${index}/tcp/1`)
  expect(members).toHaveLength(10)
  for (let index = 0; index < 40; index += 1) await join(`/ip4/192.168.1.${index}/tcp/1`)
  expect(members).toHaveLength(50)
})

test('random walks are taken one in half a minute, however fast each ends', async () => {
  const { kad, clock, walks } = await openFake()
  const stop = new AbortController()
  const walking = (async () => {
    for (;;) {
      for await (const _ of kad[peerRoutingSymbol].getClosestPeers.call(
        undefined,
        ...([new Uint8Array(), { signal: stop.signal }] as unknown as []),
      ));
    }
  })().catch((error: unknown) => error)
  await settle()
  expect(walks).toHaveLength(0)
  for (let half = 0; half < 4; half += 1) await clock.advance(30 * second)
  expect(walks).toHaveLength(4)
  stop.abort()
  expect(await walking).toBeInstanceOf(DOMException)
})
