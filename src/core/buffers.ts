/**
 * Memory for chunks, used again and again: a fresh MiB costs more than receiving into it, since the
 * system has to find and clear its pages. How many are out at a time is bounded by whoever takes them.
 */

import { chunkBytesMax } from './limits.ts'
import { KiB } from './units.ts'

/** Smaller chunks get memory of their own size: thousands of them may be in flight. */
const pooledBytesMin = 64 * KiB
/** Kept for the next chunks. More are out at a time only while the disk is slower than the network. */
const keptMaxDefault = 8

export class BufferPool {
  /** The one given back last is taken first: it is still in the processor's cache. */
  readonly #free: Uint8Array[] = []
  readonly #keptMax: number

  constructor(keptMax = keptMaxDefault) {
    this.#keptMax = keptMax
  }

  /** At least `bytes`, not zeroed. */
  take(bytes: number): Uint8Array {
    if (bytes <= pooledBytesMin) return Buffer.allocUnsafeSlow(bytes)
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(chunkBytesMax)
  }

  /** What `take` gave, once nobody writes to it or reads it any more. */
  give(buffer: Uint8Array): void {
    if (buffer.length === chunkBytesMax && this.#free.length < this.#keptMax)
      this.#free.push(buffer)
  }
}
