import { generateKeyPair } from '@libp2p/crypto/keys'
import type { Libp2p, PeerInfo } from '@libp2p/interface'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import { expect, test } from 'vitest'
import { silentLog } from '../../../../src/core/log.ts'
import { minute, second } from '../../../../src/core/units.ts'
import { type Components, openLan } from '../../../../src/net/host/lan.ts'
import { FakeClock, settle } from '../../../support/fake-clock.ts'

async function aPeer(): Promise<PeerInfo> {
  const id = peerIdFromPrivateKey(await generateKeyPair('Ed25519'))
  return { id, multiaddrs: [multiaddr('/ip4/192.168.1.7/tcp/1')] }
}

/** A LAN whose multicast the test plays, and a host that notes what it dials. */
function open() {
  const clock = new FakeClock()
  const lan = openLan({ clock, log: silentLog })
  const found = lan.discovery({
    logger: { forComponent: () => () => undefined },
  } as unknown as Components)
  const dials: string[] = []
  const connected = new Set<string>()
  const libp2p = {
    getConnections: (peer: unknown) => (connected.has(String(peer)) ? [{}] : []),
    dial: (addresses: Multiaddr[]) => {
      dials.push(addresses.join(' '))
      return Promise.reject(new Error('nobody there'))
    },
  } as unknown as Libp2p
  const hear = (detail: PeerInfo): void => {
    found.dispatchEvent(new CustomEvent('peer', { detail }))
  }
  return { clock, lan, libp2p, dials, connected, hear }
}

test('dials who is heard of by the addresses that were told, and remembers them', async () => {
  const { lan, libp2p, dials, hear } = open()
  await using _ = lan
  const peer = await aPeer()
  hear(peer)
  expect(dials).toEqual([])
  lan.start(libp2p)
  await settle()
  expect(dials).toEqual([`/ip4/192.168.1.7/tcp/1/p2p/${peer.id.toString()}`])
  expect(lan.peers()).toEqual([{ peer: peer.id, addresses: peer.multiaddrs }])
})

test('dials again after a minute, not each time the peer is heard of', async () => {
  const { clock, lan, libp2p, dials, hear } = open()
  await using _ = lan
  lan.start(libp2p)
  const peer = await aPeer()
  for (let times = 0; times < 12; times += 1) {
    hear(peer)
    await clock.advance(10 * second)
  }
  expect(dials).toHaveLength(2)
})

test('leaves a connected peer alone, and forgets one not heard of for five minutes', async () => {
  const { clock, lan, libp2p, dials, connected, hear } = open()
  await using _ = lan
  lan.start(libp2p)
  const peer = await aPeer()
  connected.add(peer.id.toString())
  hear(peer)
  await settle()
  expect(dials).toEqual([])
  await clock.advance(5 * minute + 1)
  expect(lan.peers()).toEqual([])
})

test('keeps a bounded number of peers however many are claimed', async () => {
  const { lan, libp2p, hear } = open()
  await using _ = lan
  lan.start(libp2p)
  const peers = await Promise.all(Array.from({ length: 200 }, aPeer))
  for (const peer of peers) hear(peer)
  await settle()
  expect(lan.peers()).toHaveLength(64)
  expect(lan.peers().at(-1)?.peer).toBe(peers.at(-1)?.id)
})
