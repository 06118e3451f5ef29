/**
 * The sending half that all transports share: parts that are sent in one turn of the event loop leave
 * together, and whoever sends much waits for room. When the end comes, everybody waiting hears of it.
 */

import { raceSignal } from '../core/async.ts'
import { KiB } from '../core/units.ts'

/** More than this leaves at once; smaller frames of one turn become one TLS record, one encryption. */
const coalesceBytes = 64 * KiB

/** Gives bytes to whatever carries them; called with at least one part. */
export type WriteParts = (parts: Uint8Array[], bytes: number) => void

export class Outbox {
  readonly #write: WriteParts
  readonly #closing = new AbortController()
  #parts: Uint8Array[] = []
  #bytes = 0
  #timer: ReturnType<typeof setImmediate> | undefined
  #room: PromiseWithResolvers<void> | undefined
  #hasRoom = true
  bytesSent = 0

  constructor(write: WriteParts) {
    this.#write = write
  }

  /** Aborted, with the reason, from the end on. */
  get closed(): AbortSignal {
    return this.#closing.signal
  }

  /** Whether more is welcome: what carries the bytes says so. */
  get hasRoom(): boolean {
    return this.#hasRoom
  }

  set hasRoom(hasRoom: boolean) {
    this.#hasRoom = hasRoom
    if (!hasRoom) return
    this.#room?.resolve()
    this.#room = undefined
  }

  /** The parts must not change until they are out. Returns whether more is welcome. */
  send(parts: readonly Uint8Array[]): boolean {
    if (this.closed.aborted) return false
    for (const part of parts) {
      this.#parts.push(part)
      this.#bytes += part.length
    }
    if (this.#bytes >= coalesceBytes) this.flush()
    else this.#timer ??= setImmediate(() => this.flush())
    return this.#hasRoom
  }

  flush(): void {
    if (this.#timer !== undefined) clearImmediate(this.#timer)
    this.#timer = undefined
    const parts = this.#parts
    const bytes = this.#bytes
    this.#parts = []
    this.#bytes = 0
    if (bytes === 0 || this.closed.aborted) return
    this.bytesSent += bytes
    this.#write(parts, bytes)
  }

  /** Resolves when more is welcome; rejects with the reason of the end, or the signal's. */
  async drained(signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted()
    this.closed.throwIfAborted()
    if (this.#hasRoom) return
    this.#room ??= Promise.withResolvers<void>()
    const { promise } = this.#room
    await (signal === undefined ? promise : raceSignal(promise, signal))
  }

  /** Nothing is sent any more. False when it was the end before. */
  end(reason: Error): boolean {
    if (this.closed.aborted) return false
    this.#closing.abort(reason)
    this.#parts = []
    this.#bytes = 0
    // Nobody may be waiting; a rejection nobody hears must not end the process.
    this.#room?.promise.catch(() => undefined)
    this.#room?.reject(reason)
    this.#room = undefined
    return true
  }
}
