/**
 * The lanes of one peer: those it dialled, which we serve; the one it dialled because we asked it to,
 * on which we ask; those of the data plane, which we only count; and why there is none
 * (docs/spec/lane.md). They last at most as long as a stream to the peer.
 */

import { dialLane, type LaneAddress } from '../../bulk/lane.ts'
import type { LaneIdentity } from '../../bulk/certificate.ts'
import type { Clock } from '../../core/clock.ts'
import { messageOf, ProtocolError, UnavailableError } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import { minute, second } from '../../core/units.ts'
import { type GoodbyeCode, laneFeatures } from '../../wire/messages.ts'
import type { FrameTransport } from '../../wire/transport.ts'
import type { LanePort } from './lane-port.ts'
import { type SwarmChannel, turnAway } from './swarm-channel.ts'

/** A data plane has four threads at most; as many again while it replaces lanes that broke. */
export const lanesPerPeerMax = 8
/** A peer that asks more often is not heard: each time may cost us four connections. */
export const dialBackIntervalMs = 30 * second
/** All peers together. */
export const dialBacksMax = 4
/** Four addresses, one after the other. */
const dialBackMs = minute

/** How chunks travel between us and a peer. */
export type PeerPath =
  | { readonly path: 'lane' }
  | { readonly path: 'stream'; readonly pathReason: string }

/** A lane that lives elsewhere, as the data plane has them. */
export interface CountedLane {
  readonly closed: AbortSignal
  readonly bytesReceived: number
}

/** What the lanes of all peers share. */
export interface LaneShare {
  readonly clock: Clock
  readonly log: Logger
  /** Undefined when lanes are off. */
  readonly port: Pick<LanePort, 'identity' | 'isOpen'> | undefined
  dialBacks: number
  readonly stop: AbortSignal
}

export interface PeerLanesOptions {
  /** Peer id as text. */
  readonly peer: string
  /** Where it may take a lane. */
  addresses(): Promise<LaneAddress[]>
  /** The state machine over a lane, served like a stream. */
  open(transport: FrameTransport, features: readonly string[], remote: LaneAddress): SwarmChannel
  /** The stream's channel, once its hello is done. */
  stream(): SwarmChannel | undefined
  /** It broke the rules on a lane. */
  ban(reason: Error): void
}

/** What a source of chunks needs to know and tell. */
export interface LaneSide {
  /** Lanes are on here, and the peer takes or dials some. */
  readonly isWanted: boolean
  /** Where it takes some; empty when it takes none, or we know no way to it. */
  addresses(): Promise<LaneAddress[]>
  /** The lane that the peer dialled because we asked. */
  readonly back: SwarmChannel | undefined
  /** Why there is none now, for whoever asks how chunks travel. */
  explain(why: string): void
  /** Asks the peer to dial one; false when it does not do that. `why` there is no other way. */
  askBack(why: string): boolean
  /** Counts a lane of the data plane among the peer's. */
  add(lane: CountedLane): void
}

export class PeerLanes implements LaneSide {
  readonly #share: LaneShare
  readonly #options: PeerLanesOptions
  /** Also those whose hello is not done. */
  readonly #channels = new Set<SwarmChannel>()
  readonly #counted = new Set<CountedLane>()
  /** Of lanes that are closed. */
  readonly #before = { received: 0, sent: 0 }
  #reason = 'nothing was asked for yet'
  #askedAtMs: number | undefined
  #dialledAtMs: number | undefined
  #isDialing = false

  constructor(share: LaneShare, options: PeerLanesOptions) {
    this.#share = share
    this.#options = options
  }

  get isWanted(): boolean {
    const hasAny = this.#peerHas(laneFeatures.lane) || this.#peerHas(laneFeatures.laneDial)
    return this.#share.port !== undefined && hasAny
  }

  get back(): SwarmChannel | undefined {
    return [...this.#channels].find(
      ({ hello, closed }) => !closed.aborted && hello?.features.includes(laneFeatures.laneBack),
    )
  }

  get bytesReceived(): number {
    const { received } = this.#before
    const counted = total(this.#counted, lane => lane.bytesReceived)
    return received + counted + total(this.#channels, ({ transport }) => transport.bytesReceived)
  }

  get bytesSent(): number {
    return this.#before.sent + total(this.#channels, ({ transport }) => transport.bytesSent)
  }

  get path(): PeerPath {
    if (this.#counted.size + this.#channels.size > 0) return { path: 'lane' }
    return { path: 'stream', pathReason: this.#pathReason() }
  }

  async addresses(): Promise<LaneAddress[]> {
    return this.#peerHas(laneFeatures.lane) ? this.#options.addresses() : []
  }

  add(lane: CountedLane): void {
    if (lane.closed.aborted) return
    this.#counted.add(lane)
    const onClosed = (): void => {
      this.#counted.delete(lane)
      this.#before.received += lane.bytesReceived
      this.#closed(lane.closed)
    }
    lane.closed.addEventListener('abort', onClosed, { once: true })
  }

  explain(why: string): void {
    this.#reason = why
  }

  askBack(why: string): boolean {
    const { clock } = this.#share
    this.explain(why)
    if (this.#share.port?.isOpen !== true || !this.#peerHas(laneFeatures.laneDial)) return false
    this.#reason = `${why}; the peer was asked to dial`
    if (isRecent(this.#askedAtMs, clock)) return true
    this.#askedAtMs = clock.monotonic()
    this.#options.stream()?.askForLane()
    return true
  }

  /** The peer dialled a lane to us. */
  take(transport: FrameTransport, remote: LaneAddress): void {
    if (this.#channels.size >= lanesPerPeerMax) turnAway(transport, 'limit')
    else this.#open(transport, [], remote)
  }

  /** The peer asks us to dial a lane to it. */
  dialBack(): void {
    const { clock, log, port, stop } = this.#share
    const isTooSoon = this.#isDialing || isRecent(this.#dialledAtMs, clock)
    const isFull = this.#share.dialBacks >= dialBacksMax || this.#channels.size >= lanesPerPeerMax
    if (port === undefined || stop.aborted || isTooSoon || isFull) return
    this.#dialledAtMs = clock.monotonic()
    this.#isDialing = true
    this.#share.dialBacks += 1
    this.#dialOne(port.identity)
      .catch((error: unknown) => {
        const { peer } = this.#options
        log.debug('no lane back to a peer that asked', { peer, error: messageOf(error) })
      })
      .finally(() => {
        this.#isDialing = false
        this.#share.dialBacks -= 1
      })
  }

  /** Says why on each, lets that go out, and closes. */
  async close(code: GoodbyeCode, reason: Error): Promise<void> {
    await Promise.all([...this.#channels].map(channel => channel.close(code, reason)))
  }

  async #dialOne(identity: LaneIdentity): Promise<void> {
    const { peer } = this.#options
    const signal = AbortSignal.any([this.#share.stop, AbortSignal.timeout(dialBackMs)])
    let failure: unknown = new UnavailableError('it has no address for lanes')
    for (const address of await this.addresses()) {
      try {
        const transport = await dialLane(address, { identity, peer, signal })
        this.#open(transport, [laneFeatures.laneBack], address)
        return
      } catch (error) {
        signal.throwIfAborted()
        failure = error
      }
    }
    throw failure
  }

  #open(transport: FrameTransport, features: readonly string[], remote: LaneAddress): void {
    // The peer may have left, or been banned, while we dialled.
    if (this.#options.stream() === undefined) {
      turnAway(transport, 'stopping')
      return
    }
    const channel = this.#options.open(transport, features, remote)
    this.#channels.add(channel)
    const onClosed = (): void => {
      this.#channels.delete(channel)
      this.#before.received += transport.bytesReceived
      this.#before.sent += transport.bytesSent
      this.#closed(channel.closed)
      const { reason } = channel.closed
      if (reason instanceof ProtocolError) this.#options.ban(reason)
    }
    channel.closed.addEventListener('abort', onClosed, { once: true })
  }

  #closed({ reason }: AbortSignal): void {
    this.#reason = `the lane is closed: ${messageOf(reason)}`
  }

  #pathReason(): string {
    if (this.#share.port === undefined) return 'lanes are off here'
    return this.isWanted ? this.#reason : 'the peer has no lanes'
  }

  #peerHas(feature: string): boolean {
    return this.#options.stream()?.hello?.features.includes(feature) === true
  }
}

function isRecent(atMs: number | undefined, clock: Clock): boolean {
  return atMs !== undefined && clock.monotonic() - atMs < dialBackIntervalMs
}

function total<T>(items: Iterable<T>, bytesOf: (item: T) => number): number {
  let sum = 0
  for (const item of items) sum += bytesOf(item)
  return sum
}
