/**
 * The bytes that may be asked for and not yet written at a time: what bounds the memory of the data
 * plane, whatever the downloads and the peers do. First come, first served.
 */

interface Waiter {
  readonly bytes: number
  readonly grant: () => void
}

export class InFlight {
  readonly #bytesMax: number
  readonly #waiting = new Set<Waiter>()
  #bytes = 0

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax
  }

  get bytes(): number {
    return this.#bytes
  }

  /** Runs `work` once so many bytes are free; rejects without running it when aborted before. */
  async run<T>(bytes: number, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    const taken = Math.min(bytes, this.#bytesMax)
    if (this.#waiting.size > 0 || this.#bytes + taken > this.#bytesMax) {
      await this.#wait(taken, signal)
    } else {
      this.#bytes += taken
    }
    try {
      return await work()
    } finally {
      this.#bytes -= taken
      this.#grant()
    }
  }

  /** Resolves with the bytes taken. */
  #wait(bytes: number, signal: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const onAbort = (): void => {
      this.#waiting.delete(waiter)
      reject(signal.reason as Error)
      // It may have been what the others were waiting behind.
      this.#grant()
    }
    const waiter = {
      bytes,
      grant() {
        signal.removeEventListener('abort', onAbort)
        resolve()
      },
    }
    this.#waiting.add(waiter)
    signal.addEventListener('abort', onAbort, { once: true })
    return promise
  }

  #grant(): void {
    for (const waiter of this.#waiting) {
      if (this.#bytes + waiter.bytes > this.#bytesMax) return
      this.#waiting.delete(waiter)
      this.#bytes += waiter.bytes
      waiter.grant()
    }
  }
}
