/** The operations under way, so that a node that closes ends them and waits for them first. */

export interface Work extends AsyncDisposable {
  /** Aborted when the node closes. */
  readonly closing: AbortSignal
  /** Runs a task with a signal that aborts when the caller's does or the node closes. */
  run<T>(task: (signal: AbortSignal) => Promise<T>, signal?: AbortSignal): Promise<T>
}

export function openWork(): Work {
  const closing = new AbortController()
  const running = new Set<Promise<unknown>>()
  return {
    closing: closing.signal,
    async run(task, signal) {
      closing.signal.throwIfAborted()
      const both = signal === undefined ? closing.signal : AbortSignal.any([signal, closing.signal])
      const promise = task(both)
      running.add(promise)
      try {
        return await promise
      } finally {
        running.delete(promise)
      }
    },
    async [Symbol.asyncDispose]() {
      closing.abort(new DOMException('the node is closing', 'AbortError'))
      await Promise.allSettled(running)
    },
  }
}
