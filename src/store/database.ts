/**
 * A SQLite file that is checked, migrated, and moved aside when it is damaged; and its statements,
 * prepared once, with errors that name the file.
 *
 * Invariants:
 * 1. A file is moved aside only when SQLite calls it corrupt or it is no database of ours: never for
 *    a full disk, a wrong permission or a lock.
 * 2. Nothing is deleted: the damaged file and its -wal and -shm stay next to the new one.
 * 3. A schema newer than ours is refused and left untouched.
 */

import {
  closeSync,
  copyFileSync,
  existsSync,
  fchmodSync,
  fsyncSync,
  lstatSync,
  openSync,
  renameSync,
  rmSync,
} from 'node:fs'
import {
  DatabaseSync,
  type SQLInputValue,
  type SQLOutputValue,
  type StatementSync,
} from 'node:sqlite'
import type { Clock } from '../core/clock.ts'
import { messageOf, StorageError, systemCode } from '../core/errors.ts'
import type { Logger } from '../core/log.ts'
import { KiB, MiB, second } from '../core/units.ts'

export type Row = Record<string, SQLOutputValue>

export interface DatabaseOptions {
  readonly path: string
  /** See migrations.ts. */
  readonly migrations: readonly string[]
  /** FULL survives a power cut with every commit; NORMAL may lose the last ones, and is 15 times faster. */
  readonly synchronous: 'NORMAL' | 'FULL'
  /** Page cache. */
  readonly cacheBytes: number
  /** Keep a copy from each start next to the file, and go back to it when the file is damaged. */
  readonly backup?: boolean
}

export interface OpenedDatabase {
  readonly database: Database
  /** Where the damaged file lies now, when there was one. */
  readonly movedAside: string | undefined
  /** The file was damaged or gone, and is the copy of the last start. */
  readonly restored: boolean
}

/** Another process of ours that is just closing the file is waited for so long. */
const busyTimeoutMs = 5 * second
/** Checking costs 3 ms a MiB: beyond this size a start would take too long, and damage shows on use. */
const checkBytesMax = 512 * MiB

/**
 * The log is copied into the database when it has so many bytes: the rows of 10,000 files fit four
 * times, so that no commit of a model waits for that. It costs as much disk, and no more work.
 */
const logBytesMax = 16 * MiB
const pageBytes = 4 * KiB

/** SQLITE_CORRUPT and SQLITE_NOTADB. */
const damageCodes: ReadonlySet<number> = new Set([11, 26])
const fullCode = 13

export function openDatabase(
  deps: { readonly clock: Clock; readonly log: Logger },
  options: DatabaseOptions,
): OpenedDatabase {
  try {
    const lost = options.backup === true && isEmpty(options.path) ? openBackup(options) : undefined
    if (lost !== undefined) return { database: lost, movedAside: undefined, restored: true }
    const database = openChecked(options)
    if (options.backup === true) database.backUp(backupOf(options.path))
    return { database, movedAside: undefined, restored: false }
  } catch (error) {
    if (!isDamage(error)) throw asStorageError(`opening ${options.path}`, error)
    const { path } = options
    const movedAside = `${path}.damaged-${deps.clock.now()}`
    deps.log.warn('database damaged: moved aside', { path, movedAside, reason: messageOf(error) })
    moveAside(path, movedAside)
    const restored = options.backup === true ? openBackup(options) : undefined
    return {
      database: restored ?? openChecked(options),
      movedAside,
      restored: restored !== undefined,
    }
  }
}

function isEmpty(path: string): boolean {
  return (lstatSync(path, { throwIfNoEntry: false })?.size ?? 0) === 0
}

function backupOf(path: string): string {
  return `${path}.backup`
}

/** Undefined, and no file there, when there is no copy or it is damaged as well. */
function openBackup(options: DatabaseOptions): Database | undefined {
  const { path } = options
  if (!existsSync(backupOf(path))) return undefined
  copyFileSync(backupOf(path), path)
  try {
    return openChecked(options)
  } catch (error) {
    if (!isDamage(error)) throw error
    for (const suffix of suffixes) rmSync(`${path}${suffix}`, { force: true })
    return undefined
  }
}

function openChecked(options: DatabaseOptions): Database {
  const { path, migrations, synchronous, cacheBytes } = options
  refuseOddFiles(path)
  makePrivateFile(path)
  const db = new DatabaseSync(path, { timeout: busyTimeoutMs })
  try {
    db.exec(`
      PRAGMA journal_mode = WAL;
      PRAGMA synchronous = ${synchronous};
      PRAGMA foreign_keys = ON;
      PRAGMA cache_size = -${Math.ceil(cacheBytes / KiB)};
      PRAGMA wal_autocheckpoint = ${logBytesMax / pageBytes};
    `)
    if (numberOf(db, 'page_count') * numberOf(db, 'page_size') <= checkBytesMax) {
      const check = db.prepare('PRAGMA quick_check(1)').get()?.['quick_check']
      if (check !== 'ok') throw new DamageError(String(check))
    }
    migrate(db, path, migrations)
    return new Database(path, db)
  } catch (error) {
    db.close()
    throw error
  }
}

function migrate(db: DatabaseSync, path: string, migrations: readonly string[]): void {
  const version = numberOf(db, 'user_version')
  if (version > migrations.length) {
    throw new StorageError(
      `${path} has schema ${version}; this version knows up to ${migrations.length}`,
      { hint: 'it was written by a newer commonweight: upgrade this one' },
    )
  }
  if (
    version > 0 &&
    db.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'meta'").get() === undefined
  ) {
    throw new DamageError('its tables are gone')
  }
  for (const [index, step] of migrations.slice(version).entries()) {
    db.exec(`BEGIN IMMEDIATE; ${step}; PRAGMA user_version = ${version + index + 1}; COMMIT;`)
  }
}

function numberOf(db: DatabaseSync, pragma: string): number {
  return Number(db.prepare(`PRAGMA ${pragma}`).get()?.[pragma])
}

/** What SQLite cannot say itself: the file opens and is not usable. */
class DamageError extends Error {}

function isDamage(error: unknown): boolean {
  if (error instanceof DamageError) return true
  return damageCodes.has(sqliteCode(error))
}

/** SQLite's primary result code, or -1. */
function sqliteCode(error: unknown): number {
  if (systemCode(error) !== 'ERR_SQLITE_ERROR') return -1
  return ((error as { errcode?: number }).errcode ?? -1) & 0xff
}

function asStorageError(doing: string, error: unknown): unknown {
  const code = sqliteCode(error)
  if (code === -1) return error
  const details =
    code === fullCode
      ? { hint: 'free some space on this disk; nothing that was stored is lost' }
      : damageCodes.has(code)
        ? { hint: 'start again: a damaged database is moved aside and rebuilt' }
        : {}
  return new StorageError(`${doing}: ${messageOf(error)}`, { cause: error, ...details })
}

/**
 * A database is the owner's alone, whatever the umask and whatever becomes of the home's own mode. SQLite
 * gives the files beside it the same mode.
 */
export function makePrivateFile(path: string): void {
  const file = openSync(path, 'a', 0o600)
  try {
    fchmodSync(file, 0o600)
  } finally {
    closeSync(file)
  }
}

const suffixes = ['', '-wal', '-shm'] as const

/** SQLite cannot open a folder or a device, and says no more than "unable to open". */
function refuseOddFiles(path: string): void {
  for (const suffix of suffixes) {
    const stats = lstatSync(`${path}${suffix}`, { throwIfNoEntry: false })
    if (stats !== undefined && !stats.isFile()) throw new DamageError('it is not a regular file')
  }
}

function moveAside(path: string, aside: string): void {
  for (const suffix of suffixes) {
    try {
      renameSync(`${path}${suffix}`, `${aside}${suffix}`)
    } catch (error) {
      if (systemCode(error) === 'ENOENT') continue
      throw new StorageError(`moving the damaged ${path} aside`, { cause: error })
    }
  }
}

export class Database implements Disposable {
  readonly path: string
  readonly #db: DatabaseSync
  /** By their text: every statement is written out at its one place of use. */
  readonly #statements = new Map<string, StatementSync>()

  constructor(path: string, db: DatabaseSync) {
    this.path = path
    this.#db = db
  }

  get(sql: string, ...values: SQLInputValue[]): Row | undefined {
    return this.#try(() => this.#prepare(sql).get(...values))
  }

  all(sql: string, ...values: SQLInputValue[]): Row[] {
    return this.#try(() => this.#prepare(sql).all(...values))
  }

  /** Returns the row id of the last insert. */
  run(sql: string, ...values: SQLInputValue[]): number {
    return this.#try(() => Number(this.#prepare(sql).run(...values).lastInsertRowid))
  }

  /** Returns the row id; undefined when nothing was inserted, as ON CONFLICT DO NOTHING wants it. */
  insert(sql: string, ...values: SQLInputValue[]): number | undefined {
    const { changes, lastInsertRowid } = this.#try(() => this.#prepare(sql).run(...values))
    return changes === 0 ? undefined : Number(lastInsertRowid)
  }

  /** All or nothing; inside another transaction it is a part of that one. */
  transaction<T>(work: () => T): T {
    if (this.#isInside()) return work()
    this.#try(() => this.#db.exec('BEGIN IMMEDIATE'))
    try {
      const result = work()
      this.#try(() => this.#db.exec('COMMIT'))
      return result
    } catch (error) {
      // A full disk has rolled back already.
      if (this.#isInside()) this.#db.exec('ROLLBACK')
      throw error
    }
  }

  /** Lets statements read the tables of another database as `name.table`; they must not write there. */
  attach(path: string, name: string): void {
    this.#try(() => this.#db.prepare(`ATTACH DATABASE ? AS ${name}`).run(path))
  }

  /** Copies the database, whole or not at all. */
  backUp(to: string): void {
    const temporary = `${to}.new`
    rmSync(temporary, { force: true })
    makePrivateFile(temporary)
    this.run('VACUUM INTO ?', temporary)
    const file = openSync(temporary, 'r+')
    try {
      fsyncSync(file)
    } finally {
      closeSync(file)
    }
    renameSync(temporary, to)
  }

  [Symbol.dispose](): void {
    this.#statements.clear()
    this.#db.close()
  }

  #isInside(): boolean {
    return this.#db.isTransaction
  }

  #prepare(sql: string): StatementSync {
    let statement = this.#statements.get(sql)
    if (statement === undefined) {
      statement = this.#db.prepare(sql)
      this.#statements.set(sql, statement)
    }
    return statement
  }

  #try<T>(work: () => T): T {
    try {
      return work()
    } catch (error) {
      throw asStorageError(`using ${this.path}`, error)
    }
  }
}
