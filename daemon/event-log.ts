/**
 * What one operation has said, for any number of readers that come and go. Bounded by itself: of
 * progress only the latest counts, of notices the last hundred are kept, of results for single models
 * the last ten thousand. A slow reader finds the latest when it looks; nothing queues for it.
 */

import type { AdoptedEvent } from '../src/api/adoption.ts'
import type { ErrorBody, NoticeEvent, OperationResult, ProgressEvent } from '../src/api/contract.ts'
import type { Clock } from '../src/core/clock.ts'

/** Four a second are enough for the eye. */
const progressEveryMs = 250
/** A terminal's worth; who comes later has the log. */
const noticesMax = 100
/** Each is asked for, and none stands for another: more models than a cache has. */
const adoptedMax = 10_000

type Entry = ProgressEvent | NoticeEvent | AdoptedEvent | OperationResult | ErrorBody

/** The last of many, by their number. */
class Tail<T> {
  readonly #kept: T[] = []
  readonly #most: number
  /** Ever added; the oldest kept is number `added - kept`. */
  #added = 0

  constructor(most: number) {
    this.#most = most
  }

  add(item: T): void {
    this.#kept.push(item)
    this.#added += 1
    if (this.#kept.length > this.#most) this.#kept.shift()
  }

  /** The first that a reader of the first `seen` has not had and that is still kept. */
  after(seen: number): { item: T; number: number } | undefined {
    const index = Math.max(seen - (this.#added - this.#kept.length), 0)
    const item = this.#kept[index]
    if (item === undefined) return undefined
    return { item, number: this.#added - this.#kept.length + index + 1 }
  }
}

interface Waiter {
  /** Waits for a moment, not for progress: it has one to show then. */
  readonly holding: boolean
  wake(): void
}

export class EventLog {
  readonly #clock: Clock
  readonly #waiting = new Set<Waiter>()
  readonly #notices = new Tail<NoticeEvent>(noticesMax)
  readonly #adopted = new Tail<AdoptedEvent>(adoptedMax)
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

  add(event: ProgressEvent | NoticeEvent | AdoptedEvent): void {
    if (this.#last !== undefined) return
    if (event.type === 'progress') {
      this.#progress = event
      this.#progressAdded += 1
    } else if (event.type === 'adopted') {
      this.#adopted.add(event)
    } else {
      this.#notices.add(event)
    }
    const isProgress = event.type === 'progress'
    for (const waiter of this.#waiting) if (!isProgress || !waiter.holding) waiter.wake()
  }

  /** The result or the error: nothing follows. */
  finish(last: OperationResult | ErrorBody): void {
    this.#last = last
    for (const waiter of this.#waiting) waiter.wake()
  }

  /** Notices, models and the latest progress, at most four a second, to the last event; or until the signal. */
  async *read(signal: AbortSignal): AsyncGenerator<Entry> {
    let noticesSeen = 0
    let adoptedSeen = 0
    let progressSeen = 0
    let nextProgressMs = -Infinity
    while (!signal.aborted) {
      const notice = this.#notices.after(noticesSeen)
      const adopted = this.#adopted.after(adoptedSeen)
      const now = this.#clock.monotonic()
      const fresh = progressSeen < this.#progressAdded && this.#progress !== null
      if (notice !== undefined) {
        noticesSeen = notice.number
        yield notice.item
      } else if (adopted !== undefined) {
        adoptedSeen = adopted.number
        yield adopted.item
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
