import type { Connection, Libp2p, PeerId } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import { beforeEach, expect, test } from 'vitest'
import type { LaneAddress } from '../../../../src/bulk/lane.ts'
import { filterFor, type Reach } from '../../../../src/net/addresses.ts'
import { laneAddressesOf } from '../../../../src/net/swarm/lane-addresses.ts'

const relay =
  '/ip4/198.18.0.9/tcp/4001/p2p/12D3KooWDCYvTy2pVmG5wA6QuYKcMiCzqy8JbJc4JKsZTCSSPiHJ/p2p-circuit'
const peer = {} as PeerId

let connections: Pick<Connection, 'direction' | 'limits' | 'remoteAddr' | 'status'>[]
let told: { text: string; isCertified: boolean }[]
let reach: Reach
beforeEach(() => {
  connections = []
  told = []
  reach = 'lan'
})

function connected(
  direction: Connection['direction'],
  address: string,
  rest: Partial<Pick<Connection, 'limits' | 'status'>> = {},
): void {
  const { limits, status = 'open' } = rest
  connections.push({ direction, limits, status, remoteAddr: multiaddr(address) })
}

function signed(...texts: string[]): void {
  told.push(...texts.map(text => ({ text, isCertified: true })))
}

function addresses(): Promise<LaneAddress[]> {
  const libp2p = {
    getConnections: () => connections,
    peerStore: {
      has: () => Promise.resolve(told.length > 0),
      get: () =>
        Promise.resolve({
          addresses: told.map(({ text, isCertified }) => ({
            multiaddr: multiaddr(text),
            isCertified,
          })),
        }),
    },
  }
  return laneAddressesOf(libp2p as unknown as Libp2p, peer, all => filterFor(reach, all))
}

test('where we reached the peer ourselves is the only place', async () => {
  connected('outbound', '/ip4/8.8.8.8/tcp/4011')
  connected('inbound', '/ip4/8.8.4.4/tcp/50001')
  signed('/ip4/1.1.1.1/tcp/4011', '/ip4/8.8.4.4/tcp/4011')
  expect(await addresses()).toEqual([{ host: '8.8.8.8', port: 4011 }])
})

test('a name that we dialled is dialled again', async () => {
  connected('outbound', '/dns4/seeder.example.org/tcp/4011')
  expect(await addresses()).toEqual([{ host: 'seeder.example.org', port: 4011 }])
})

test('when it reached us: the ports that it signed, on the machine it comes from', async () => {
  connected('inbound', '/ip4/192.168.1.7/tcp/50001')
  signed('/ip4/192.168.1.7/tcp/4011', '/ip4/192.168.1.1/tcp/80', '/ip4/127.0.0.1/tcp/4011')
  signed(
    '/ip4/192.168.1.7/tcp/4012/ws',
    '/ip4/192.168.1.7/udp/4011/quic-v1',
    '/dns4/printer/tcp/80',
  )
  told.push({ text: '/ip4/192.168.1.7/tcp/22', isCertified: false })
  expect(await addresses()).toEqual([{ host: '192.168.1.7', port: 4011 }])
})

test('a node on the public network does not go inside', async () => {
  reach = 'nat'
  connected('inbound', '/ip4/192.168.1.7/tcp/50001')
  signed('/ip4/192.168.1.7/tcp/4011')
  expect(await addresses()).toEqual([])
})

test('over WebSockets the TCP port is another: the one that was signed', async () => {
  connected('outbound', '/ip4/8.8.8.8/tcp/443/tls/ws')
  signed('/ip4/8.8.8.8/tcp/4011', '/ip4/8.8.8.8/tcp/443/tls/ws')
  expect(await addresses()).toEqual([{ host: '8.8.8.8', port: 4011 }])
})

test('behind a relay: public addresses that it signed, no name, and never the relay', async () => {
  connected('inbound', relay, { limits: { bytes: 1n } })
  connected('outbound', relay)
  signed('/ip4/192.168.1.7/tcp/4011', '/dns4/inside.example.org/tcp/80', '/ip4/8.8.8.8/tcp/4011')
  signed(relay)
  expect(await addresses()).toEqual([{ host: '8.8.8.8', port: 4011 }])
})

test('at most four, each once, and none of a connection that closes', async () => {
  connected('outbound', '/ip4/8.8.8.8/tcp/1', { status: 'closing' })
  connected('inbound', '/ip6/2606:4700::1/tcp/50001')
  signed(...[1, 1, 2, 3, 4, 5, 6].map(port => `/ip6/2606:4700::1/tcp/${port}`))
  const found = await addresses()
  expect(found.map(({ port }) => port)).toEqual([1, 2, 3, 4])
})

test('of a peer that we know nothing of, none', async () => {
  connected('inbound', '/ip4/8.8.8.8/tcp/50001')
  expect(await addresses()).toEqual([])
})
