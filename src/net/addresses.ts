/**
 * Which addresses are told to whom. One place decides what is private, so that a public node cannot
 * leak the addresses of its home network (docs/spec/discovery.md, section 4).
 */

import { isPrivate } from '@libp2p/utils'
import { peerIdFromString } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import type { Multiaddr } from '@multiformats/multiaddr'
import type { PeerId } from '@libp2p/interface'
import { InvalidInputError, messageOf } from '../core/errors.ts'

/** Where a peer is said to be. */
export interface PeerHint {
  readonly peer: PeerId
  readonly addresses: readonly Multiaddr[]
}

/** How the operator describes the network: 'auto' works it out. */
export const networkKinds = ['auto', 'public', 'lan'] as const
export type NetworkKind = (typeof networkKinds)[number]

/**
 * Where this node stands. `public`: others reach it from anywhere. `nat`: it uses the public network and
 * cannot be reached from there. `lan`: it knows only private addresses, and so do the peers it meets.
 */
export type Reach = 'public' | 'nat' | 'lan'

export interface ReachFacts {
  readonly network: NetworkKind
  /** Addresses that are announced or confirmed, before any filter. */
  readonly own: readonly Multiaddr[]
  /** A configured bootstrap address is public, or we reached a public address in this run. */
  readonly seenPublic: boolean
}

export function reachOf(facts: ReachFacts): Reach {
  if (facts.network === 'lan') return 'lan'
  if (facts.own.some(address => isPublic(address) && !isRelayed(address))) return 'public'
  return facts.network === 'public' || facts.seenPublic ? 'nat' : 'lan'
}

/** What may be told of addresses: all on a LAN, the public ones everywhere else. */
export function filterFor(reach: Reach, addresses: readonly Multiaddr[]): Multiaddr[] {
  return reach === 'lan' ? [...addresses] : addresses.filter(isPublic)
}

/** Names that resolve to something inside: single labels and the suffixes set aside for home networks. */
const privateNames = /^(localhost|[^.]+|.+\.(localhost|local|lan|internal|home\.arpa))\.?$/iu

export function isPublic(address: Multiaddr): boolean {
  const [first] = address.getComponents()
  if (first === undefined) return false
  if (first.name.startsWith('dns')) return !privateNames.test(first.value ?? '')
  return (first.name === 'ip4' || first.name === 'ip6') && !isPrivate(address)
}

export function isRelayed(address: Multiaddr): boolean {
  return address.getComponents().some(component => component.name === 'p2p-circuit')
}

/** Peers behind one operator tend to share it: the /24 of an IPv4 or the /48 of an IPv6 address. */
export function addressGroup(address: Multiaddr): string | undefined {
  if (!isPublic(address)) return undefined
  const [first] = address.getComponents()
  if (first?.value === undefined) return undefined
  if (first.name === 'ip4') return first.value.split('.').slice(0, 3).join('.')
  if (first.name === 'ip6') return expandIp6(first.value).slice(0, 3).join(':')
  return first.value
}

function expandIp6(text: string): string[] {
  const [head = '', tail] = text.split('::')
  const left = head === '' ? [] : head.split(':')
  const right = tail === undefined || tail === '' ? [] : tail.split(':')
  const gap = tail === undefined ? 0 : Math.max(0, 8 - left.length - right.length)
  return [...left, ...Array.from({ length: gap }, () => '0'), ...right]
}

/** A multiaddr a person wrote; throws InvalidInputError with what is expected. */
export function parseAddress(text: string, what: string): Multiaddr {
  try {
    return multiaddr(text)
  } catch (error) {
    throw new InvalidInputError(`${what} is not a multiaddr: ${text} (${messageOf(error)})`, {
      cause: error,
      hint: 'a multiaddr looks like /ip4/192.0.2.7/tcp/4011/p2p/12D3Koo…',
    })
  }
}

/** An address to dial, which must say whom we expect there: otherwise anybody could answer. */
export function parsePeerAddress(text: string, what: string): { peer: PeerId; address: Multiaddr } {
  const address = parseAddress(text, what)
  const peer = peerOf(address)
  if (peer === undefined) {
    throw new InvalidInputError(`${what} names no peer: ${text}`, {
      hint: 'append /p2p/ and the peer id that its own status shows',
    })
  }
  return { peer, address }
}

/** The peer a multiaddr ends at (behind a relay: not the relay), or undefined when it names none. */
export function peerOf(address: Multiaddr): PeerId | undefined {
  const last = address.getComponents().findLast(component => component.name === 'p2p')
  const isRelay = address.getComponents().at(-1)?.name === 'p2p-circuit'
  if (last?.value === undefined || isRelay) return undefined
  try {
    return peerIdFromString(last.value)
  } catch {
    return undefined
  }
}

/** Multiaddrs from bytes of the network; what does not parse is left out. */
export function decodeAddresses(encoded: readonly Uint8Array[]): Multiaddr[] {
  return encoded.flatMap(bytes => {
    try {
      return [multiaddr(bytes)]
    } catch {
      return []
    }
  })
}
