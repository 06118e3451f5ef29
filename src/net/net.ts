/**
 * Everything this node says to and hears from others, behind one narrow face: the libp2p host, the
 * DHT, the swarm and the announcing of what the store holds.
 */

import type { CID } from '../core/cid.ts'
import type { SourceFinder } from '../transfer/source.ts'
import type { NetworkKind } from './addresses.ts'

export interface NetOptions {
  /** Multiaddrs to listen on. */
  readonly listen: readonly string[]
  /** Multiaddrs to tell others instead of what we listen on; empty: worked out. */
  readonly announce: readonly string[]
  /** Multiaddrs with /p2p/ of nodes to join the DHT through. There is no default. */
  readonly bootstrap: readonly string[]
  readonly network: NetworkKind
  /** Look for nodes on the local network by multicast. */
  readonly mdns: boolean
  /** Serve as a circuit relay for nodes behind NAT. */
  readonly relay: boolean
  /** Name and version, shown to peers. */
  readonly agent: string
}

export interface ConnectedPeer {
  readonly peerId: string
  readonly address: string
  readonly direction: 'inbound' | 'outbound'
  readonly agent: string | undefined
  readonly connectedAtMs: number
  /** Undefined when there is a connection and no swarm channel on it. */
  readonly swarm:
    | { readonly bytesReceived: number; readonly bytesSent: number; readonly files: number }
    | undefined
  readonly rttMs: number | undefined
}

export interface FoundProvider {
  readonly peerId: string
  readonly addresses: readonly string[]
}

export interface AnnounceStatus {
  readonly keys: number
  readonly due: number
  readonly lastAtMs: number | undefined
}

export interface Net extends AsyncDisposable {
  readonly peerId: string
  /** Multiaddrs with /p2p/ that others may be told. */
  addresses(): string[]
  readonly finder: SourceFinder
  peers(): ConnectedPeer[]
  /** Dials; InvalidInputError for a malformed address, UnavailableError when nobody answers. */
  connect(address: string, signal: AbortSignal): Promise<{ peerId: string; address: string }>
  /** Providers by the DHT, this node included when its record is found. Each peer once. */
  providers(key: CID, signal: AbortSignal): AsyncIterable<FoundProvider>
  /** The set of provided keys changed: announce what is new soon, forget what is gone. */
  providedChanged(): void
  announcing(): AnnounceStatus
  dht(): { readonly mode: 'client' | 'server'; readonly peers: number }
}
