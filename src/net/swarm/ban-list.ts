/**
 * Peers that broke the rules or sent bad bytes. One strike keeps a peer out for an hour, which is the
 * session in which it did it; the third one for a day. Bounded: the least recent strike is forgotten.
 */

import type { Clock } from '../../core/clock.ts'
import { day, hour } from '../../core/units.ts'

export const banMs = hour
export const longBanMs = day
export const strikesForLongBan = 3
/** 100 bytes each. An attacker with more identities than this gains nothing by reusing the oldest. */
export const bannedPeersMax = 10_000

interface Record {
  readonly strikes: number
  readonly untilMs: number
  /** Its text only: an error holds on to where it was thrown, which is the peer's whole channel. */
  readonly reason: string
}

export interface BanList {
  strike(peer: string, reason: Error): void
  /** Why the peer is kept out now, or undefined. */
  banned(peer: string): string | undefined
}

export function openBanList(clock: Clock): BanList {
  const records = new Map<string, Record>()
  return {
    strike(peer, reason) {
      const strikes = (records.get(peer)?.strikes ?? 0) + 1
      const lastsMs = strikes >= strikesForLongBan ? longBanMs : banMs
      // Re-inserted, so that the map's first key is the least recent strike.
      records.delete(peer)
      records.set(peer, { strikes, untilMs: clock.monotonic() + lastsMs, reason: reason.message })
      const oldest = records.keys().next().value
      if (records.size > bannedPeersMax && oldest !== undefined) records.delete(oldest)
    },
    banned(peer) {
      const record = records.get(peer)
      return record !== undefined && clock.monotonic() < record.untilMs ? record.reason : undefined
    },
  }
}
