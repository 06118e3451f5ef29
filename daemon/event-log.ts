/**
 * What one operation has said, for any number of readers that come and go. Bounded by itself: of
 * progress only the latest counts, of notices the last hundred are kept. A slow reader finds the latest
 * when it looks; nothing queues for it.
 */

import type { ErrorBody, NoticeEvent, OperationResult, ProgressEvent } from '../src/api/contract.ts'
import type { Clock } from '../src/core/clock.ts'

/** Four a second are enough for the eye. */
const progressEveryMs = 250
/** A terminal's worth; who comes later has the log. */
const noticesMax = 100

type Entry = ProgressEvent | NoticeEvent | OperationResult | ErrorBody

interface Waiter {
  /** Waits for a moment, not for progress: it has one to show then. */
  readonly holding: boolean
  wake(): void
}

export class EventLog {
  readonly #clock: Clock
  readonly #waiting = new Set<Waiter>()
  readonly #notices: NoticeEvent[] = []
  /** Notices ever added; the oldest kept is number `#noticesAdded - #notices.length`. */
  #noticesAdded = 0
  #progress: ProgressEvent | null = null
  #progressAdded = 0
  #last: OperationResult | ErrorBody | undefined

  constructor(clock: Clock) {
    this.#clock = clock
  }

  get progress(): ProgressEvent | null {
    return this.#progress
  }

  /** What ended it, when that was an error. */
  get error(): ErrorBody | undefined {
    return this.#last?.type === 'error' ? this.#last : undefined
  }

  add(event: ProgressEvent | NoticeEvent): void {
    if (this.#last !== undefined) return
    if (event.type === 'progress') {
      this.#progress = event
      this.#progressAdded += 1
    } else {
      this.#notices.push(event)
      this.#noticesAdded += 1
      if (this.#notices.length > noticesMax) this.#notices.shift()
    }
    const isProgress = event.type === 'progress'
    for (const waiter of this.#waiting) if (!isProgress || !waiter.holding) waiter.wake()
  }

  /** The result or the error: nothing follows. */
  finish(last: OperationResult | ErrorBody): void {
    this.#last = last
    for (const waiter of this.#waiting) waiter.wake()
  }

  /** Notices and the latest progress, at most four a second, to the last event; or until the signal. */
  async *read(signal: AbortSignal): AsyncGenerator<Entry> {
    let noticesSeen = 0
    let progressSeen = 0
    let nextProgressMs = -Infinity
    while (!signal.aborted) {
      const notice = this.#noticeAfter(noticesSeen)
      const now = this.#clock.monotonic()
      const fresh = progressSeen < this.#progressAdded && this.#progress !== null
      if (notice !== undefined) {
        noticesSeen = notice.number
        yield notice.event
      } else if (fresh && (now >= nextProgressMs || this.#last !== undefined)) {
        progressSeen = this.#progressAdded
        nextProgressMs = now + progressEveryMs
        yield this.#progress as ProgressEvent
      } else if (this.#last === undefined) {
        // Nothing was awaited since we looked, so no change can be missed.
        await this.#change(signal, fresh ? nextProgressMs - now : undefined)
      } else {
        yield this.#last
        return
      }
    }
  }

  /** The first notice that a reader of the first `seen` has not had and that is still kept. */
  #noticeAfter(seen: number): { event: NoticeEvent; number: number } | undefined {
    const index = Math.max(seen - (this.#noticesAdded - this.#notices.length), 0)
    const event = this.#notices[index]
    if (event === undefined) return undefined
    return { event, number: this.#noticesAdded - this.#notices.length + index + 1 }
  }

  /** Until something was added, the signal aborts, or `ms` have passed. */
  async #change(signal: AbortSignal, ms: number | undefined): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    const wake = (): void => resolve()
    const waiter: Waiter = { holding: ms !== undefined, wake }
    const rest = new AbortController()
    this.#waiting.add(waiter)
    signal.addEventListener('abort', wake, { once: true })
    // Ends by time, or by our own abort below, which is no error.
    if (ms !== undefined) void this.#clock.sleep(ms, rest.signal).then(wake, () => undefined)
    try {
      await promise
    } finally {
      this.#waiting.delete(waiter)
      signal.removeEventListener('abort', wake)
      rest.abort()
    }
  }
}
