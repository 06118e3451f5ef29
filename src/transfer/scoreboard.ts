/**
 * What one source is worth, measured: its rate and latency, how much to ask of it at a time, when an
 * answer is late, and how far its claims are believed. Times are monotonic milliseconds, handed in.
 */

import { KiB, MiB, hour, second } from '../core/units.ts'
import { chunkBytesMax } from '../dag/chunk-table.ts'

/** Asked of a source of which nothing is known yet, and at least of any that answers. */
const startBytes = 4 * chunkBytesMax
const windowBytesMin = 2 * chunkBytesMax
/** Twice the product of rate and delay keeps a pipe full; more than this is only memory. */
const windowBytesMax = 64 * MiB
const productsInFlight = 2
/**
 * The delay of a pipe at least: on a loopback or a LAN the threads of either side wait for a core longer
 * than bytes travel, and a window of two chunks leaves them idle a tenth of the time.
 */
const delayMsMin = 10
/** Requests before the first answer: a model of small files is not all asked of whoever comes first. */
const startRequests = 16
/** Requests at a time where the source names no bound. */
const requestsDefault = 64
/** And whatever it names: each costs us a promise and a signal. */
const requestsMost = 1024

/** A request is late after four times what it should take, and never before this. */
const deadlineMsMin = 5 * second
const deadlineFactor = 4
/** What the first answer of a source should take. */
const firstAnswerMs = second

/** A source that delivers nothing for this long, and the time its oldest request takes at the least rate, stalls. */
const stallMs = 20 * second
const leastBytesPerMs = (16 * KiB) / second
/** How long a source that stalled is left alone; doubles each time. */
const pauseMsFirst = 30 * second
const pauseMsMax = 600 * second
/** After "busy". */
const busyMs = second

/** The pipe is let run down so often, because a full one hides how long the way is. */
const latencyExpiresMs = 30 * second
/** Rises are believed at once, falls slowly and only from a full pipe. */
const riseWeight = 0.5
const fallWeight = 0.1
/** Clocks are coarse: nothing takes no time. */
const elapsedMsMin = 0.05

/** Claims not served (less those served since) after which a source's claims count for nothing. */
const brokenClaimsMax = 3
const claimsIgnoredMs = hour

/**
 * Chunks whose claims a source may change: a few times all there are, and so many more with time. A
 * word of a few bytes can change a million, and each costs us work.
 */
const claimChangesFactor = 8
const claimChangesPerMs = 100

/** One request in flight at one source. */
export interface Ask {
  readonly bytes: number
  readonly sentAtMs: number
  /** When it should be answered, from what was measured. */
  readonly expectedAtMs: number
  readonly deadlineMs: number
  /** Bytes in flight before it, and delivered until then. */
  readonly ahead: number
  readonly deliveredBefore: number
  readonly isPipeFull: boolean
  /** It lost the chunk and has it again: what it answers may be about the time between. */
  isReclaimed?: boolean
}

/** What outlives the connection: kept by source id for the whole download. */
export interface Blame {
  /** Why it is out for the rest of this download. */
  banned: Error | undefined
  brokenClaims: number
  claimsIgnoredUntilMs: number
  pausedUntilMs: number
  pauseMs: number
}

export function noBlame(): Blame {
  return {
    banned: undefined,
    brokenClaims: 0,
    claimsIgnoredUntilMs: 0,
    pausedUntilMs: 0,
    pauseMs: pauseMsFirst,
  }
}

export class Score {
  readonly blame: Blame
  readonly #requestsMax: number
  #requests = 0
  #bytesInFlight = 0
  #delivered = 0
  #lastDeliveryMs = 0
  /** Bytes per millisecond; 0 until measured. */
  #rate = 0
  #latencyMs = Infinity
  #latencyExpiresMs = 0
  #isMeasuringLatency = false
  #isSnubbed = false
  #busyUntilMs = 0
  #claimChanges = 0
  #claimsSinceMs: number | undefined

  constructor(blame: Blame, requestsMax = requestsDefault) {
    this.blame = blame
    this.#requestsMax = Math.min(requestsMost, Math.max(1, requestsMax))
  }

  get delivered(): number {
    return this.#delivered
  }

  get bytesInFlight(): number {
    return this.#bytesInFlight
  }

  get requestsInFlight(): number {
    return this.#requests
  }

  /** Bytes per second; 0 until measured. */
  get rate(): number {
    return this.#rate * second
  }

  get lastDeliveryMs(): number {
    return this.#lastDeliveryMs
  }

  /** Late with an answer and silent since. */
  get isSnubbed(): boolean {
    return this.#isSnubbed
  }

  /** Bytes that may be in flight here. */
  get windowBytes(): number {
    if (this.#isSnubbed) return 0
    if (this.#rate === 0) return startBytes
    if (this.#isMeasuringLatency) return windowBytesMin
    const product = this.#rate * Math.max(delayMsMin, this.#latencyMs)
    return Math.min(windowBytesMax, Math.max(windowBytesMin, productsInFlight * product))
  }

  /** Whether one more chunk may be asked for. One is always possible: it is how a snub ends. */
  hasRoom(nowMs: number): boolean {
    if (nowMs < this.#busyUntilMs) return false
    if (this.#requests === 0) return true
    const requestsMax = this.#rate === 0 ? startRequests : this.#requestsMax
    if (this.#requests >= Math.min(requestsMax, this.#requestsMax)) return false
    return this.#bytesInFlight + chunkBytesMax <= this.windowBytes
  }

  /** What an answer of so many bytes, asked for now, should take. */
  expectedMs(bytes: number): number {
    if (this.#rate === 0) return firstAnswerMs
    return (this.#bytesInFlight + bytes) / this.#rate + this.#latencyMs
  }

  asked(bytes: number, nowMs: number): Ask {
    if (nowMs >= this.#latencyExpiresMs && this.#rate > 0) this.#isMeasuringLatency = true
    // A pipe that was empty has no delivery to wait for: silence counts from now.
    if (this.#requests === 0) this.#lastDeliveryMs = nowMs
    const expectedMs = this.expectedMs(bytes)
    const ask = {
      bytes,
      sentAtMs: nowMs,
      expectedAtMs: nowMs + expectedMs,
      deadlineMs: nowMs + Math.max(deadlineMsMin, deadlineFactor * expectedMs),
      ahead: this.#bytesInFlight,
      deliveredBefore: this.#delivered,
      isPipeFull: this.#bytesInFlight * 2 >= this.windowBytes,
    }
    this.#requests += 1
    this.#bytesInFlight += bytes
    return ask
  }

  /** The answer came. */
  arrived(ask: Ask, nowMs: number): void {
    this.ended(ask)
    this.#delivered += ask.bytes
    this.#lastDeliveryMs = nowMs
    this.#isSnubbed = false
    this.blame.pauseMs = pauseMsFirst
    const elapsedMs = Math.max(elapsedMsMin, nowMs - ask.sentAtMs)
    this.#measureRate((this.#delivered - ask.deliveredBefore) / elapsedMs, ask.isPipeFull)
    const isClean = this.#isMeasuringLatency && ask.ahead < windowBytesMin
    if (isClean || this.#latencyMs === Infinity) {
      this.#latencyMs = elapsedMs
      this.#latencyExpiresMs = nowMs + latencyExpiresMs
      this.#isMeasuringLatency = false
    } else {
      this.#latencyMs = Math.min(this.#latencyMs, elapsedMs)
    }
  }

  /** It will not be answered any more: cancelled, refused, failed. */
  ended(ask: Ask): void {
    this.#requests -= 1
    this.#bytesInFlight -= ask.bytes
  }

  isSilent(nowMs: number): boolean {
    return nowMs - this.#lastDeliveryMs >= deadlineMsMin
  }

  /** A deadline passed in silence: no more is asked of it until it answers. */
  snub(): void {
    this.#isSnubbed = true
  }

  /** Whether so long a silence, with `oldest` in flight, means that nothing will come. */
  isStalled(oldest: Ask, nowMs: number): boolean {
    const silentMs = nowMs - Math.max(this.#lastDeliveryMs, oldest.sentAtMs)
    return silentMs > stallMs + oldest.bytes / leastBytesPerMs
  }

  /** Left alone for a while, longer each time. */
  pause(nowMs: number): void {
    this.blame.pausedUntilMs = nowMs + this.blame.pauseMs
    this.blame.pauseMs = Math.min(pauseMsMax, this.blame.pauseMs * 2)
  }

  /** It said that it is busy. */
  busy(nowMs: number): void {
    this.#busyUntilMs = nowMs + busyMs
  }

  /** Counts claims that it changes; false once they are more than an honest source has use for. */
  mayChangeClaims(changes: number, chunks: number, nowMs: number): boolean {
    this.#claimsSinceMs ??= nowMs
    this.#claimChanges += changes
    const earned = (nowMs - this.#claimsSinceMs) * claimChangesPerMs
    return this.#claimChanges <= claimChangesFactor * chunks + earned
  }

  /** It did not serve what it claimed to hold; true when its claims are ignored from now on. */
  brokeClaim(nowMs: number): boolean {
    const { blame } = this
    const isIgnored = nowMs < blame.claimsIgnoredUntilMs
    // Their time is over, and so is what led to it.
    if (!isIgnored && blame.brokenClaims >= brokenClaimsMax) blame.brokenClaims = 0
    blame.brokenClaims += 1
    if (blame.brokenClaims < brokenClaimsMax) return false
    blame.claimsIgnoredUntilMs = nowMs + claimsIgnoredMs
    return !isIgnored
  }

  keptClaim(): void {
    if (this.blame.brokenClaims > 0) this.blame.brokenClaims -= 1
  }

  /** It says that it lost what it had refused: it noticed by our request, and has not lied. */
  tookBackClaim(): void {
    this.keptClaim()
    if (this.blame.brokenClaims < brokenClaimsMax) this.blame.claimsIgnoredUntilMs = 0
  }

  /** Paused, not believed, or silent with what it was asked: its claims keep nobody waiting. */
  isOut(nowMs: number): boolean {
    const isMute = this.#isSnubbed && this.#requests > 0
    return isMute || nowMs < this.blame.pausedUntilMs || nowMs < this.blame.claimsIgnoredUntilMs
  }

  #measureRate(sample: number, isPipeFull: boolean): void {
    if (this.#rate === 0) this.#rate = sample
    else if (sample > this.#rate) this.#rate += riseWeight * (sample - this.#rate)
    else if (isPipeFull) this.#rate += fallWeight * (sample - this.#rate)
  }
}
