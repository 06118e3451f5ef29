/** How often, or how much, each of many may do something: a token bucket per name, bounded in number. */

import type { Clock } from './clock.ts'
import { TokenBucket, type TokenRate } from './token-bucket.ts'

/** Names remembered; the one idle longest is forgotten, and by then has most of its burst back. */
const namesMax = 10_000

export interface TokenBuckets {
  /** Takes up to `wanted` whole tokens of this name; returns how many. */
  take(name: string, wanted: number): number
  /** To be asked for anew each time: it may be forgotten. */
  of(name: string): TokenBucket
}

export function openTokenBuckets(clock: Pick<Clock, 'monotonic'>, rate: TokenRate): TokenBuckets {
  const buckets = new Map<string, TokenBucket>()
  const of = (name: string): TokenBucket => {
    const bucket = buckets.get(name) ?? new TokenBucket(clock, rate)
    // Taken out and put back last: the map's order is then the order of last use.
    buckets.delete(name)
    buckets.set(name, bucket)
    const [idlest] = buckets.keys()
    if (buckets.size > namesMax && idlest !== undefined) buckets.delete(idlest)
    return bucket
  }
  return { of, take: (name, wanted) => of(name).takeUpTo(wanted) }
}
