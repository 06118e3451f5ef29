/** Time as a dependency, so that deciding code can be tested without waiting. */

import { setTimeout as delay } from 'node:timers/promises'

export interface Clock {
  /** Wall-clock milliseconds since the epoch: for records and expiry. */
  now(): number
  /** Monotonic milliseconds: for rates, deadlines and leases. */
  monotonic(): number
  /** Resolves after `ms`, or rejects with the signal's reason. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  async sleep(ms, signal) {
    try {
      await delay(ms, undefined, signal === undefined ? {} : { signal })
    } catch (error) {
      signal?.throwIfAborted()
      throw error
    }
  },
}
