/** Streams of the swarm protocol that we open, and where their peers are dialled. */

import type { Libp2p, PeerId, Stream } from '@libp2p/interface'
import type { Multiaddr } from '@multiformats/multiaddr'
import { peerOf } from '../addresses.ts'

export const swarmProtocol = '/commonweight/swarm/1'

/** Dialled at a time for one peer, from a hint and from what we know of it. */
const dialAddressesMax = 16

/** Over a connection that is there, or one that is dialled now. Throws what libp2p throws. */
export async function openStream(
  libp2p: Libp2p,
  id: PeerId,
  hinted: readonly Multiaddr[],
  signal: AbortSignal,
): Promise<Stream> {
  const options = { signal, runOnLimitedConnection: true }
  const open = libp2p.getConnections(id).filter(({ status }) => status === 'open')
  // A relay's connection is limited in time and bytes: the last choice.
  const connection = open.find(({ limits }) => limits === undefined) ?? open[0]
  if (connection !== undefined) return connection.newStream(swarmProtocol, options)
  const addresses = [...hinted, ...(await knownAddresses(libp2p, id))]
    .flatMap(address => addressOf(id, address) ?? [])
    .slice(0, dialAddressesMax)
  const target = addresses.length > 0 ? addresses : id
  return libp2p.dialProtocol(target, swarmProtocol, options)
}

/** What identify and the DHT told us; empty when we never heard of the peer. */
export async function knownAddresses({ peerStore }: Libp2p, id: PeerId): Promise<Multiaddr[]> {
  if (!(await peerStore.has(id))) return []
  const { addresses } = await peerStore.get(id)
  return addresses.map(address => address.multiaddr)
}

/** The address with the peer at its end; undefined when it leads to another peer. */
function addressOf(id: PeerId, address: Multiaddr): Multiaddr | undefined {
  const named = peerOf(address)
  if (named === undefined) return address.encapsulate(`/p2p/${id.toString()}`)
  return named.equals(id) ? address : undefined
}
