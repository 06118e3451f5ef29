/**
 * state.db: models, names, pins and pending pulls, which nothing else knows; every commit survives a
 * power cut. Every statement on that database is here, and those that join it with index.db.
 */

import { type CID, decodeCid } from '../core/cid.ts'
import type { Database, Row } from './database.ts'
import type {
  ModelOrigin,
  ModelPlacement,
  NamedModel,
  NewModel,
  Origin,
  PendingPull,
} from './store.ts'

export interface StoredModel {
  readonly id: number
  readonly manifest: CID
  readonly name: string | undefined
  readonly origin: ModelOrigin
  readonly folder: string
  readonly pinned: boolean
  readonly seeding: boolean
  readonly addedAtMs: number
  /** The index that knew its files is gone, and it was not added again since. */
  readonly lost: boolean
}

const columns = 'id, manifest, name, origin, folder, pinned, seeding, added_ms, lost'

/** A row of the cache, with what is wanted at its place. */
export interface CachedPlace {
  readonly place: string
  readonly root: CID
  readonly size: number
  readonly readAtMs: number
  /** Some model that wants the file is pinned. */
  readonly pinned: boolean
}

/** Asked of 10,000 files at a time, so that SQLite looks into both databases and not we. */
const heldChunks = `SELECT c.chunks FROM found.file f JOIN found.content c ON c.id = f.content
  WHERE f.place = m.place AND c.root = m.root AND f.changed = 0 AND f.damaged IS NULL`

/** Apart from what this file itself keeps in the table. */
const factPrefix = 'fact: '

export class StateDb {
  readonly #db: Database

  /** `index` is the path of index.db, which is only read here. */
  constructor(db: Database, index: string) {
    this.#db = db
    db.attach(index, 'found')
  }

  transaction<T>(work: () => T): T {
    return this.#db.transaction(work)
  }

  model(manifest: CID): StoredModel | undefined {
    const row = this.#db.get(`SELECT ${columns} FROM model WHERE manifest = ?`, manifest.bytes)
    return row === undefined ? undefined : toModel(row)
  }

  /** Oldest first. */
  models(): StoredModel[] {
    return this.#db.all(`SELECT ${columns} FROM model ORDER BY id`).map(toModel)
  }

  block(manifest: CID): Uint8Array | undefined {
    const row = this.#db.get('SELECT block FROM model WHERE manifest = ?', manifest.bytes)
    return row?.['block'] as Uint8Array | undefined
  }

  placements(model: StoredModel): ModelPlacement[] {
    const sql =
      'SELECT path, place, size, sha256, root FROM model_file WHERE model = ? ORDER BY path'
    return this.#db.all(sql, model.id).map(toPlacement)
  }

  /** Its files as they are in the index: the chunks of one that is there, whole and unchanged. */
  placementsHeld(model: StoredModel): { placement: ModelPlacement; chunks: number | undefined }[] {
    const sql = `SELECT path, m.place, m.size, m.sha256, m.root, (${heldChunks}) AS chunks
      FROM model_file m WHERE model = ? ORDER BY path`
    return this.#db.all(sql, model.id).map(row => ({
      placement: toPlacement(row),
      chunks: row['chunks'] === null ? undefined : Number(row['chunks']),
    }))
  }

  countFiles(model: StoredModel): number {
    const row = this.#db.get('SELECT count(*) AS files FROM model_file WHERE model = ?', model.id)
    return Number(row?.['files'])
  }

  /** How many of its files are in the index, whole and unchanged, and their bytes. */
  countHeld(model: StoredModel): { files: number; bytes: number } {
    const sql = `SELECT count(*) AS files, coalesce(sum(m.size), 0) AS bytes
      FROM model_file m WHERE model = ? AND (${heldChunks}) IS NOT NULL`
    const row = this.#db.get(sql, model.id)
    return { files: Number(row?.['files']), bytes: Number(row?.['bytes']) }
  }

  /** The files of the model that countHeld leaves out. */
  placementsNotHeld(model: StoredModel): ModelPlacement[] {
    const sql = `SELECT path, m.place, m.size, m.sha256, m.root
      FROM model_file m WHERE model = ? AND (${heldChunks}) IS NULL ORDER BY path`
    return this.#db.all(sql, model.id).map(toPlacement)
  }

  /** The models that want a file at this place. */
  modelsAt(place: string): StoredModel[] {
    const sql = `SELECT DISTINCT ${columns} FROM model JOIN model_file ON model = id WHERE place = ?`
    return this.#db.all(sql, place).map(toModel)
  }

  /** Whether some model gives the file of this root to others. */
  isServed(root: CID): boolean {
    const sql = `SELECT 1 FROM model_file f JOIN model m ON m.id = f.model
      WHERE f.root = ? AND m.seeding = 1 LIMIT 1`
    return this.#db.get(sql, root.bytes) !== undefined
  }

  putModel(model: NewModel, addedAtMs: number): void {
    this.transaction(() => {
      if (model.name !== undefined) this.#freeName(model.name, model.manifest)
      const known = this.model(model.manifest)
      // Another selection of the same model into the same folder adds to what is wanted there.
      if (known !== undefined && known.folder !== model.folder) {
        this.#db.run('DELETE FROM model_file WHERE model = ?', known.id)
      }
      const id = known === undefined ? this.#insert(model, addedAtMs) : this.#update(known, model)
      // OR REPLACE would keep a journal of each statement, which takes three times as long.
      const sql = `INSERT INTO model_file (model, path, place, size, sha256, root)
        VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (model, path) DO UPDATE SET place = excluded.place,
        size = excluded.size, sha256 = excluded.sha256, root = excluded.root`
      for (const { path, place, size, sha256, root } of model.files) {
        this.#db.run(sql, id, path, place, size, sha256, root.bytes)
      }
      this.#uncache(model.files)
    })
  }

  setPinned(manifest: CID, pinned: boolean): void {
    this.#db.run('UPDATE model SET pinned = ? WHERE manifest = ?', Number(pinned), manifest.bytes)
  }

  setName(manifest: CID, name: string): void {
    this.transaction(() => {
      this.#freeName(name, manifest)
      this.#db.run('UPDATE model SET name = ? WHERE manifest = ?', name, manifest.bytes)
    })
  }

  /** The spelling that was asked for first. */
  findName(name: string): NamedModel | undefined {
    const row = this.#db.get(
      `${namesSql} WHERE name = ?1 COLLATE NOCASE ORDER BY name != ?1 LIMIT 1`,
      name,
    )
    return row === undefined ? undefined : toNamed(row)
  }

  names(): NamedModel[] {
    return this.#db.all(`${namesSql} ORDER BY name COLLATE NOCASE`).map(toNamed)
  }

  bindName(name: string, { manifest, link }: { manifest: CID; link: string }): void {
    this.transaction(() => {
      this.#freeName(name, manifest)
      const sql = 'INSERT OR REPLACE INTO name (name, manifest, link) VALUES (?, ?, ?)'
      this.#db.run(sql, name, manifest.bytes, link)
    })
  }

  unbindName(name: string): void {
    this.#db.run('DELETE FROM name WHERE name = ?', name)
  }

  putCached(place: string, readAtMs: number): void {
    this.#db.run('INSERT OR REPLACE INTO cached (place, read_ms) VALUES (?, ?)', place, readAtMs)
  }

  deleteCached(place: string): void {
    this.#db.run('DELETE FROM cached WHERE place = ?', place)
  }

  isCached(place: string): boolean {
    return this.#db.get('SELECT 1 FROM cached WHERE place = ?', place) !== undefined
  }

  /** Read longest ago first. */
  cached(): CachedPlace[] {
    const sql = `SELECT c.place, c.read_ms, f.size, f.root, max(m.pinned) AS pinned
      FROM cached c JOIN model_file f ON f.place = c.place JOIN model m ON m.id = f.model
      GROUP BY c.place ORDER BY c.read_ms, c.place`
    return this.#db.all(sql).map(row => ({
      place: String(row['place']),
      root: decodeCid(row['root'] as Uint8Array),
      size: Number(row['size']),
      readAtMs: Number(row['read_ms']),
      pinned: row['pinned'] !== 0,
    }))
  }

  putOrigin(origin: Origin): void {
    const { manifest, hub, type, repo, revision, upstream, isWhole, seenAtMs, facts } = origin
    const sql = `INSERT OR REPLACE INTO origin
      (manifest, hub, type, repo, revision, upstream, whole, seen_ms, facts)
      VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`
    const values = [hub, type, repo, revision, upstream, Number(isWhole), seenAtMs, facts]
    this.#db.run(sql, manifest.bytes, ...values)
  }

  originOf(manifest: CID): Origin | undefined {
    const row = this.#db.get('SELECT * FROM origin WHERE manifest = ?', manifest.bytes)
    return row === undefined ? undefined : toOrigin(row)
  }

  originsOf({ hub, type, repo }: Pick<Origin, 'hub' | 'type' | 'repo'>): Origin[] {
    const sql = `SELECT * FROM origin WHERE hub = ? AND type = ? AND repo = ? COLLATE NOCASE
      ORDER BY seen_ms DESC, rowid DESC`
    return this.#db.all(sql, hub, type, repo).map(toOrigin)
  }

  deleteModel(model: StoredModel): void {
    this.#db.run('DELETE FROM model WHERE id = ?', model.id)
  }

  /** Marks all models as lost when the index is not the one they were added to. */
  noteIndex(id: string): void {
    this.transaction(() => {
      const known = this.#db.get("SELECT value FROM meta WHERE key = 'index'")?.['value']
      if (known === id) return
      if (known !== undefined) this.#db.run('UPDATE model SET lost = 1')
      this.#db.run("INSERT OR REPLACE INTO meta (key, value) VALUES ('index', ?)", id)
    })
  }

  clearLost(manifest: CID): void {
    this.#db.run('UPDATE model SET lost = 0 WHERE manifest = ?', manifest.bytes)
  }

  fact(name: string): string | undefined {
    const row = this.#db.get('SELECT value FROM meta WHERE key = ?', `${factPrefix}${name}`)
    return row === undefined ? undefined : String(row['value'])
  }

  setFact(name: string, value: string | undefined): void {
    const key = `${factPrefix}${name}`
    if (value === undefined) this.#db.run('DELETE FROM meta WHERE key = ?', key)
    else this.#db.run('INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)', key, value)
  }

  putPending(pull: PendingPull): void {
    const sql = 'INSERT OR REPLACE INTO pending (id, request) VALUES (?, ?)'
    this.#db.run(sql, pull.id, pull.request)
  }

  deletePending(id: string): void {
    this.#db.run('DELETE FROM pending WHERE id = ?', id)
  }

  pending(): PendingPull[] {
    return this.#db
      .all('SELECT id, request FROM pending ORDER BY id')
      .map(row => ({ id: String(row['id']), request: String(row['request']) }))
  }

  #insert(model: NewModel, addedAtMs: number): number {
    const { manifest, name, origin, folder, pinned, seeding, block } = model
    const sql = `INSERT INTO model (manifest, name, origin, folder, pinned, seeding, added_ms, block)
      VALUES (?, ?, ?, ?, ?, ?, ?, ?)`
    return this.#db.run(
      sql,
      manifest.bytes,
      name ?? null,
      origin,
      folder,
      Number(pinned),
      Number(seeding),
      addedAtMs,
      block,
    )
  }

  #update(known: StoredModel, model: NewModel): number {
    const { name, origin, folder, pinned, seeding } = model
    const sql = `UPDATE model SET name = coalesce(?, name), origin = ?, folder = ?, pinned = ?,
      seeding = ?, lost = 0 WHERE id = ?`
    this.#db.run(sql, name ?? null, origin, folder, Number(pinned), Number(seeding), known.id)
    return known.id
  }

  /** Whoever adds a file on purpose wants to keep it. */
  #uncache(files: NewModel['files']): void {
    if (this.#db.get('SELECT 1 FROM cached LIMIT 1') === undefined) return
    for (const { place } of files) this.deleteCached(place)
  }

  /** A name means one model, the one that got it last: every other one loses it. */
  #freeName(name: string, manifest: CID): void {
    for (const table of ['UPDATE model SET name = NULL', 'DELETE FROM name']) {
      this.#db.run(`${table} WHERE name = ? AND manifest != ?`, name, manifest.bytes)
    }
  }
}

function toOrigin(row: Row): Origin {
  return {
    manifest: decodeCid(row['manifest'] as Uint8Array),
    hub: String(row['hub']),
    type: String(row['type']),
    repo: String(row['repo']),
    revision: String(row['revision']),
    upstream: String(row['upstream']),
    isWhole: row['whole'] !== 0,
    seenAtMs: Number(row['seen_ms']),
    facts: String(row['facts']),
  }
}

function toModel(row: Row): StoredModel {
  return {
    id: Number(row['id']),
    manifest: decodeCid(row['manifest'] as Uint8Array),
    name: (row['name'] as string | null) ?? undefined,
    origin: row['origin'] as ModelOrigin,
    folder: String(row['folder']),
    pinned: row['pinned'] !== 0,
    seeding: row['seeding'] !== 0,
    addedAtMs: Number(row['added_ms']),
    lost: row['lost'] !== 0,
  }
}

/** A link stays when its model is held under the same name: it may know peers that we do not. */
const namesSql = `SELECT * FROM (
  SELECT m.name, m.manifest, m.added_ms, n.link FROM model m
    LEFT JOIN name n ON n.name = m.name AND n.manifest = m.manifest WHERE m.name IS NOT NULL
  UNION ALL
  SELECT n.name, n.manifest, m.added_ms, n.link FROM name n
    LEFT JOIN model m ON m.manifest = n.manifest
    WHERE NOT EXISTS (SELECT 1 FROM model o WHERE o.name = n.name COLLATE NOCASE))`

function toNamed(row: Row): NamedModel {
  return {
    name: String(row['name']),
    manifest: decodeCid(row['manifest'] as Uint8Array),
    addedAtMs: row['added_ms'] === null ? undefined : Number(row['added_ms']),
    link: (row['link'] as string | null) ?? undefined,
  }
}

function toPlacement(row: Row): ModelPlacement {
  return {
    path: String(row['path']),
    place: String(row['place']),
    size: Number(row['size']),
    sha256: row['sha256'] as Uint8Array,
    root: decodeCid(row['root'] as Uint8Array),
  }
}
