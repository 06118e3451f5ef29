/** What the network side of a node looks like from outside: peers, providers, addresses. */

import type { PeerView, ProviderView } from '../api/contract.ts'
import type { ConnectedPeer, Net, PeerPath } from '../net/net.ts'
import { keysOf, type ModelStore } from './models.ts'
import { parseRef } from './ref.ts'

export function peerView(peer: ConnectedPeer): PeerView {
  const { swarm } = peer
  return {
    type: 'peer',
    peerId: peer.peerId,
    address: peer.address,
    direction: peer.direction,
    ...pathView(swarm?.path),
    agent: peer.agent ?? null,
    connectedAtMs: peer.connectedAtMs,
    bytesReceived: swarm?.bytesReceived ?? 0,
    bytesSent: swarm?.bytesSent ?? 0,
    files: swarm?.files ?? 0,
    rttMs: peer.rttMs ?? null,
  }
}

function pathView(path: PeerPath | undefined): Pick<PeerView, 'path' | 'pathReason'> {
  if (path === undefined) return { path: 'none', pathReason: 'no swarm stream to it is open' }
  return { pathReason: null, ...path }
}

/** Who announces a model or file on the DHT, as found. */
export async function* findProviders(
  deps: { readonly store: ModelStore; readonly net: Pick<Net, 'peerId' | 'providers'> },
  ref: string,
  signal: AbortSignal,
): AsyncGenerator<ProviderView> {
  const { store, net } = deps
  for (const key of keysOf(store, parseRef(ref))) {
    for await (const { peerId, addresses } of net.providers(key, signal)) {
      yield {
        type: 'provider',
        peerId,
        addresses: [...addresses],
        key: key.toString(),
        self: peerId === net.peerId,
      }
    }
  }
}
