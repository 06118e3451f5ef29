/** When a chunk that was asked of one source is worth asking of a second one. Pure. */

import type { SessionFile } from './file-list.ts'
import type { Peer } from './roster.ts'
import type { Ask } from './scoreboard.ts'
import type { ChunkName } from './session-events.ts'

/** The first request of a chunk and two hedges. */
const asksPerChunkMax = 3
/** A hedge must promise to be so much faster than what it is to overtake. */
const hedgeGain = 2

/** A chunk in flight. */
export interface Flight {
  readonly entry: SessionFile
  readonly chunk: number
  readonly bytes: number
  readonly asks: { readonly peer: Peer; readonly ask: Ask }[]
}

export function nameOf({ entry, chunk }: Flight): ChunkName {
  return { file: entry.file, index: chunk - entry.first }
}

export function canHedge(flight: Flight, peer: Peer): boolean {
  const { chunk, asks } = flight
  const hasRoom = asks.length < asksPerChunkMax || muteIn(flight) !== undefined
  return hasRoom && !peer.asks.has(chunk) && peer.holder.claims.has(chunk)
}

/** Of as many sources as may be asked for a chunk, one that is silent and makes room for another one. */
export function muteIn({ asks }: Flight): Peer | undefined {
  if (asks.length < asksPerChunkMax) return undefined
  return asks.find(({ peer }) => peer.score.isSnubbed)?.peer
}

/** The chunk that takes longest, if this source could be sooner. */
export function pickHedge(
  flights: Iterable<Flight>,
  peer: Peer,
  nowMs: number,
): number | undefined {
  if (peer.score.isSnubbed) return undefined
  let longestMs = 0
  let best: Flight | undefined
  for (const flight of flights) {
    if (!canHedge(flight, peer)) continue
    // What is overdue by some time is guessed to take that time again.
    const lefts = flight.asks.map(({ ask }) => Math.abs(ask.expectedAtMs - nowMs))
    const remainingMs = Math.min(...lefts)
    const isWorthIt = remainingMs > hedgeGain * peer.score.expectedMs(flight.bytes)
    if (remainingMs <= longestMs || !isWorthIt) continue
    longestMs = remainingMs
    best = flight
  }
  return best?.chunk
}
