/**
 * What this node has announced, to how many servers, and when each key is due again. It survives the
 * process: after a restart only what is overdue is announced, and a failure is retried in minutes
 * where kad-dht would wait a day (docs/spec/discovery.md, section 3).
 */

import type { DatabaseSync } from 'node:sqlite'
import { viewOf } from '../../core/bytes.ts'
import type { Clock } from '../../core/clock.ts'
import { hour, minute } from '../../core/units.ts'
import { kadIdOf } from './kad-space.ts'

/** Every key each 20 h, give or take 10 %: a record lives 48 h, so that one missed round loses nothing. */
export const announceIntervalMs = 20 * hour
const spreadFraction = 0.1
export const firstRetryMs = minute
/** Keys that come due within this are taken along: one visit to a server serves neighbours in one go. */
const aheadMs = 10 * minute

export interface AnnounceStatus {
  readonly keys: number
  readonly due: number
  readonly lastAtMs: number | undefined
}

/** Keys are multihashes. */
export interface AnnounceLedger {
  /** Makes the ledger hold exactly these keys; new ones are due at once. */
  sync(keys: Iterable<Uint8Array>): { readonly added: number; readonly dropped: number }
  has(key: Uint8Array): boolean
  /** Keys to announce now, at most `max`: the newest never announced first, then the longest due. */
  due(max: number): Uint8Array[]
  /** When the next key is due, or undefined when there is none. */
  nextDueMs(): number | undefined
  announced(key: Uint8Array, holders: number): void
  /** Too few servers took it: tried again after 1 min, 2 min, 4 min …, at most after the interval. */
  failed(key: Uint8Array, holders: number): void
  /** The network grew to this many servers: keys that far fewer hold are due. Returns how many. */
  grown(servers: number): number
  /**
   * Our addresses, as each record tells them. With a new one every key is due; one that is gone waits
   * for the next round, since the others still lead here. Returns whether there was a new one.
   */
  describe(addresses: readonly string[]): boolean
  status(): AnnounceStatus
}

export function openAnnounceLedger(deps: {
  readonly db: DatabaseSync
  readonly clock: Clock
}): AnnounceLedger {
  const { db, clock } = deps
  const statements = prepare(db)
  const farMs = (): number => clock.now() + announceIntervalMs * (1 + 2 * spreadFraction)
  return {
    sync(keys) {
      // Compared here: of a library's 30,000 keys a change touches a few, and only those are written.
      const gone = new Set(statements.all.all().map(row => textOf(row['key'] as Uint8Array)))
      const known = new Set(gone)
      let added = 0
      db.exec('BEGIN')
      try {
        for (const key of keys) {
          const text = textOf(key)
          gone.delete(text)
          if (known.has(text)) continue
          known.add(text)
          statements.add.run(key, clock.now())
          added += 1
        }
        for (const text of gone) statements.drop.run(Buffer.from(text, 'latin1'))
        db.exec('COMMIT')
        return { added, dropped: gone.size }
      } catch (error) {
        // A full disk has rolled back already.
        if (db.isTransaction) db.exec('ROLLBACK')
        throw error
      }
    },
    has: key => statements.has.get(key) !== undefined,
    due(max) {
      const now = clock.now()
      const fresh = statements.fresh.all(now, max)
      const old = statements.old.all(now + aheadMs, farMs(), max - fresh.length)
      return [...fresh, ...old].map(row => row['key'] as Uint8Array)
    },
    nextDueMs() {
      const row = statements.next.get(farMs())
      const due = row?.['due']
      return due === null || due === undefined ? undefined : Number(due)
    },
    announced(key, holders) {
      const now = clock.now()
      statements.announced.run(now, holders, now + intervalOf(key), key)
    },
    failed(key, holders) {
      const failures = Number(statements.failures.get(key)?.['failures'] ?? 0)
      const waitMs = Math.min(announceIntervalMs, firstRetryMs * 2 ** Math.min(failures, 20))
      statements.failed.run(holders, clock.now() + waitMs, key)
    },
    grown: servers => Number(statements.grown.run(clock.now(), servers, servers).changes),
    describe(addresses) {
      const told = String(statements.self.get()?.['value'] ?? '').split(' ')
      if (addresses.every(address => told.includes(address))) return false
      statements.setSelf.run(addresses.join(' '))
      statements.allDue.run(clock.now())
      return true
    },
    status() {
      const row = statements.status.get(clock.now())
      const last = row?.['last']
      return {
        keys: Number(row?.['n'] ?? 0),
        due: Number(row?.['due'] ?? 0),
        lastAtMs: last === null || last === undefined ? undefined : Number(last),
      }
    },
  }
}

/** A key as the member of a Set: one character a byte. */
function textOf(key: Uint8Array): string {
  return viewOf(key).toString('latin1')
}

/**
 * The spread is by the key's place in Kademlia's space, not by chance: neighbours stay due together,
 * and share their lookups.
 */
function intervalOf(key: Uint8Array): number {
  const place = viewOf(kadIdOf(key)).readUInt16BE(0) / 0x1_0000
  return Math.round(announceIntervalMs * (1 - spreadFraction + 2 * spreadFraction * place))
}

// oxlint-disable-next-line typescript/explicit-function-return-type -- a table of statements
function prepare(db: DatabaseSync) {
  return {
    all: db.prepare('SELECT key FROM announced'),
    drop: db.prepare('DELETE FROM announced WHERE key = ?'),
    add: db.prepare('INSERT INTO announced VALUES (?, NULL, 0, 0, ?)'),
    has: db.prepare('SELECT 1 FROM announced WHERE key = ?'),
    fresh: db.prepare(
      `SELECT key FROM announced WHERE last_ms IS NULL AND due_ms <= ?
       ORDER BY due_ms DESC LIMIT ?`,
    ),
    // What is due far later than any interval was written under a clock that was wrong.
    old: db.prepare(
      `SELECT key FROM announced WHERE last_ms IS NOT NULL AND (due_ms <= ? OR due_ms > ?)
       ORDER BY due_ms LIMIT ?`,
    ),
    next: db.prepare(
      'SELECT min(CASE WHEN due_ms > ? THEN 0 ELSE due_ms END) AS due FROM announced',
    ),
    announced: db.prepare(
      'UPDATE announced SET last_ms = ?, holders = ?, failures = 0, due_ms = ? WHERE key = ?',
    ),
    failures: db.prepare('SELECT failures FROM announced WHERE key = ?'),
    failed: db.prepare(
      'UPDATE announced SET holders = ?, failures = failures + 1, due_ms = ? WHERE key = ?',
    ),
    // A network of ten that grows to eleven is not worth a round; one that doubled is.
    grown: db.prepare(
      `UPDATE announced SET due_ms = ?1, failures = 0
       WHERE due_ms > ?1 AND holders < min(20, ?2) AND ?3 >= min(20, 2 * holders)`,
    ),
    self: db.prepare(`SELECT value FROM meta WHERE name = 'announced-as'`),
    setSelf: db.prepare(`INSERT OR REPLACE INTO meta VALUES ('announced-as', ?)`),
    allDue: db.prepare('UPDATE announced SET due_ms = ?, failures = 0'),
    status: db.prepare(
      'SELECT count(*) AS n, sum(due_ms <= ?) AS due, max(last_ms) AS last FROM announced',
    ),
  }
}
