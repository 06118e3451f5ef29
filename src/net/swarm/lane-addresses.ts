/**
 * Where a peer may take a lane. A peer that asks us to dial it must not be able to send us anywhere
 * else: only to where we reached it before, or to the machine that its connection comes from.
 */

import type { Connection, Libp2p, PeerId } from '@libp2p/interface'
import type { Multiaddr } from '@multiformats/multiaddr'
import type { LaneAddress } from '../../bulk/lane.ts'
import { isPublic, isRelayed } from '../addresses.ts'

/** Tried one after the other, at most 10 seconds each. */
const addressesMax = 4

/**
 * TCP addresses of a connected peer, best first; none of a relay's. `shareable` is the host's rule on
 * private addresses.
 */
export async function laneAddressesOf(
  libp2p: Libp2p,
  peer: PeerId,
  shareable: (addresses: readonly Multiaddr[]) => readonly Multiaddr[],
): Promise<LaneAddress[]> {
  const open = libp2p.getConnections(peer).filter(({ status }) => status === 'open')
  const direct = open.filter(isDirect)
  const dialled = direct.filter(({ direction }) => direction === 'outbound')
  const reached = dialled.map(({ remoteAddr }) => remoteAddr)
  if (reached.some(address => laneAddress(address) !== undefined)) return distinct(reached)
  const told = shareable(await signedAddresses(libp2p, peer))
  // Behind a relay, nobody can tell whose machine it is. A name could lead anywhere.
  if (direct.length === 0)
    return distinct(told.filter(address => isPublic(address) && isIp(address)))
  const hosts = new Set(direct.map(({ remoteAddr }) => hostOf(remoteAddr)))
  return distinct(told.filter(address => hosts.has(hostOf(address))))
}

function isDirect({ limits, remoteAddr }: Connection): boolean {
  return limits === undefined && !isRelayed(remoteAddr)
}

function isIp(address: Multiaddr): boolean {
  return address.getComponents()[0]?.name.startsWith('ip') === true
}

/** What the peer itself signed: of the rest, anybody may have told us. */
async function signedAddresses({ peerStore }: Libp2p, peer: PeerId): Promise<Multiaddr[]> {
  if (!(await peerStore.has(peer))) return []
  const { addresses } = await peerStore.get(peer)
  return addresses.filter(({ isCertified }) => isCertified).map(({ multiaddr }) => multiaddr)
}

function distinct(addresses: readonly Multiaddr[]): LaneAddress[] {
  const lanes = addresses.flatMap(address => laneAddress(address) ?? [])
  const byText = new Map(lanes.map(lane => [`${lane.host} ${lane.port}`, lane]))
  return [...byText.values()].slice(0, addressesMax)
}

/** Of a plain TCP address; undefined for WebSockets, relays and anything else above TCP. */
export function laneAddress(address: Multiaddr): LaneAddress | undefined {
  const [host, transport, ...more] = address.getComponents()
  if (host?.value === undefined || transport?.name !== 'tcp') return undefined
  if (!hostNames.has(host.name) || more.some(({ name }) => name !== 'p2p')) return undefined
  return { host: host.value, port: Number(transport.value) }
}

const hostNames: ReadonlySet<string> = new Set(['ip4', 'ip6', 'dns', 'dns4', 'dns6'])

/** The host as it is written; zones of IPv6 come before it and are not part of it. */
function hostOf(address: Multiaddr): string | undefined {
  return address.getComponents().find(({ name }) => hostNames.has(name))?.value
}
