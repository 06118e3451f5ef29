/** How a download is told how much it may ask for. */

import { raceSignal } from '../core/async.ts'

/** A limit as a download sees it; RateLimit of core/rate-limit.ts is one. */
export interface Allowance {
  /** Something may be spent now, without overtaking anybody. */
  readonly isOpen: boolean
  /** May overdraw: what follows waits for it. A negative number gives back. */
  spend(bytes: number): void
  /** Calls `use` once, when its turn has come and `isOpen` holds; returns how to stop waiting. */
  whenOpen(use: () => void): () => void
}

/** Resolves when so many bytes are yours; rejects with the signal's reason. */
export async function takeFrom(
  allowance: Allowance,
  bytes: number,
  signal: AbortSignal,
): Promise<void> {
  const taken = Promise.withResolvers<void>()
  const leave = allowance.whenOpen(() => {
    allowance.spend(bytes)
    taken.resolve()
  })
  try {
    await raceSignal(taken.promise, signal)
  } finally {
    leave()
  }
}

/** What both limits allow; the first is nobody else's. */
export function bothAllow(own: Allowance, shared: Allowance): Allowance {
  return {
    get isOpen() {
      return own.isOpen && shared.isOpen
    },
    spend(bytes) {
      own.spend(bytes)
      shared.spend(bytes)
    },
    whenOpen(use) {
      let leave = own.whenOpen(() => {
        leave = shared.whenOpen(use)
      })
      return () => leave()
    },
  }
}
