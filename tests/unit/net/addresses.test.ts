import { multiaddr } from '@multiformats/multiaddr'
import { expect, test } from 'vitest'
import { InvalidInputError } from '../../../src/core/errors.ts'
import {
  addressGroup,
  decodeAddresses,
  filterFor,
  isPublic,
  parseAddress,
  parsePeerAddress,
  peerOf,
  reachOf,
} from '../../../src/net/addresses.ts'

const peer = '12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8'
const relay = '12D3KooWCxKzG5EwxT1r9DFcTCsXw1TyeCcuYbnzJ8rQYzfXjReK'

test.for([
  ['/ip4/203.0.113.9/tcp/4011', false],
  ['/ip4/8.8.8.8/tcp/4011', true],
  ['/ip4/127.0.0.1/tcp/4011', false],
  ['/ip4/10.1.2.3/tcp/4011', false],
  ['/ip4/172.16.0.1/tcp/4011', false],
  ['/ip4/192.168.1.7/tcp/4011/ws', false],
  ['/ip4/169.254.3.4/tcp/4011', false],
  ['/ip4/100.64.0.1/tcp/4011', false],
  ['/ip4/0.0.0.0/tcp/4011', false],
  ['/ip6/::1/tcp/4011', false],
  ['/ip6/fe80::1/tcp/4011', false],
  ['/ip6/fd12:3456::1/tcp/4011', false],
  ['/ip6/2a00:1450:4001::1/tcp/4011', true],
  ['/ip6/::ffff:192.168.1.7/tcp/4011', false],
  ['/dns4/node.example.org/tcp/4011', true],
  ['/dns4/localhost/tcp/4011', false],
  ['/dns4/nas/tcp/4011', false],
  ['/dns4/nas.local/tcp/4011', false],
  ['/dns4/nas.home.arpa/tcp/4011', false],
  ['/unix/tmp%2Fsocket', false],
] as const)('%s is public: %s', ([text, expected]) => {
  expect(isPublic(multiaddr(text))).toBe(expected)
})

test('tells only public addresses, except on a LAN', () => {
  const addresses = ['/ip4/192.168.1.7/tcp/1', '/ip4/8.8.8.8/tcp/1'].map(text => multiaddr(text))
  expect(filterFor('public', addresses).map(String)).toEqual(['/ip4/8.8.8.8/tcp/1'])
  expect(filterFor('nat', addresses).map(String)).toEqual(['/ip4/8.8.8.8/tcp/1'])
  expect(filterFor('lan', addresses)).toHaveLength(2)
})

test('a relayed address does not make a node reachable', () => {
  const direct = multiaddr('/ip4/8.8.8.8/tcp/1')
  const relayed = multiaddr(`/ip4/8.8.8.8/tcp/1/p2p/${relay}/p2p-circuit`)
  const facts = { network: 'auto', seenPublic: true } as const
  expect(reachOf({ ...facts, own: [direct] })).toBe('public')
  expect(reachOf({ ...facts, own: [relayed] })).toBe('nat')
})

test('works the reach out, and believes the operator', () => {
  const home = [multiaddr('/ip4/192.168.1.7/tcp/1')]
  const open = [multiaddr('/ip4/8.8.8.8/tcp/1')]
  expect(reachOf({ network: 'auto', own: home, seenPublic: false })).toBe('lan')
  expect(reachOf({ network: 'auto', own: home, seenPublic: true })).toBe('nat')
  expect(reachOf({ network: 'public', own: home, seenPublic: false })).toBe('nat')
  expect(reachOf({ network: 'lan', own: open, seenPublic: true })).toBe('lan')
})

test('groups addresses by the network one operator has', () => {
  const group = (text: string): string | undefined => addressGroup(multiaddr(text))
  expect(group('/ip4/8.8.8.8/tcp/1')).toBe(group('/ip4/8.8.8.200/tcp/9'))
  expect(group('/ip4/8.8.8.8/tcp/1')).not.toBe(group('/ip4/8.8.9.8/tcp/1'))
  expect(group('/ip6/2a00:1450:4001::1/tcp/1')).toBe(group('/ip6/2a00:1450:4001:5::9/tcp/1'))
  expect(group('/ip6/2a00:1450:4001::1/tcp/1')).not.toBe(group('/ip6/2a00:1450:4002::1/tcp/1'))
  expect(group('/ip4/192.168.1.1/tcp/1')).toBeUndefined()
})

test('names the peer at the end of an address, not the relay before it', () => {
  expect(peerOf(multiaddr(`/ip4/8.8.8.8/tcp/1/p2p/${peer}`))?.toString()).toBe(peer)
  const through = `/ip4/8.8.8.8/tcp/1/p2p/${relay}/p2p-circuit`
  expect(peerOf(multiaddr(through))).toBeUndefined()
  expect(peerOf(multiaddr(`${through}/p2p/${peer}`))?.toString()).toBe(peer)
  expect(peerOf(multiaddr('/ip4/8.8.8.8/tcp/1'))).toBeUndefined()
})

test('refuses addresses that a person got wrong, with what to do', () => {
  expect(() => parseAddress('8.8.8.8:4011', 'the address')).toThrow(InvalidInputError)
  expect(() => parsePeerAddress('/ip4/8.8.8.8/tcp/1', 'the address')).toThrow(/names no peer/)
  const parsed = parsePeerAddress(`/ip4/8.8.8.8/tcp/1/p2p/${peer}`, 'the address')
  expect(parsed.peer.toString()).toBe(peer)
})

test('leaves out what is no address', () => {
  const good = multiaddr('/ip4/8.8.8.8/tcp/1')
  const decoded = decodeAddresses([Uint8Array.of(255, 255, 255), good.bytes, new Uint8Array()])
  expect(decoded.map(String).filter(text => text !== '/')).toEqual([good.toString()])
})
