/** How a download is told how much it may ask for. */

/** A limit as a download sees it; RateLimit of core/rate-limit.ts is one. */
export interface Allowance {
  /** Something may be spent now, without overtaking anybody. */
  readonly isOpen: boolean
  /** May overdraw: what follows waits for it. A negative number gives back. */
  spend(bytes: number): void
  /** Calls `use` once, when its turn has come and `isOpen` holds; returns how to stop waiting. */
  whenOpen(use: () => void): () => void
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
