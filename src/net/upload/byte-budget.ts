/**
 * Bytes that may be in memory at a time for serving, over all peers: first come, first served, so
 * that a peer with a long queue cannot keep a peer with a short one waiting. js-libp2p has no such
 * bound of its own.
 */

export interface ByteBudget {
  readonly bytesMax: number
  readonly bytesTaken: number
  /** Resolves once that many bytes are yours (at most the whole budget); rejects on abort. */
  take(bytes: number, signal: AbortSignal): Promise<ByteShare>
}

export interface ByteShare {
  /** Gives back what is above `bytes`. */
  shrink(bytes: number): void
  /** Gives everything back; calling it again does nothing. */
  release(): void
}

interface Waiter {
  readonly bytes: number
  readonly grant: () => void
}

export function openByteBudget(bytesMax: number): ByteBudget {
  let taken = 0
  let waiting: Waiter[] = []

  function grantNext(): void {
    for (let next = waiting[0]; next !== undefined; next = waiting[0]) {
      if (taken + next.bytes > bytesMax) return
      waiting.shift()
      next.grant()
    }
  }

  function share(bytes: number): ByteShare {
    let held = bytes
    taken += held
    return {
      shrink(to) {
        if (to >= held) return
        taken -= held - to
        held = to
        grantNext()
      },
      release() {
        taken -= held
        held = 0
        grantNext()
      },
    }
  }

  return {
    bytesMax,
    get bytesTaken() {
      return taken
    },
    take(asked, signal) {
      signal.throwIfAborted()
      const bytes = Math.min(asked, bytesMax)
      if (waiting.length === 0 && taken + bytes <= bytesMax) return Promise.resolve(share(bytes))
      const granted = Promise.withResolvers<ByteShare>()
      const onAbort = (): void => {
        waiting = waiting.filter(other => other !== waiter)
        granted.reject(signal.reason as Error)
        // The one that left may have been what the others were waiting behind.
        grantNext()
      }
      const waiter: Waiter = {
        bytes,
        grant() {
          signal.removeEventListener('abort', onAbort)
          granted.resolve(share(bytes))
        },
      }
      waiting.push(waiter)
      signal.addEventListener('abort', onAbort, { once: true })
      return granted.promise
    },
  }
}
