/** A peer of the swarm: its channels, its lanes, and what is shown of them. */

import type { PeerId } from '@libp2p/interface'
import type { Source } from '../../transfer/source.ts'
import type { PeerLanes, PeerPath } from './peer-lanes.ts'
import type { SwarmChannel } from './swarm-channel.ts'

export interface SwarmPeer {
  readonly peerId: string
  readonly agent: string | undefined
  readonly connectedAtMs: number
  readonly bytesReceived: number
  readonly bytesSent: number
  /** Files it told us it holds some of. */
  readonly files: number
  readonly path: PeerPath
}

export type Direction = 'inbound' | 'outbound'

export interface Peer {
  readonly id: PeerId
  /** By who opened the stream: two when both did at the same time. */
  readonly channels: Map<Direction, SwarmChannel>
  readonly lanes: PeerLanes
  /** Of the channel that said hello first. */
  source: Source | undefined
  dialing: Promise<Source> | undefined
}

/** The channels of a peer that said hello and are open. */
export function greeted({ channels }: Peer): SwarmChannel[] {
  return [...channels.values()].filter(
    ({ hello, closed }) => hello !== undefined && !closed.aborted,
  )
}

/** Undefined before its hello. */
export function viewOf(peer: Peer): SwarmPeer | undefined {
  const channels = greeted(peer)
  const [first] = channels
  if (first === undefined) return undefined
  const { lanes } = peer
  return {
    peerId: peer.id.toString(),
    agent: first.hello?.agent,
    connectedAtMs: Math.min(...channels.map(({ openedAtMs }) => openedAtMs)),
    bytesReceived: lanes.bytesReceived + sum(channels, ({ transport }) => transport.bytesReceived),
    bytesSent: lanes.bytesSent + sum(channels, ({ transport }) => transport.bytesSent),
    files: Math.max(...channels.map(({ filesHeld }) => filesHeld)),
    path: lanes.path,
  }
}

function sum(
  channels: readonly SwarmChannel[],
  bytesOf: (channel: SwarmChannel) => number,
): number {
  return channels.reduce((total, channel) => total + bytesOf(channel), 0)
}
