/**
 * How long a hub wants to be left alone. It counts requests in windows of five minutes and says how many
 * are left (`RateLimit: "resolvers";r=0;t=55`), or sends a Retry-After. Pure.
 */

import type { IncomingHttpHeaders } from 'node:http'
import { minute, second } from '../core/units.ts'
import { retryAfter } from '../net/web/range-answer.ts'

/** A longer wait is a mistake of somebody's clock, or a way to make us hang. */
export const patienceMsMax = 10 * minute
/** Of a header: a hub names a few limits. */
const limitsMax = 8

/** Milliseconds until the hub answers again; undefined when it does not say, or has no need to. */
export function hubPatience(headers: IncomingHttpHeaders, nowMs: number): number | undefined {
  const waits = [...exhaustedLimits(headers['ratelimit']), retryAfter(headers, nowMs)]
  const known = waits.filter(ms => ms !== undefined)
  return known.length === 0 ? undefined : Math.min(patienceMsMax, Math.max(...known))
}

/** Of the limits of which nothing is left: when each begins anew, and a second for its clock. */
function exhaustedLimits(header: string | string[] | undefined): number[] {
  const text = Array.isArray(header) ? header.join(',') : (header ?? '')
  return text
    .slice(0, 1024)
    .split(',', limitsMax)
    .flatMap(limit => {
      const left = /;\s*r=(\d{1,9})(?=;|\s|$)/u.exec(limit)?.[1]
      const seconds = /;\s*t=(\d{1,9})(?=;|\s|$)/u.exec(limit)?.[1]
      return left !== undefined && Number(left) === 0 && seconds !== undefined
        ? [(Number(seconds) + 1) * second]
        : []
    })
}

/** Before the next attempt when nobody said how long: 1 s, 2 s, 4 s … 30 s. */
export function backoffMs(failures: number): number {
  return Math.min(30 * second, second * 2 ** Math.min(failures, 10))
}
