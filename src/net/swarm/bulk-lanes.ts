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
 * While the first lane is being opened the stream carries so much at a time: it costs several times the
 * CPU, and in a crowd that meets all lanes are opened at once.
 */
const rationBytes = MiB
/** And for so long: four round trips of a bad line, or a small machine with a crowd of peers. */
const rationMsMax = 5 * second
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

export class BulkLanes implements BulkSource {
  readonly #deps: BulkLanesDeps
  readonly #options: BulkLanesOptions
  readonly #lanes = new Set<Lane>()
  #isOpening = false
  #isRationed = false
  /** Asked for over the stream and not there yet. */
  #streamedBytes = 0
  #streamChanged = Promise.withResolvers<void>()
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

  /**
   * How a chunk of so many bytes is fetched now: over the lanes, or over the stream (undefined), which
   * `streamed` must hear of.
   */
  async way(length: number, signal: AbortSignal): Promise<BulkSource | undefined> {
    this.want()
    while (this.#mustWait(length)) await raceSignal(this.#streamChanged.promise, signal)
    if (this.isUp) return this
    this.#streamedBytes += length
    return undefined
  }

  /** A chunk that was to come over the stream came, or did not. */
  streamed(length: number): void {
    this.#streamedBytes = Math.max(0, this.#streamedBytes - length)
    this.#wake()
  }

  /** A download asks this peer for a chunk: opens a lane if one more is of use. */
  want(): void {
    const { plane, clock } = this.#deps
    const { side, closed } = this.#options
    if (this.#isOpening || closed.aborted || this.#lanes.size >= plane.threads) return
    if (clock.monotonic() < this.#retryAtMs) return
    if (!side.isWanted) {
      if (side.back === undefined) side.askBack('the peer takes no lanes')
      return
    }
    for (const lane of this.#lanes) if (lane.inFlight < busyJobs) return
    void this.#openOne()
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

  #mustWait(length: number): boolean {
    // What goes back over a lane of the peer's costs no more than ours.
    if (!this.#isRationed || this.isUp || this.#options.side.back !== undefined) return false
    return this.#streamedBytes > 0 && this.#streamedBytes + length > rationBytes
  }

  #wake(): void {
    this.#streamChanged.resolve()
    this.#streamChanged = Promise.withResolvers()
  }

  #endRation(): void {
    this.#isRationed = false
    this.#wake()
  }

  async #openOne(): Promise<void> {
    const { side } = this.#options
    const stop = new AbortController()
    this.#isOpening = true
    // Where a lane failed the next one will, too: nothing waits for it again.
    this.#isRationed = !this.isUp && this.#retryMs === retryMsFirst
    if (!this.isUp) side.explain('a lane is being opened')
    this.#deps.clock.sleep(rationMsMax, stop.signal).then(
      () => this.#endRation(),
      () => undefined,
    )
    try {
      await this.#open()
    } finally {
      this.#isOpening = false
      stop.abort()
      this.#endRation()
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
    const { plane, log } = this.#deps
    const { peer, side, closed } = this.#options
    try {
      const signal = AbortSignal.any([closed, AbortSignal.timeout(openMs)])
      const addresses = await side.addresses()
      if (addresses.length === 0) throw new UnavailableError('no address of the peer takes lanes')
      const lane = await plane.openLane({ peer, addresses }, { signal })
      this.#add(lane)
    } catch (error) {
      this.#failed()
      side.explain(messageOf(error))
      log.debug('no lane to a peer', { peer, error: messageOf(error) })
      if (error instanceof ProtocolError) this.#options.onBan(error)
      else if (!this.isUp && side.back === undefined) side.askBack(messageOf(error))
    }
  }

  #failed(): void {
    this.#retryAtMs = this.#deps.clock.monotonic() + this.#retryMs
    this.#retryMs = Math.min(retryMsMax, this.#retryMs * 2)
  }

  #add(lane: Lane): void {
    const { log } = this.#deps
    const { peer, side, closed, onBan } = this.#options
    if (closed.aborted) {
      lane.close(closed.reason as Error)
      return
    }
    this.#lanes.add(lane)
    side.add(lane)
    const onClosed = (): void => {
      this.#lanes.delete(lane)
      // One that carried nothing was none.
      if (lane.bytesReceived > 0) this.#retryMs = retryMsFirst
      this.#failed()
      log.debug('a lane closed', { peer, reason: messageOf(lane.closed.reason) })
      if (lane.closed.reason instanceof ProtocolError) onBan(lane.closed.reason)
    }
    lane.closed.addEventListener('abort', onClosed, { once: true })
    if (lane.closed.aborted) onClosed()
  }
}
