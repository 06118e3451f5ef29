/** Small concurrency tools; every one takes a signal and forwards its reason. */

/**
 * Runs `work` over `items` with at most `inFlightMax` at a time and yields results as they finish.
 * The first failure ends the iteration; work already started sees an aborted signal.
 */
export async function* mapLimit<T, R>(
  items: Iterable<T> | AsyncIterable<T>,
  inFlightMax: number,
  work: (item: T, signal: AbortSignal) => Promise<R>,
  signal?: AbortSignal,
): AsyncGenerator<R> {
  const stop = new AbortController()
  const inner = signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal])
  const running = new Set<Promise<{ self: Promise<unknown>; result: R }>>()
  try {
    for await (const item of items) {
      inner.throwIfAborted()
      const task: Promise<{ self: Promise<unknown>; result: R }> = work(item, inner).then(
        result => ({ self: task, result }),
      )
      // Items may come slowly: a task that fails meanwhile is heard when it is next waited for.
      task.catch(() => undefined)
      running.add(task)
      if (running.size >= inFlightMax) yield await takeFirst(running)
    }
    while (running.size > 0) yield await takeFirst(running)
  } finally {
    stop.abort()
    await Promise.allSettled(running)
  }
}

async function takeFirst<R>(
  running: Set<Promise<{ self: Promise<unknown>; result: R }>>,
): Promise<R> {
  const { self, result } = await Promise.race(running)
  running.delete(self as Promise<{ self: Promise<unknown>; result: R }>)
  return result
}

/** Rejects with the signal's reason once it aborts; settles with `work` otherwise. */
export async function raceSignal<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted()
  const aborted = Promise.withResolvers<never>()
  const onAbort = (): void => aborted.reject(signal.reason as Error)
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    return await Promise.race([work, aborted.promise])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}

/**
 * A queue that one side pushes to and the other iterates; `end` finishes the iteration, `fail`
 * throws out of it. Bounded by the producer: check `size` before pushing what can wait.
 */
export class AsyncQueue<T> implements AsyncIterable<T> {
  readonly #items: T[] = []
  #wake: (() => void) | undefined
  #ended = false
  #error: Error | undefined

  get size(): number {
    return this.#items.length
  }

  push(item: T): void {
    if (this.#ended) return
    this.#items.push(item)
    this.#wake?.()
  }

  end(): void {
    this.#ended = true
    this.#wake?.()
  }

  fail(error: Error): void {
    this.#error = error
    this.end()
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T> {
    for (;;) {
      while (this.#items.length > 0) yield this.#items.shift() as T
      if (this.#ended) {
        if (this.#error !== undefined) throw this.#error
        return
      }
      const woken = Promise.withResolvers<void>()
      this.#wake = woken.resolve
      await woken.promise
      this.#wake = undefined
    }
  }
}
