/**
 * What was asked for and is not written yet: of whom, how long ago, how many bytes. Pure. A chunk here
 * is either asked of one to three sources, or arriving: being checked and written.
 */

import { MiB } from '../core/units.ts'
import type { SessionFile } from './file-list.ts'
import type { FlightShare } from './flight-budget.ts'
import { canHedge, type Flight, muteIn, pickHedge } from './hedge.ts'
import type { Peer } from './roster.ts'

/** Asked for or not yet written, over all sources: what bounds a download's memory. */
const bytesInFlightMaxDefault = 64 * MiB

interface Arrival {
  readonly peer: Peer
  readonly bytes: number
}

export class Flights {
  readonly #bytesMax: number
  readonly #share: FlightShare | undefined
  readonly #asked = new Map<number, Flight>()
  /** Chunks with a passed deadline: worth a hedge before anything else. */
  readonly #late = new Set<number>()
  readonly #arriving = new Map<number, Arrival>()
  #bytes = 0

  /** `bytesMax`, and `share` if it is less, are where no more is asked for; one chunk may go beyond. */
  constructor(bytesMax = bytesInFlightMaxDefault, share?: FlightShare) {
    this.#bytesMax = bytesMax
    this.#share = share
  }

  get isEmpty(): boolean {
    return this.#asked.size === 0 && this.#arriving.size === 0
  }

  get isFull(): boolean {
    return this.#bytes >= Math.min(this.#bytesMax, this.#share?.bytesMax ?? Infinity)
  }

  asked(chunk: number): Flight | undefined {
    return this.#asked.get(chunk)
  }

  isArriving(chunk: number): boolean {
    return this.#arriving.has(chunk)
  }

  /** One more source is asked for the chunk. */
  ask(peer: Peer, entry: SessionFile, chunk: number, nowMs: number): Flight {
    const flight = this.#asked.get(chunk) ?? this.#start(entry, chunk)
    const ask = peer.score.asked(flight.bytes, nowMs)
    flight.asks.push({ peer, ask })
    peer.asks.set(chunk, ask)
    this.#count(flight.bytes)
    return flight
  }

  /** One source will not answer. True when it was the last one asked: nobody brings the chunk now. */
  drop(flight: Flight, peer: Peer): boolean {
    const at = flight.asks.findIndex(asked => asked.peer === peer)
    const [dropped] = flight.asks.splice(at, 1)
    if (dropped === undefined) return false
    peer.asks.delete(flight.chunk)
    peer.score.ended(dropped.ask)
    this.#count(-flight.bytes)
    if (flight.asks.length > 0) return false
    this.#endFlight(flight)
    flight.entry.busy -= 1
    return true
  }

  /** All bytes are here, from this source; returns the others that were asked. */
  arrived(flight: Flight, peer: Peer, nowMs: number): Peer[] {
    const others: Peer[] = []
    for (const asked of flight.asks) {
      asked.peer.asks.delete(flight.chunk)
      if (asked.peer === peer) {
        peer.score.arrived(asked.ask, nowMs)
        continue
      }
      asked.peer.score.ended(asked.ask)
      this.#count(-flight.bytes)
      others.push(asked.peer)
    }
    this.#endFlight(flight)
    this.#arriving.set(flight.chunk, { peer, bytes: flight.bytes })
    return others
  }

  /** What arrived is written, or lost. Returns who brought it. */
  landed(entry: SessionFile, chunk: number): Peer | undefined {
    const arrival = this.#arriving.get(chunk)
    if (arrival === undefined) return undefined
    this.#arriving.delete(chunk)
    this.#count(-arrival.bytes)
    entry.busy -= 1
    return arrival.peer
  }

  /** Whom to let go before one more source is asked for the chunk. */
  inTheWay(chunk: number): { flight: Flight; peer: Peer } | undefined {
    const flight = this.#asked.get(chunk)
    const peer = flight === undefined ? undefined : muteIn(flight)
    return flight === undefined || peer === undefined ? undefined : { flight, peer }
  }

  /** Others may overtake it from now on. */
  markLate(chunk: number): void {
    this.#late.add(chunk)
  }

  pickLate(peer: Peer): number | undefined {
    if (peer.score.isSnubbed) return undefined
    for (const chunk of this.#late) {
      if (canHedge(this.#asked.get(chunk) as Flight, peer)) return chunk
    }
    return undefined
  }

  pickHedge(peer: Peer, nowMs: number): number | undefined {
    return pickHedge(this.#asked.values(), peer, nowMs)
  }

  #start(entry: SessionFile, chunk: number): Flight {
    entry.busy += 1
    const flight = { entry, chunk, bytes: entry.table.length(chunk - entry.first), asks: [] }
    this.#asked.set(chunk, flight)
    return flight
  }

  #count(bytes: number): void {
    this.#bytes += bytes
    this.#share?.tell(this.#bytes)
  }

  #endFlight({ chunk }: Flight): void {
    this.#asked.delete(chunk)
    this.#late.delete(chunk)
  }
}
