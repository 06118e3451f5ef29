/** Room for chunks that are only read to be hashed: a few buffers that everybody takes turns with. */

import { chunkBytesMax } from '../core/limits.ts'

/** Node reads four files at a time; as many again are being hashed or copied from. */
const buffersMax = 8

export class Scratch {
  readonly #free: Buffer[] = []
  #made = 0
  readonly #waiting: ((buffer: Buffer) => void)[] = []

  /** The buffer has room for a chunk, and is somebody else's afterwards. */
  async use<T>(work: (buffer: Buffer) => Promise<T>): Promise<T> {
    const buffer = await this.#take()
    try {
      return await work(buffer)
    } finally {
      const next = this.#waiting.shift()
      if (next === undefined) this.#free.push(buffer)
      else next(buffer)
    }
  }

  #take(): Buffer | Promise<Buffer> {
    const free = this.#free.pop()
    if (free !== undefined) return free
    if (this.#made === buffersMax) return new Promise(resolve => this.#waiting.push(resolve))
    this.#made += 1
    return Buffer.allocUnsafeSlow(chunkBytesMax)
  }
}
