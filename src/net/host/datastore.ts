/**
 * libp2p's datastore over SQLite. A prefix query is a range of the primary key: the cost is what it
 * returns, where MemoryDatastore looks at every key there is (reliability research 1.3, defect J).
 */

import type { DatabaseSync } from 'node:sqlite'
import { BaseDatastore } from 'datastore-core'
import { Key } from 'interface-datastore'
import type { Batch, KeyQuery, Pair, Query } from 'interface-datastore'
import { NotFoundError } from '@libp2p/interface'
import { messageOf } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'

/** Sorts after every character a key can hold. */
const afterAll = '\u{10FFFF}'
/** Rows read before the caller's loop runs, so that a slow reader holds no statement open. */
const pageRows = 256

interface Row {
  readonly key: string
  readonly value: Uint8Array
}

/** SQLITE_READONLY, SQLITE_IOERR and SQLITE_FULL: the disk's fault, and not the caller's. */
const diskCodes: ReadonlySet<number> = new Set([8, 10, 13])

export function openDatastore(db: DatabaseSync, log: Logger): SqliteDatastore {
  return new SqliteDatastore(db, log)
}

/**
 * A class because datastore-core implements filters, orders and limits on top of the methods below
 * for whoever extends it. A missing key must be libp2p's own NotFoundError: it tests for that name.
 *
 * What cannot be written because the disk is full is forgotten, not thrown: libp2p would end every new
 * stream by it, and a node with a full disk has all it needs to go on serving.
 */
class SqliteDatastore extends BaseDatastore {
  readonly #db: DatabaseSync
  readonly #log: Logger
  readonly #statements
  #isFailing = false

  constructor(db: DatabaseSync, log: Logger) {
    super()
    this.#db = db
    this.#log = log
    this.#statements = {
      get: db.prepare('SELECT value FROM datastore WHERE key = ?'),
      put: db.prepare('INSERT OR REPLACE INTO datastore (key, value) VALUES (?, ?)'),
      remove: db.prepare('DELETE FROM datastore WHERE key = ?'),
      page: db.prepare(
        'SELECT key, value FROM datastore WHERE key > ? AND key < ? ORDER BY key LIMIT ?',
      ),
      keys: db.prepare('SELECT key FROM datastore WHERE key > ? AND key < ? ORDER BY key LIMIT ?'),
    }
  }

  override put(key: Key, value: Uint8Array): Key {
    this.#write(() => this.#statements.put.run(key.toString(), value))
    return key
  }

  override get(key: Key): Uint8Array {
    const row = this.#statements.get.get(key.toString())
    if (row === undefined) throw new NotFoundError(`no ${key.toString()}`)
    return row['value'] as Uint8Array
  }

  override has(key: Key): boolean {
    return this.#statements.get.get(key.toString()) !== undefined
  }

  override delete(key: Key): void {
    this.#write(() => this.#statements.remove.run(key.toString()))
  }

  override batch(): Batch {
    const { put, remove } = this.#statements
    const changes: (() => void)[] = []
    return {
      put: (key, value) => void changes.push(() => put.run(key.toString(), value)),
      delete: key => void changes.push(() => remove.run(key.toString())),
      commit: () => this.#write(() => this.#commit(changes.splice(0))),
    }
  }

  override *_all(query: Query): Generator<Pair> {
    for (const row of this.#rows(query.prefix ?? '', this.#statements.page)) {
      yield { key: new Key(row.key, false), value: row.value }
    }
  }

  override *_allKeys(query: KeyQuery): Generator<Key> {
    for (const row of this.#rows(query.prefix ?? '', this.#statements.keys)) {
      yield new Key(row.key, false)
    }
  }

  #commit(changes: readonly (() => void)[]): void {
    this.#db.exec('BEGIN')
    try {
      for (const change of changes) change()
      this.#db.exec('COMMIT')
    } catch (error) {
      // A full disk has rolled back already.
      if (this.#db.isTransaction) this.#db.exec('ROLLBACK')
      throw error
    }
  }

  #write(work: () => void): void {
    try {
      work()
      this.#isFailing = false
    } catch (error) {
      if (!isDiskFault(error)) throw error
      if (!this.#isFailing) {
        this.#log.warn('what is learnt about peers cannot be written and will be forgotten', {
          error: messageOf(error),
        })
      }
      this.#isFailing = true
    }
  }

  *#rows(prefix: string, page: ReturnType<DatabaseSync['prepare']>): Generator<Row> {
    // The prefix itself can be a key, and the range starts after its lower end.
    const exact = this.#statements.get.get(prefix)
    if (exact !== undefined) yield { key: prefix, value: exact['value'] as Uint8Array }
    for (let after = prefix; ;) {
      const rows = page.all(after, `${prefix}${afterAll}`, pageRows) as unknown as Row[]
      yield* rows
      const last = rows.at(-1)
      if (last === undefined || rows.length < pageRows) return
      after = last.key
    }
  }
}

function isDiskFault(error: unknown): boolean {
  const { errcode } = error as { errcode?: number }
  return errcode !== undefined && diskCodes.has(errcode & 0xff)
}

export type { SqliteDatastore }
