/**
 * A token bucket: how much may be done in a second, and at once after a pause. It may be overdrawn by
 * what cannot be split; whoever comes next then waits until that is paid off.
 */

import type { Clock } from './clock.ts'
import { second } from './units.ts'

export interface TokenRate {
  readonly perSecond: number
  /** What may be used at once after a pause. */
  readonly burst: number
}

export class TokenBucket {
  readonly #clock: Pick<Clock, 'monotonic'>
  readonly #rate: TokenRate
  #tokens: number
  #atMs: number

  /** Begins full. */
  constructor(clock: Pick<Clock, 'monotonic'>, rate: TokenRate) {
    this.#clock = clock
    this.#rate = rate
    this.#tokens = rate.burst
    this.#atMs = clock.monotonic()
  }

  /** Takes up to `wanted` whole tokens; returns how many. */
  takeUpTo(wanted: number): number {
    this.#refill()
    const taken = Math.max(0, Math.min(wanted, Math.floor(this.#tokens)))
    this.#tokens -= taken
    return taken
  }

  /** Takes all of them, whether they are there or not; a negative number gives back. */
  spend(tokens: number): void {
    this.#refill()
    this.#tokens -= tokens
  }

  /** Until no whole token is owed: 0 when something may be spent now. */
  get waitMs(): number {
    this.#refill()
    return this.#tokens > -1 ? 0 : (-this.#tokens / this.#rate.perSecond) * second
  }

  #refill(): void {
    const nowMs = this.#clock.monotonic()
    const earned = ((nowMs - this.#atMs) / second) * this.#rate.perSecond
    this.#atMs = nowMs
    this.#tokens = Math.min(this.#rate.burst, this.#tokens + earned)
  }
}
