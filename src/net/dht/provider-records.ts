/**
 * The provider records other nodes left with this one, with every cap that kad-dht lacks: per sender,
 * per key and in all. Addresses are kept with the record, so that an answer does not depend on what the
 * peer store forgot (defects A, H, J and K of the research, section 1.3).
 */

import type { DatabaseSync } from 'node:sqlite'
import type { Clock } from '../../core/clock.ts'
import { hour } from '../../core/units.ts'
import { kadAddressesMax, packAddresses, unpackAddresses } from './kad-messages.ts'
import type { KadPeer } from './kad-messages.ts'
import { openTokenBuckets } from '../../core/token-buckets.ts'

export interface ProviderLimits {
  /** Records one peer may leave per second, and at once after a pause: a 100 TB library has 32,000. */
  readonly peerRatePerSecond: number
  readonly peerBurst: number
  /** The oldest goes when another comes: a flood cannot keep honest re-announcements out. */
  readonly perKey: number
  /** About 400 bytes each: 2 million are 800 MB of disk, and no more are taken. */
  readonly total: number
  /** How long a record lives: the Kademlia specification's 48 hours. */
  readonly validityMs: number
}

export const providerLimits: ProviderLimits = {
  peerRatePerSecond: 50,
  peerBurst: 5000,
  perKey: 1000,
  total: 2_000_000,
  validityMs: 48 * hour,
}

/** Providers in one answer: a caller that wants more asks other servers, which drew other ones. */
const answerMax = 100
/** Rows removed per sweep, so that it never blocks the process for long. */
const sweepRows = 5000

export type Stored = 'stored' | 'rate' | 'full' | 'malformed'

export interface ProviderRecords {
  add(key: Uint8Array, peer: Uint8Array, addresses: readonly Uint8Array[]): Stored
  /** Unexpired providers of a key, at most a hundred, drawn at random when there are more. */
  get(key: Uint8Array): KadPeer[]
  /** Forgets expired records; returns how many. */
  sweep(): number
  size(): number
}

export function openProviderRecords(
  deps: { readonly db: DatabaseSync; readonly clock: Clock },
  limits: ProviderLimits = providerLimits,
): ProviderRecords {
  const { db, clock } = deps
  const statements = {
    count: db.prepare('SELECT count(*) AS n FROM providers'),
    perKey: db.prepare('SELECT count(*) AS n FROM providers WHERE key = ?'),
    known: db.prepare('SELECT 1 FROM providers WHERE key = ? AND peer = ?'),
    put: db.prepare('INSERT OR REPLACE INTO providers VALUES (?, ?, ?, ?)'),
    dropOldest: db.prepare(
      `DELETE FROM providers WHERE key = ?1 AND peer =
       (SELECT peer FROM providers WHERE key = ?1 ORDER BY added_ms LIMIT 1)`,
    ),
    get: db.prepare(
      `SELECT peer, addresses FROM providers WHERE key = ? AND added_ms > ?
       ORDER BY random() LIMIT ${answerMax}`,
    ),
    sweep: db.prepare(
      `DELETE FROM providers WHERE (key, peer) IN
       (SELECT key, peer FROM providers WHERE added_ms <= ? LIMIT ${sweepRows})`,
    ),
  }
  let total = countOf(statements.count.get())
  const buckets = openTokenBuckets(clock, {
    perSecond: limits.peerRatePerSecond,
    burst: limits.peerBurst,
  })
  return {
    add: (key, peer, addresses) => {
      if (addresses.length === 0) return 'malformed'
      if (buckets.take(Buffer.from(peer).toString('hex'), 1) === 0) return 'rate'
      const isNew = statements.known.get(key, peer) === undefined
      if (isNew && total >= limits.total) return 'full'
      if (isNew && countOf(statements.perKey.get(key)) >= limits.perKey) {
        total -= Number(statements.dropOldest.run(key).changes)
      }
      const packed = packAddresses(addresses.slice(0, kadAddressesMax))
      statements.put.run(key, peer, packed, clock.now())
      if (isNew) total += 1
      return 'stored'
    },
    get: key =>
      statements.get.all(key, clock.now() - limits.validityMs).map(row => ({
        id: row['peer'] as Uint8Array,
        addresses: unpackAddresses(row['addresses'] as Uint8Array),
      })),
    sweep: () => {
      const gone = Number(statements.sweep.run(clock.now() - limits.validityMs).changes)
      total -= gone
      return gone
    },
    size: () => total,
  }
}

function countOf(row: Record<string, unknown> | undefined): number {
  return Number(row?.['n'] ?? 0)
}
