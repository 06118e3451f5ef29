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

/**
 * What holds for one download: its own limit for all that it asks for, the node's but for sources on
 * this machine or its LAN.
 */
export class DownloadLimits {
  readonly #near: readonly Allowance[]
  readonly #far: readonly Allowance[]
  /** What something was held back by, and is not waited for yet. */
  readonly #closed = new Set<Allowance>()
  /** How to stop waiting for each. */
  readonly #waits = new Map<Allowance, () => void>()

  constructor({ own, node }: { own?: Allowance | undefined; node?: Allowance | undefined }) {
    const of = (...limits: (Allowance | undefined)[]): Allowance[] =>
      limits.filter(limit => limit !== undefined)
    this.#near = of(own)
    this.#far = of(own, node)
  }

  get isWaiting(): boolean {
    return this.#waits.size > 0
  }

  /** False is remembered: `awaitTurns` then waits for what said no. */
  allow(isNear: boolean): boolean {
    const closed = this.#of(isNear).find(({ isOpen }) => !isOpen)
    if (closed !== undefined) this.#closed.add(closed)
    return closed === undefined
  }

  /** A negative number gives back. */
  spend(isNear: boolean, bytes: number): void {
    for (const limit of this.#of(isNear)) limit.spend(bytes)
  }

  /** Calls `use` in the turn of each limit that held something back: one may be open long before the other. */
  awaitTurns(use: () => void): void {
    for (const limit of this.#closed) {
      if (this.#waits.has(limit)) continue
      const leave = limit.whenOpen(() => {
        this.#waits.delete(limit)
        use()
      })
      this.#waits.set(limit, leave)
    }
    this.#closed.clear()
  }

  leave(): void {
    for (const leave of this.#waits.values()) leave()
    this.#waits.clear()
  }

  #of(isNear: boolean): readonly Allowance[] {
    return isNear ? this.#near : this.#far
  }
}
