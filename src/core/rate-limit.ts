/**
 * A limit in bytes per second that many share, and that can be changed while they wait: each gets its
 * turn in the order asked, and the rate holds over all of them together.
 */

import type { Clock } from './clock.ts'
import { InvalidInputError } from './errors.ts'
import { TokenBucket } from './token-bucket.ts'
import { formatRate, KiB, parseBytes, second } from './units.ts'

/** Peers take whoever is slower for stalled (transfer/scoreboard.ts). */
export const bytesPerSecondMin = 16 * KiB
/**
 * What may pass at once after a pause. Enough to make up for a timer or a busy event loop that comes
 * late; a fortieth of what passes in ten seconds.
 */
const burstMs = second / 4

/** `10MiB`, `500 KB/s`, `20000`: bytes per second; null for `off`. */
export function parseRate(text: string): number | null {
  const trimmed = text.trim()
  if (trimmed === 'off') return null
  const rate = parseBytes(trimmed.replace(/\/s$/, ''))
  if (rate !== undefined && rate >= bytesPerSecondMin) return rate
  const why = rate === undefined ? 'is no rate' : `is less than ${formatRate(bytesPerSecondMin)}`
  throw new InvalidInputError(`${JSON.stringify(text)} ${why}`, {
    hint: 'write bytes per second, as in 10MiB, 500KB or 200000, or off for no limit',
  })
}

export class RateLimit {
  readonly #clock: Clock
  #bytesPerSecond: number | undefined
  #bucket: TokenBucket | undefined
  #waiting: (() => void)[] = []
  /** While the one whose turn it is spends. */
  #isTurn = false
  #isRunning = false
  #changed = new AbortController()

  /** No limit when left out. */
  constructor(clock: Clock, bytesPerSecond?: number) {
    this.#clock = clock
    this.set(bytesPerSecond)
  }

  /** Undefined when there is no limit. */
  get bytesPerSecond(): number | undefined {
    return this.#bytesPerSecond
  }

  /** Holds from now on, also for those who wait. What was overdrawn at the old rate is forgiven. */
  set(bytesPerSecond: number | undefined): void {
    this.#bytesPerSecond = bytesPerSecond
    if (bytesPerSecond === undefined) {
      this.#bucket = undefined
    } else {
      const burst = (bytesPerSecond * burstMs) / second
      this.#bucket = new TokenBucket(this.#clock, { perSecond: bytesPerSecond, burst })
      this.#bucket.spend(burst)
    }
    this.#wake()
  }

  /** Something may be spent now, without overtaking anybody. */
  get isOpen(): boolean {
    if (this.#bucket === undefined) return true
    return (this.#isTurn || this.#waiting.length === 0) && this.#bucket.waitMs === 0
  }

  /** May overdraw: what follows waits for it. A negative number gives back. */
  spend(bytes: number): void {
    this.#bucket?.spend(bytes)
    // What was given back is there sooner than the timer of those who wait.
    if (bytes < 0) this.#wake()
  }

  /** Calls `use` once, when its turn has come and `isOpen` holds; returns how to stop waiting. */
  whenOpen(use: () => void): () => void {
    const turn = (): void => use()
    this.#waiting.push(turn)
    if (!this.#isRunning) void this.#run()
    return () => {
      this.#waiting = this.#waiting.filter(other => other !== turn)
      // Nobody is left for whom to keep a timer, which would keep the process.
      if (this.#waiting.length === 0) this.#wake()
    }
  }

  /** Resolves when so many bytes are yours to send; rejects with the signal's reason. */
  async take(bytes: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    if (this.isOpen) {
      this.spend(bytes)
      return
    }
    const taken = Promise.withResolvers<void>()
    const leave = this.whenOpen(() => {
      this.spend(bytes)
      taken.resolve()
    })
    const onAbort = (): void => {
      leave()
      taken.reject(signal.reason as Error)
    }
    signal.addEventListener('abort', onAbort, { once: true })
    await taken.promise.finally(() => signal.removeEventListener('abort', onAbort))
  }

  async #run(): Promise<void> {
    this.#isRunning = true
    // Whoever asks first is not called before it has heard that it waits.
    await Promise.resolve()
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      const waitMs = this.#bucket?.waitMs ?? 0
      if (waitMs > 0) {
        await this.#sleep(Math.ceil(waitMs))
        continue
      }
      this.#waiting.shift()
      this.#isTurn = true
      next()
      this.#isTurn = false
    }
    this.#isRunning = false
  }

  async #sleep(ms: number): Promise<void> {
    const { signal } = this.#changed
    try {
      await this.#clock.sleep(ms, signal)
    } catch (error) {
      if (!signal.aborted) throw error
    }
  }

  #wake(): void {
    this.#changed.abort()
    this.#changed = new AbortController()
  }
}
