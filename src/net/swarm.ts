/**
 * The peers we speak the swarm protocol with: one long-lived stream each, which serves them and lets
 * us fetch from them.
 */

import type { Multiaddr } from '@multiformats/multiaddr'
import type { PeerId } from '@libp2p/interface'
import type { CID } from '../core/cid.ts'
import type { Source, SourceOptions } from '../transfer/source.ts'

/** Where a peer is said to be. */
export interface PeerHint {
  readonly peer: PeerId
  readonly addresses: readonly Multiaddr[]
}

export interface SwarmPeer {
  readonly peerId: string
  readonly agent: string | undefined
  readonly connectedAtMs: number
  readonly bytesReceived: number
  readonly bytesSent: number
  /** Files it told us it holds some of. */
  readonly files: number
}

export interface Swarm extends AsyncDisposable {
  /** The source of a peer: dials and says hello when needed, shares the stream when there is one. */
  connect(hint: PeerHint, options: SourceOptions): Promise<Source>
  /** Sources of the peers whose hello is done. */
  sources(): Source[]
  /** Called for each peer whose hello gets done, whoever dialled; returns how to stop. */
  onSource(listener: (source: Source) => void): () => void
  /** Peer exchange: what the connected peers know of other holders of these CIDs. */
  exchange(keys: readonly CID[], options: SourceOptions): Promise<PeerHint[]>
  peers(): SwarmPeer[]
}
