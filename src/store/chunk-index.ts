/**
 * index.db: which bytes of which file are which chunk, and the downloads in progress. Every statement
 * on that database is here.
 *
 * A content is what the bytes of a file are: a root and its chunk table, stored once however many
 * copies of the file there are. A file is a content at a place; a partial is a content on its way to
 * a place. A content's SHA-256 is recorded only once a whole file has proven it.
 *
 * A file of one chunk has the raw CID of its SHA-256 as its root, which so says all: neither a table,
 * nor a SHA-256, nor a chunk is recorded beside it. Models with 10,000 small files are made of them.
 */

import { randomUUID } from 'node:crypto'
import type { SQLOutputValue } from 'node:sqlite'
import { Bitfield } from '../core/bitfield.ts'
import { compareBytes } from '../core/bytes.ts'
import { type CID, codecs, decodeCid, digestOf, rawCid } from '../core/cid.ts'
import { NotFoundError } from '../core/errors.ts'
import type { FileStamp } from '../core/file-stamp.ts'
import { MiB } from '../core/units.ts'
import { ChunkTable, recordBytes } from '../dag/chunk-table.ts'
import type { Database, Row } from './database.ts'

export interface Content {
  readonly id: number
  readonly root: CID
  readonly sha256: Uint8Array | undefined
  readonly size: number
  readonly chunks: number
}

export interface IndexedFile {
  readonly id: number
  readonly place: string
  readonly content: Content
  readonly stamp: FileStamp
  /** The stamp did not match at the last look: modified, replaced or gone. */
  readonly changed: boolean
  /** Chunks found not to match their digest. */
  readonly damaged: Bitfield | undefined
}

export interface IndexedPartial {
  /** Where the finished file goes. */
  readonly place: string
  readonly content: Content
  /** The model's folder. */
  readonly folder: string
  /** The partial file. */
  readonly part: string
  readonly ino: bigint
  readonly held: Bitfield
  /** The chunks of `held` that an fdatasync has covered. */
  readonly durable: Bitfield
  /** The boot in which `held` was written; a later one believes only `durable`. */
  readonly boot: string
}

export interface ChunkPosition {
  readonly content: Content
  readonly index: number
}

/** Bytes of chunk tables kept in memory: the tables of 16 files of 40 GB. */
const tableCacheBytes = 32 * MiB
/** A table's record, and the offset that ChunkTable computes for it. */
const cachedRecordBytes = recordBytes + 8
/** Places of one chunk that are looked at: zero padding occurs in thousands of files. */
const positionsMax = 16
/** Rows read at a time when all files are listed, so that a long listing holds no read lock. */
const pageRows = 1000

const contentColumns = 'c.id AS content, c.root, c.sha256, c.size, c.chunks'
// Nanoseconds do not fit a double, and node:sqlite gives numbers: they travel as text.
const fileColumns = `f.id, f.place, CAST(f.mtime_ns AS TEXT) AS mtime_ns, CAST(f.ino AS TEXT) AS ino,
  f.changed, f.damaged, ${contentColumns}`
const files = `SELECT ${fileColumns} FROM file f JOIN content c ON c.id = f.content`
const partials = `SELECT p.place, p.folder, p.part, CAST(p.ino AS TEXT) AS ino, p.held, p.durable, p.boot,
  ${contentColumns} FROM partial p JOIN content c ON c.id = p.content`

const insertContent = `INSERT INTO content (root, sha256, size, chunks, records)
  VALUES (?, ?, ?, ?, ?) ON CONFLICT (root) DO NOTHING`

interface ContentOfFile {
  readonly root: CID
  readonly table: ChunkTable
  /** When it is proven. */
  readonly sha256: Uint8Array | undefined
}

export class ChunkIndex {
  /** Random, made with the database: another one means that everything was forgotten. */
  readonly id: string
  readonly #db: Database
  /** Least recently used first. */
  readonly #tables = new Map<number, ChunkTable>()
  #tableBytes = 0

  constructor(db: Database) {
    this.#db = db
    db.run("INSERT OR IGNORE INTO meta (key, value) VALUES ('id', ?)", randomUUID())
    this.id = String(db.get("SELECT value FROM meta WHERE key = 'id'")?.['value'])
  }

  transaction<T>(work: () => T): T {
    return this.#db.transaction(work)
  }

  // Contents.

  contentOf(root: CID): Content | undefined {
    const row = this.#db.get(`SELECT ${contentColumns} FROM content c WHERE c.root = ?`, root.bytes)
    return row === undefined ? undefined : toContent(row)
  }

  contentsWith(sha256: Uint8Array): Content[] {
    const sql = `SELECT ${contentColumns} FROM content c WHERE c.root = ?1
      UNION ALL SELECT ${contentColumns} FROM content c WHERE c.sha256 = ?2 AND c.root <> ?1`
    return this.#db.all(sql, rawCid(sha256).bytes, sha256).map(toContent)
  }

  /** The content of this root, made if it is new. Give the SHA-256 only when it is proven. */
  putContent(root: CID, table: ChunkTable, sha256: Uint8Array | undefined): Content {
    const made = this.makeContent({ root, table, sha256 }, table.size)
    if (made !== undefined) return made
    const known = this.contentOf(root)
    if (known === undefined) throw new NotFoundError(`${root.toString()} was just forgotten`)
    if (known.sha256 !== undefined || sha256 === undefined) return known
    this.#db.run('UPDATE content SET sha256 = ? WHERE id = ?', sha256, known.id)
    return { ...known, sha256 }
  }

  /** Undefined when there is one of this root already. The table of a leaf is not looked at. */
  makeContent(file: ContentOfFile, size: number): Content | undefined {
    const { root } = file
    if (isLeaf(root)) {
      const chunks = size === 0 ? 0 : 1
      const id = this.#db.insert(insertContent, root.bytes, null, size, chunks, noRecords)
      return id === undefined ? undefined : { id, root, sha256: digestOf(root), size, chunks }
    }
    const { sha256, table } = file
    const { count: chunks, bytes } = table
    const id = this.#db.insert(insertContent, root.bytes, sha256 ?? null, size, chunks, bytes)
    return id === undefined ? undefined : { id, root, sha256, size, chunks }
  }

  tableOf(content: Content): ChunkTable {
    if (isLeaf(content.root)) return ChunkTable.ofOneChunk(digestOf(content.root), content.size)
    const cached = this.#tables.get(content.id)
    if (cached !== undefined) {
      this.#tables.delete(content.id)
      this.#tables.set(content.id, cached)
      return cached
    }
    const row = this.#db.get('SELECT records FROM content WHERE id = ?', content.id)
    if (row === undefined) throw new NotFoundError(`${content.root.toString()} was just forgotten`)
    const table = new ChunkTable(row['records'] as Uint8Array)
    this.#tables.set(content.id, table)
    this.#tableBytes += table.count * cachedRecordBytes
    for (const [id, { count }] of this.#tables) {
      if (this.#tableBytes <= tableCacheBytes || id === content.id) break
      this.#tables.delete(id)
      this.#tableBytes -= count * cachedRecordBytes
    }
    return table
  }

  /** Contents that no file and no partial has any more. */
  unusedContents(): Content[] {
    const sql = `SELECT ${contentColumns} FROM content c
      WHERE NOT EXISTS (SELECT 1 FROM file f WHERE f.content = c.id)
      AND NOT EXISTS (SELECT 1 FROM partial p WHERE p.content = c.id)`
    return this.#db.all(sql).map(toContent)
  }

  /** Forgets a content, unless something has it again. */
  deleteUnused(content: Content): void {
    this.transaction(() => {
      const sql = `SELECT EXISTS (SELECT 1 FROM file WHERE content = ?1)
        OR EXISTS (SELECT 1 FROM partial WHERE content = ?1) AS used`
      if (this.#db.get(sql, content.id)?.['used'] !== 0) return
      const table = this.tableOf(content)
      for (let index = 0; index < table.count; index += 1) {
        const sql = 'DELETE FROM chunk WHERE digest = ? AND content = ? AND position = ?'
        this.#db.run(sql, table.digest(index), content.id, index)
      }
      this.#db.run('DELETE FROM content WHERE id = ?', content.id)
      if (this.#tables.delete(content.id)) this.#tableBytes -= content.chunks * cachedRecordBytes
    })
  }

  /** Makes the chunks of a content findable by their digest. */
  indexChunks(content: Content, file: Pick<ContentOfFile, 'table'>): void {
    if (isLeaf(content.root)) return
    const { table } = file
    const row = this.#db.get('SELECT indexed FROM content WHERE id = ?', content.id)
    if (row?.['indexed'] !== 0) return
    this.#db.run('UPDATE content SET indexed = 1 WHERE id = ?', content.id)
    // In the order of the digests the rows go in page by page: a third faster than in file order.
    const order = Array.from({ length: table.count }, (_, index) => index).toSorted((a, b) =>
      compareBytes(table.digest(a), table.digest(b)),
    )
    const sql = 'INSERT INTO chunk (digest, content, position) VALUES (?, ?, ?)'
    for (const index of order) this.#db.run(sql, table.digest(index), content.id, index)
  }

  positionsOf(digest: Uint8Array): ChunkPosition[] {
    const sql = `SELECT 0 AS position, ${contentColumns} FROM content c WHERE c.root = ?1 AND c.size > 0
      UNION ALL SELECT k.position, ${contentColumns} FROM chunk k JOIN content c ON c.id = k.content
      WHERE k.digest = ?2 AND c.root <> ?1 LIMIT ${positionsMax}`
    return this.#db
      .all(sql, rawCid(digest).bytes, digest)
      .map(row => ({ content: toContent(row), index: Number(row['position']) }))
  }

  // Files.

  fileAt(place: string): IndexedFile | undefined {
    const row = this.#db.get(`${files} WHERE f.place = ?`, place)
    return row === undefined ? undefined : toFile(row)
  }

  /** Those of these places that are known, in any order. */
  filesAt(places: readonly string[]): IndexedFile[] {
    const columns = `SELECT ${fileColumns} FROM json_each(?) j CROSS JOIN file f ON f.place = j.value`
    const sql = `${columns} JOIN content c ON c.id = f.content`
    return this.#db.all(sql, JSON.stringify(places)).map(toFile)
  }

  filesWith(content: Content): IndexedFile[] {
    return this.#db.all(`${files} WHERE f.content = ? ORDER BY f.id`, content.id).map(toFile)
  }

  *allFiles(): Generator<IndexedFile> {
    for (let after = 0; ;) {
      const page = this.#db.all(`${files} WHERE f.id > ? ORDER BY f.id LIMIT ${pageRows}`, after)
      for (const row of page) yield toFile(row)
      if (page.length < pageRows) return
      after = Number(page.at(-1)?.['id'])
    }
  }

  /** What is known of a place becomes this. */
  putFile(place: string, content: Content, stamp: FileStamp): void {
    const sql = `INSERT INTO file (place, content, mtime_ns, ino) VALUES (?, ?, ?, ?)
      ON CONFLICT (place) DO UPDATE SET content = excluded.content, mtime_ns = excluded.mtime_ns,
      ino = excluded.ino, changed = 0, damaged = NULL`
    this.#db.run(sql, place, content.id, stamp.mtimeNs, BigInt.asIntN(64, stamp.ino))
  }

  setChanged(file: IndexedFile, changed: boolean): void {
    this.#db.run('UPDATE file SET changed = ? WHERE id = ?', Number(changed), file.id)
  }

  setDamaged(file: IndexedFile, damaged: Bitfield): void {
    const bits = damaged.count === 0 ? null : damaged.bytes
    this.#db.run('UPDATE file SET damaged = ? WHERE id = ?', bits, file.id)
  }

  deleteFile(file: IndexedFile): void {
    this.#db.run('DELETE FROM file WHERE id = ?', file.id)
  }

  // Partials.

  partialAt(place: string): IndexedPartial | undefined {
    const row = this.#db.get(`${partials} WHERE p.place = ?`, place)
    return row === undefined ? undefined : toPartial(row)
  }

  partialsWith(content: Content): IndexedPartial[] {
    return this.#db.all(`${partials} WHERE p.content = ?`, content.id).map(toPartial)
  }

  allPartials(): IndexedPartial[] {
    return this.#db.all(partials).map(toPartial)
  }

  putPartial(partial: IndexedPartial): void {
    const { place, content, folder, part, ino, held, durable, boot } = partial
    const sql = `INSERT OR REPLACE INTO partial (place, content, folder, part, ino, held, durable, boot)
      VALUES (?, ?, ?, ?, ?, ?, ?, ?)`
    const inode = BigInt.asIntN(64, ino)
    this.#db.run(sql, place, content.id, folder, part, inode, held.bytes, durable.bytes, boot)
  }

  setBits(place: string, bits: { held: Bitfield; durable: Bitfield; boot: string }): void {
    const sql = 'UPDATE partial SET held = ?, durable = ?, boot = ? WHERE place = ?'
    this.#db.run(sql, bits.held.bytes, bits.durable.bytes, bits.boot, place)
  }

  deletePartial(place: string): void {
    this.#db.run('DELETE FROM partial WHERE place = ?', place)
  }
}

const noRecords = new Uint8Array(0)

/** Whether the file of this root is its one chunk, or empty. */
function isLeaf(root: CID): boolean {
  return root.code === codecs.raw
}

function toContent(row: Row): Content {
  const root = decodeCid(row['root'] as Uint8Array)
  const sha256 = isLeaf(root) ? digestOf(root) : (row['sha256'] as Uint8Array | null)
  return {
    id: Number(row['content']),
    root,
    sha256: sha256 ?? undefined,
    size: Number(row['size']),
    chunks: Number(row['chunks']),
  }
}

function toFile(row: Row): IndexedFile {
  const content = toContent(row)
  return {
    id: Number(row['id']),
    place: String(row['place']),
    content,
    stamp: { size: content.size, mtimeNs: BigInt(String(row['mtime_ns'])), ino: toIno(row) },
    changed: row['changed'] !== 0,
    damaged: row['damaged'] === null ? undefined : toBits(content.chunks, row['damaged']),
  }
}

function toPartial(row: Row): IndexedPartial {
  const content = toContent(row)
  return {
    place: String(row['place']),
    content,
    folder: String(row['folder']),
    part: String(row['part']),
    ino: toIno(row),
    held: toBits(content.chunks, row['held']),
    durable: toBits(content.chunks, row['durable']),
    boot: String(row['boot']),
  }
}

function toBits(chunks: number, blob: SQLOutputValue | undefined): Bitfield {
  return new Bitfield(chunks, blob as Uint8Array<ArrayBuffer>)
}

function toIno(row: Row): bigint {
  return BigInt.asUintN(64, BigInt(String(row['ino'])))
}
