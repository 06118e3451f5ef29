/** How often each of many may do something: a token bucket per name, bounded in number. */

import type { Clock } from '../core/clock.ts'

/** Names remembered; the one idle longest is forgotten, and by then has most of its burst back. */
const namesMax = 10_000

export interface TokenRate {
  readonly perSecond: number
  /** What may be used at once after a pause. */
  readonly burst: number
}

export interface TokenBuckets {
  /** Takes up to `wanted` whole tokens of this name; returns how many. */
  take(name: string, wanted: number): number
}

interface Bucket {
  readonly tokens: number
  readonly atMs: number
}

export function openTokenBuckets(
  clock: Pick<Clock, 'monotonic'>,
  { perSecond, burst }: TokenRate,
): TokenBuckets {
  const buckets = new Map<string, Bucket>()
  return {
    take(name, wanted) {
      const nowMs = clock.monotonic()
      const { tokens, atMs } = buckets.get(name) ?? { tokens: burst, atMs: nowMs }
      const refilled = Math.min(burst, tokens + ((nowMs - atMs) / 1000) * perSecond)
      const taken = Math.min(wanted, Math.floor(refilled))
      // Taken out and put back last: the map's order is then the order of last use.
      buckets.delete(name)
      buckets.set(name, { tokens: refilled - taken, atMs: nowMs })
      const [idlest] = buckets.keys()
      if (buckets.size > namesMax && idlest !== undefined) buckets.delete(idlest)
      return taken
    },
  }
}
