/** Who reads which file through the gateway: it is in use until its last reader has been gone for a while. */

import type { CID } from '../../core/cid.ts'
import type { Clock } from '../../core/clock.ts'
import { second } from '../../core/units.ts'

/** Clients come back after a pause, or read the next range: starting anew each time would cost more. */
export const lingerMs = 30 * second

export interface ReadersDeps {
  readonly clock: Clock
  /** Aborts when nobody is to be waited for any more. */
  readonly closing: AbortSignal
  /** Its last reader left, and may come back. */
  onPause(root: CID): void
  /** Nobody has read the file for `lingerMs`. */
  onIdle(root: CID): void
}

interface Entry {
  readers: number
  /** Ends the wait of a file that nobody reads. */
  returned: AbortController
}

export class Readers {
  readonly #deps: ReadersDeps
  readonly #files = new Map<string, Entry>()

  constructor(deps: ReadersDeps) {
    this.#deps = deps
  }

  /** Somebody reads it, or did so a moment ago. */
  isUsed(root: CID): boolean {
    return this.#files.has(root.toString())
  }

  /** To be followed by `leave`. */
  enter(root: CID): void {
    const key = root.toString()
    const entry = this.#files.get(key) ?? { readers: 0, returned: new AbortController() }
    entry.readers += 1
    entry.returned.abort()
    this.#files.set(key, entry)
  }

  leave(root: CID): void {
    const entry = this.#files.get(root.toString())
    if (entry === undefined) return
    entry.readers -= 1
    if (entry.readers > 0) return
    this.#deps.onPause(root)
    void this.#linger(root, entry)
  }

  async #linger(root: CID, entry: Entry): Promise<void> {
    const { clock, closing } = this.#deps
    const returned = new AbortController()
    entry.returned = returned
    try {
      await clock.sleep(lingerMs, AbortSignal.any([returned.signal, closing]))
    } catch {
      // Somebody reads it again, or the node closes.
      return
    }
    this.#files.delete(root.toString())
    this.#deps.onIdle(root)
  }
}
