/**
 * The lanes of the data plane to one peer: opened when a download wants chunks of it, another one when
 * those there are all busy, tried again at growing intervals when none can be had: then the stream
 * carries the chunks.
 */

import type { Plane } from '../../bulk/plane.ts'
import type { Lane } from '../../bulk/plane-lane.ts'
import { raceSignal } from '../../core/async.ts'
import type { Clock } from '../../core/clock.ts'
import { LimitError, messageOf, ProtocolError, UnavailableError } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import { MiB, minute, second } from '../../core/units.ts'
import type { WriteTarget } from '../../store/partial.ts'
import type { BulkOptions, BulkRequest, BulkSource } from '../../transfer/source.ts'
import type { LaneSide } from './peer-lanes.ts'

/** Dialling, two round trips of TLS and the hello, at each of a few addresses. */
const openMs = 30 * second
/** After a lane that worked and ended, and after none could be had: doubles up to the last. */
const retryMsFirst = second
const retryMsMax = 10 * minute
/**
 * So long chunks wait for a lane that is being opened, since a stream costs several times the CPU: for
 * four round trips of a bad line, or until a crowd of peers on a small machine has opened all of its.
 */
const openingMsMax = 5 * second
/** What the stream carries meanwhile: small files at once, and a little where no lane ever comes. */
const streamedBytesMax = MiB
/** A lane with so many chunks in flight has more to do than its thread can do at once. */
const busyJobs = 2

export interface BulkLanesDeps {
  readonly plane: Plane
  readonly clock: Clock
  readonly log: Logger
}

export interface BulkLanesOptions {
  readonly peer: string
  readonly side: LaneSide
  /** The stream to the peer: lanes last no longer. */
  readonly closed: AbortSignal
  readonly onBan: (reason: Error) => void
}

/** A lane on its way. */
interface Opening {
  /** Resolves when it is there, or not to be had, or no longer worth waiting for. */
  readonly isWaitOver: Promise<void>
  streamedBytes: number
}

export class BulkLanes implements BulkSource {
  readonly #deps: BulkLanesDeps
  readonly #options: BulkLanesOptions
  readonly #lanes = new Set<Lane>()
  #opening: Opening | undefined
  #retryMs = retryMsFirst
  #retryAtMs = 0

  constructor(deps: BulkLanesDeps, options: BulkLanesOptions) {
    this.#deps = deps
    this.#options = options
    const onClosed = (): void => {
      for (const lane of this.#lanes) lane.close(options.closed.reason as Error)
    }
    options.closed.addEventListener('abort', onClosed, { once: true })
  }

  /** Chunks can be fetched over a lane now. */
  get isUp(): boolean {
    return this.#lanes.size > 0
  }

  /** How a chunk of so many bytes is fetched now: over the lanes, or over the stream (undefined). */
  async way(length: number, signal: AbortSignal): Promise<BulkSource | undefined> {
    this.want()
    const opening = this.#opening
    if (!this.isUp && opening !== undefined) {
      const isFirst = opening.streamedBytes === 0
      if (isFirst || opening.streamedBytes + length <= streamedBytesMax) {
        opening.streamedBytes += length
      } else {
        await raceSignal(opening.isWaitOver, signal)
      }
    }
    return this.isUp ? this : undefined
  }

  /** A download asks this peer for a chunk: opens a lane if one more is of use. */
  want(): void {
    const { plane, clock } = this.#deps
    const { side, closed } = this.#options
    if (this.#opening !== undefined || closed.aborted || this.#lanes.size >= plane.threads) return
    if (clock.monotonic() < this.#retryAtMs) return
    if (!side.isWanted) {
      if (side.back === undefined) side.askBack('the peer takes no lanes')
      return
    }
    for (const lane of this.#lanes) if (lane.inFlight < busyJobs) return
    const stop = new AbortController()
    const isWaitOver = clock.sleep(openingMsMax, stop.signal).catch(() => undefined)
    this.#opening = { isWaitOver, streamedBytes: 0 }
    void this.#open().finally(() => {
      this.#opening = undefined
      stop.abort()
    })
  }

  async fetchChunkTo(
    { root, index, length, digest }: BulkRequest,
    { fd, offset }: WriteTarget,
    options: BulkOptions,
  ): Promise<void> {
    const lane = this.#leastLoaded()
    try {
      await lane.fetchChunk({ root, index, length, digest, fd, offset }, options)
    } catch (error) {
      // The lane ended, not the peer: it is asked again, over whatever there is then.
      if (!lane.closed.aborted || !(error instanceof UnavailableError)) throw error
      throw new LimitError(`the lane closed: ${messageOf(error)}`, { cause: error })
    }
  }

  #leastLoaded(): Lane {
    let best: Lane | undefined
    for (const lane of this.#lanes) if (lane.inFlight < (best?.inFlight ?? Infinity)) best = lane
    if (best === undefined) throw new LimitError('no lane is open')
    this.want()
    return best
  }

  async #open(): Promise<void> {
    const { plane, clock, log } = this.#deps
    const { peer, side, closed } = this.#options
    try {
      const signal = AbortSignal.any([closed, AbortSignal.timeout(openMs)])
      const addresses = await side.addresses()
      if (addresses.length === 0) throw new UnavailableError('no address of the peer takes lanes')
      const lane = await plane.openLane({ peer, addresses }, { signal })
      this.#add(lane)
      this.#retryMs = retryMsFirst
    } catch (error) {
      this.#retryAtMs = clock.monotonic() + this.#retryMs
      this.#retryMs = Math.min(retryMsMax, this.#retryMs * 2)
      log.debug('no lane to a peer', { peer, error: messageOf(error) })
      if (error instanceof ProtocolError) this.#options.onBan(error)
      else if (!this.isUp && side.back === undefined) side.askBack(messageOf(error))
    }
  }

  #add(lane: Lane): void {
    const { clock, log } = this.#deps
    const { peer, side, closed, onBan } = this.#options
    if (closed.aborted) {
      lane.close(closed.reason as Error)
      return
    }
    this.#lanes.add(lane)
    side.add(lane)
    const onClosed = (): void => {
      this.#lanes.delete(lane)
      this.#retryAtMs = clock.monotonic() + this.#retryMs
      log.debug('a lane closed', { peer, reason: messageOf(lane.closed.reason) })
      if (lane.closed.reason instanceof ProtocolError) onBan(lane.closed.reason)
    }
    lane.closed.addEventListener('abort', onClosed, { once: true })
    if (lane.closed.aborted) onClosed()
  }
}
