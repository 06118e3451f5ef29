/**
 * Who is served now: a bounded number of peers at a time, each for a turn, round and round. A few
 * peers that get a chunk every few seconds are of more use to a swarm than many that wait for one
 * until they give up; and a peer with many requests or several channels gets no more than another.
 */

import type { Clock } from '../../core/clock.ts'
import { KiB, second } from '../../core/units.ts'

/** Served at a time when nothing limits the speed: enough to fill any line, whoever reads slowly. */
export const uploadSlotsMax = 32
/** A peer that is served gets this much of a limit: a chunk in the four seconds it waits without doubt. */
export const slotBytesPerSecond = 256 * KiB
/** A peer that takes nothing for so long lends its slot to the next one. */
const idleMs = 2 * second
/** Who was served so lately counts as being served: with few requests open it has nothing to ask for a moment. */
const lateMs = second
/** While peers wait, idle slots are looked for this often. */
const checkMs = second

/** How many peers are served at a time within a limit. */
export function slotsFor(bytesPerSecond: number | undefined): number {
  if (bytesPerSecond === undefined) return uploadSlotsMax
  return Math.min(uploadSlotsMax, Math.max(1, Math.floor(bytesPerSecond / slotBytesPerSecond)))
}

export interface UploadSlots {
  /** A slot for one channel of the peer; rejects with the signal's reason. */
  take(peer: string, signal: AbortSignal): Promise<UploadSlot>
}

export interface UploadSlot extends Disposable {
  /** Somebody waits for it: it ends with the turn. */
  readonly isWanted: boolean
  /** The peer took something. */
  progressed(): void
}

interface Waiter {
  grant(): void
}

interface Held {
  readonly peer: string
  progressAtMs: number
}

export function openUploadSlots(clock: Clock, slotsMax: () => number): UploadSlots {
  return new OpenUploadSlots(clock, slotsMax)
}

class OpenUploadSlots implements UploadSlots {
  readonly #clock: Clock
  readonly #slotsMax: () => number
  readonly #held = new Set<Held>()
  /** By peer, in the order in which peers are served: whoever is granted a slot goes to the end. */
  readonly #waiting = new Map<string, Waiter[]>()
  /** When each peer last gave a slot back, the latest last. */
  readonly #served = new Map<string, number>()
  #stopChecks: AbortController | undefined

  constructor(clock: Clock, slotsMax: () => number) {
    this.#clock = clock
    this.#slotsMax = slotsMax
  }

  async take(peer: string, signal: AbortSignal): Promise<UploadSlot> {
    signal.throwIfAborted()
    if (this.#waiting.size === 0 && this.#mayHold(peer)) return this.#hold(peer)
    const granted = Promise.withResolvers<UploadSlot>()
    const onAbort = (): void => {
      this.#leave(peer, waiter)
      granted.reject(signal.reason as Error)
      // The one that left may have been what its own peer's other channels were held back for.
      this.#grantNext()
    }
    const waiter: Waiter = {
      grant: () => {
        signal.removeEventListener('abort', onAbort)
        granted.resolve(this.#hold(peer))
      },
    }
    const others = this.#waiting.get(peer)
    if (others === undefined) this.#waiting.set(peer, [waiter])
    else others.push(waiter)
    signal.addEventListener('abort', onAbort, { once: true })
    this.#grantNext()
    this.#check()
    return granted.promise
  }

  /** One slot for each peer, and more only while there is nobody else to serve. */
  #mayHold(peer: string): boolean {
    if (this.#held.size >= this.#slotsMax()) return false
    const isOther = (name: string): boolean => name !== peer
    const holders = this.#held.values().map(held => held.peer)
    if (!holders.some(name => name === peer)) return true
    this.#forgetServed()
    const active = [this.#waiting, this.#served].flatMap(peers => [...peers.keys()])
    return !active.some(isOther) && !this.#held.values().some(held => isOther(held.peer))
  }

  #hold(peer: string): UploadSlot {
    const held: Held = { peer, progressAtMs: this.#clock.monotonic() }
    this.#held.add(held)
    const waiting = this.#waiting
    return {
      get isWanted() {
        return waiting.size > 0
      },
      progressed: () => {
        held.progressAtMs = this.#clock.monotonic()
      },
      [Symbol.dispose]: () => {
        if (this.#held.delete(held)) {
          this.#served.delete(peer)
          this.#served.set(peer, this.#clock.monotonic())
        }
        this.#grantNext()
      },
    }
  }

  #forgetServed(): void {
    const sinceMs = this.#clock.monotonic() - lateMs
    for (const [peer, atMs] of this.#served) {
      if (atMs > sinceMs) return
      this.#served.delete(peer)
    }
  }

  #grantNext(): void {
    for (const [peer, waiters] of this.#waiting) {
      if (this.#held.size >= this.#slotsMax()) return
      const [next] = waiters
      if (next === undefined || !this.#mayHold(peer)) continue
      waiters.shift()
      this.#waiting.delete(peer)
      // Visited again in this very loop, after all others.
      if (waiters.length > 0) this.#waiting.set(peer, waiters)
      next.grant()
    }
    if (this.#waiting.size === 0) this.#stopChecks?.abort()
  }

  #leave(peer: string, waiter: Waiter): void {
    const left = this.#waiting.get(peer)?.filter(other => other !== waiter) ?? []
    if (left.length > 0) this.#waiting.set(peer, left)
    else this.#waiting.delete(peer)
  }

  /** While somebody waits: slots of peers that do not read go to others, and a raised limit is seen. */
  #check(): void {
    if (this.#stopChecks !== undefined || this.#waiting.size === 0) return
    const stop = new AbortController()
    this.#stopChecks = stop
    const run = async (): Promise<void> => {
      for (;;) {
        await this.#clock.sleep(checkMs, stop.signal)
        this.#dropIdle()
        this.#grantNext()
      }
    }
    void run()
      .catch((error: unknown) => {
        if (!stop.signal.aborted) throw error
      })
      .finally(() => {
        this.#stopChecks = undefined
        // Somebody may have come since it was stopped.
        this.#check()
      })
  }

  #dropIdle(): void {
    const sinceMs = this.#clock.monotonic() - idleMs
    for (const held of this.#held) if (held.progressAtMs <= sinceMs) this.#held.delete(held)
  }
}
