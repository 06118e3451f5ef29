/**
 * network.db: libp2p's datastore, the provider records other nodes left with us, and the ledger of our
 * own announcements. All of it can be rebuilt, so a damaged file is moved aside and started anew.
 */

import { renameSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import type { Clock } from '../core/clock.ts'
import { messageOf, StorageError, systemCode } from '../core/errors.ts'
import type { Logger } from '../core/log.ts'
import { makePrivateFile } from '../store/database.ts'

export interface NetworkDb extends Disposable {
  readonly db: DatabaseSync
}

const schemaVersion = 1

const schema = `
  CREATE TABLE datastore (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
  CREATE TABLE providers (
    key BLOB NOT NULL, peer BLOB NOT NULL, addresses BLOB NOT NULL, added_ms INTEGER NOT NULL,
    PRIMARY KEY (key, peer)
  ) WITHOUT ROWID;
  CREATE INDEX providers_added ON providers (added_ms);
  CREATE TABLE announced (
    key BLOB PRIMARY KEY, last_ms INTEGER, holders INTEGER NOT NULL, failures INTEGER NOT NULL,
    due_ms INTEGER NOT NULL
  ) WITHOUT ROWID;
  CREATE INDEX announced_due ON announced (due_ms);
  CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
  PRAGMA user_version = ${schemaVersion};
`

/** Opens `path` (or ':memory:'). */
export function openNetworkDb(
  deps: { readonly log: Logger; readonly clock: Clock },
  path: string,
): NetworkDb {
  let db: DatabaseSync
  try {
    db = openChecked(path)
  } catch (error) {
    if (path === ':memory:' || !isDamage(error)) {
      throw new StorageError(`opening ${path}`, { cause: error })
    }
    const aside = `${path}.damaged-${deps.clock.now()}`
    deps.log.warn('network database damaged: moved aside and rebuilt', {
      path,
      aside,
      reason: messageOf(error),
    })
    moveAside(path, aside)
    db = openChecked(path)
  }
  return { db, [Symbol.dispose]: () => db.close() }
}

function openChecked(path: string): DatabaseSync {
  if (path !== ':memory:') makePrivateFile(path)
  const db = new DatabaseSync(path)
  try {
    db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA busy_timeout = 5000;')
    const check = db.prepare('PRAGMA quick_check(1)').get()
    if (check?.['quick_check'] !== 'ok') throw new DamageError(String(check?.['quick_check']))
    const version = Number(db.prepare('PRAGMA user_version').get()?.['user_version'])
    if (version === 0) db.exec(`BEGIN; ${schema} COMMIT;`)
    else if (version !== schemaVersion) throw new DamageError(`schema version ${version}`)
    return db
  } catch (error) {
    db.close()
    throw error
  }
}

/** What SQLite cannot say itself: the file opens and is not usable. */
class DamageError extends Error {}

/** SQLITE_CORRUPT and SQLITE_NOTADB; a full disk or a wrong permission must not discard the file. */
const damageCodes: ReadonlySet<number> = new Set([11, 26])

function isDamage(error: unknown): boolean {
  if (error instanceof DamageError) return true
  if (systemCode(error) !== 'ERR_SQLITE_ERROR') return false
  const { errcode } = error as { errcode?: number }
  return errcode !== undefined && damageCodes.has(errcode & 0xff)
}

function moveAside(path: string, aside: string): void {
  for (const suffix of ['', '-wal', '-shm']) {
    try {
      renameSync(`${path}${suffix}`, `${aside}${suffix}`)
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') {
        throw new StorageError(`moving the damaged ${path} aside`, { cause: error })
      }
    }
  }
}
