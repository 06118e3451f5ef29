/**
 * What this machine holds: the contract. Weights are plain files on disk, where the user put them or
 * in our models folder; the store knows which bytes of which file are which chunk, and gives out
 * nothing that it does not believe. Everything is named by the CID of a model's manifest or of a
 * file's root.
 *
 * Methods without a Promise touch only SQLite and memory. StorageError on I/O failure, always naming
 * the path.
 */

import type { Bitfield } from '../core/bitfield.ts'
import type { CID } from '../core/cid.ts'
import type { FileStamp } from '../core/file-stamp.ts'
import type { Range } from '../core/ranges.ts'
import type { ChunkTable } from '../dag/chunk-table.ts'
import type { NewFile } from './new-file.ts'
import type { Partial } from './partial.ts'

export interface IoOptions {
  readonly signal?: AbortSignal
}

/** Bytes of a file: `[offset, end)`. */
export interface Span {
  readonly offset: number
  readonly end: number
}

/** A name that people use for a model. */
export interface NamedModel {
  /** As it was given. */
  readonly name: string
  readonly manifest: CID
  /** When the model was added here; undefined for one that is only known by name. */
  readonly addedAtMs: number | undefined
  /** The `cw://` link that the name was bound to, which may name peers. */
  readonly link: string | undefined
}

export interface ReadOptions extends IoOptions {
  /** Where the bytes go: as long as the chunk, or longer. Fresh memory when left out. */
  readonly into?: Uint8Array | undefined
}

/** The change of what is held of one file; sent to peers as have updates. */
export interface HeldChange {
  readonly root: CID
  readonly gained: readonly Range[]
  readonly lost: readonly Range[]
}

/**
 * What serving needs: the narrow side of the store that the network sees. A file is named by its root
 * or, once a whole copy has proven it, by the raw CID of its SHA-256.
 */
export interface BlockReader {
  /** The manifest's bytes, when this node has them, served or not. */
  manifestBlock(manifest: CID): Uint8Array | undefined
  /** The chunk table of a file held whole or in part, served or not. */
  chunkTable(root: CID): ChunkTable | undefined
  /** Which chunks of the file can be served now, a copy; undefined when no seeded model has the file. */
  held(root: CID): Bitfield | undefined
  /**
   * The bytes of one chunk, from whichever place still has them. The file's stamp is checked on
   * every read, and the chunk's hash on its first read since the start, since recheck() and every few
   * hours. Each caller gets a buffer of its own, or the one it brought. NotFoundError when not held or not served;
   * IntegrityError when the bytes changed, after withdrawing them.
   */
  readChunk(root: CID, index: number, options?: ReadOptions): Promise<Uint8Array>
  /** Somebody got wrong bytes from us: each chunk is hashed again on its next read. */
  recheck(): void
  /** Calls back on every change of what is held and served, by root, until the returned function is called. */
  onHeldChange(listener: (change: HeldChange) => void): () => void
}

export type ModelOrigin = 'seeded' | 'pulled'

/** One file of a model being added: where it lies, or will lie. */
export interface ModelPlacement {
  /** Its path in the manifest. */
  readonly path: string
  /** Absolute. */
  readonly place: string
  /** As the manifest says: the store does not read manifests, and a missing file has no other record. */
  readonly size: number
  readonly sha256: Uint8Array
  readonly root: CID
}

export interface NewModel {
  readonly manifest: CID
  /** The canonical bytes. */
  readonly block: Uint8Array
  readonly name: string | undefined
  readonly origin: ModelOrigin
  /** Absolute: the folder it was seeded from or is pulled to (a seeded single file: the file). */
  readonly folder: string
  readonly pinned: boolean
  /** Whether chunks are served to others. */
  readonly seeding: boolean
  /** The files wanted here: all of the manifest's, or those --include and --exclude left. */
  readonly files: readonly ModelPlacement[]
}

/** complete: all wanted files held. changed: some held file was modified, damaged or vanished. */
export type ModelState = 'complete' | 'partial' | 'changed'

export interface HeldModel {
  readonly manifest: CID
  readonly name: string | undefined
  readonly origin: ModelOrigin
  readonly folder: string
  readonly pinned: boolean
  readonly seeding: boolean
  readonly state: ModelState
  /** Wanted files and their bytes; smaller than the manifest's when some were left out. */
  readonly files: number
  readonly bytes: number
  readonly bytesHeld: number
  readonly addedAtMs: number
}

export type HeldFileState = 'held' | 'partial' | 'missing' | 'changed'

export interface HeldFile {
  readonly path: string
  readonly place: string
  readonly size: number
  readonly sha256: Uint8Array
  readonly root: CID
  readonly state: HeldFileState
  /** 0 until its chunk table is known. */
  readonly chunks: number
  readonly chunksHeld: number
}

/** Where the bytes of a chunk or of a whole file lie on this machine. */
export interface Place {
  readonly place: string
  readonly offset: number
  readonly length: number
}

/** A file that was fetched for a reader, and that nobody promised to keep. */
export interface CachedFile {
  readonly place: string
  readonly root: CID
  readonly size: number
  /** What of it is here. */
  readonly bytesHeld: number
  /** By whoever read it last, another node included. */
  readonly readAtMs: number
  /** When a peer got a chunk of it last, in this run. */
  readonly servedAtMs: number | undefined
  /** Some model that has it is pinned: it stays as long as that is so. */
  readonly pinned: boolean
}

export interface PartialSpec {
  readonly root: CID
  /** Undefined when only the root is known: publish then finds it out, and has nothing to compare. */
  readonly sha256: Uint8Array | undefined
  readonly table: ChunkTable
  /** Absolute path that the finished file gets. */
  readonly place: string
  /** Absolute folder of the model: the partial file lies in its `.commonweight` folder. */
  readonly folder: string
}

export interface Removed {
  readonly filesDeleted: number
  readonly bytesFreed: number
  /** Places left alone because they are the user's own. */
  readonly kept: readonly string[]
}

/** A pull that was running when the daemon stopped; `request` is whatever the caller stored. */
export interface PendingPull {
  readonly id: string
  readonly request: string
}

/** Where a model was imported from, and what its hub said beside the manifest. */
export interface Origin {
  readonly manifest: CID
  /** Host name of the hub. */
  readonly hub: string
  readonly type: string
  readonly repo: string
  /** The commit. */
  readonly revision: string
  /** URL of the hub that it was compared with; empty when none was asked. */
  readonly upstream: string
  /** All files of the commit. */
  readonly isWhole: boolean
  readonly seenAtMs: number
  /** JSON of whoever stored it. */
  readonly facts: string
}

export type LostModel = Pick<
  HeldModel,
  'manifest' | 'name' | 'origin' | 'folder' | 'pinned' | 'seeding'
>

export interface Store extends BlockReader, AsyncDisposable {
  // Models.
  /**
   * Adds a model or replaces what was known of it; into the same folder, the wanted files add up. A
   * name belongs to the model that got it last: another one that had it goes on without a name.
   * `hashed` are indexed first, as addFiles does; for a model of many files in a third of the time.
   */
  addModel(model: NewModel, hashed?: readonly NewFile[]): HeldModel
  model(manifest: CID): HeldModel | undefined
  models(): HeldModel[]
  filesOf(manifest: CID): HeldFile[]
  setPinned(manifest: CID, pinned: boolean): void
  setName(manifest: CID, name: string): void
  /** The model of a name without regard to the case of ASCII letters: held here, or bound to a link. */
  findName(name: string): NamedModel | undefined
  /** All names, sorted. */
  names(): NamedModel[]
  /** Gives a name to a model that need not be held; whatever had the name goes on without it. */
  bindName(name: string, model: { readonly manifest: CID; readonly link: string }): void
  /** Forgets the link that the name is bound to; a model that is held keeps its name. */
  unbindName(name: string): void
  /** Of a model that is held; replaces what was known. It goes with the model. */
  putOrigin(origin: Origin): void
  originOf(manifest: CID): Origin | undefined
  /** What was imported from one repository, newest first. */
  originsOf(repo: Pick<Origin, 'hub' | 'type' | 'repo'>): Origin[]
  /** Forgets a model; files in our own models folder go when asked, the user's never. */
  removeModel(manifest: CID, options: { deleteFiles: boolean }): Promise<Removed>
  /** What came to a place of our own models folder after its model was removed; nothing when a model wants it. */
  discard(place: string): Promise<Removed>
  /** Deletes what no model needs any more: unpinned models in our folder, stray partials, index rows. */
  gc(options: { dryRun: boolean }): Promise<Removed>
  /** Stats every held file and marks what changed or came back; cheap enough for each `ls`. */
  refresh(manifest?: CID, options?: IoOptions): Promise<void>

  // Reading, for this machine's own user: whether it is served to others does not matter.
  /** Which chunks of the file are here now, a copy; undefined when nothing of it ever was. */
  present(root: CID): Bitfield | undefined
  /**
   * The bytes from `offset` on, at least one and none from `end` on, in the memory of `into`: as many as
   * fit and are here, as far checked as readChunk checks. NotFoundError when the first is not held.
   */
  readSpan(root: CID, span: Span, into: Uint8Array, options?: IoOptions): Promise<Uint8Array>

  // Files.
  /** One transaction for the batch. */
  addFiles(files: readonly NewFile[]): void
  /** What is known of a place, if its stamp still matches: saves re-hashing on a second import. */
  fileAt(place: string, stamp: FileStamp): NewFile | undefined
  /** The same for many; those that are known, in any order. */
  filesAt(wanted: readonly { place: string; stamp: FileStamp }[]): NewFile[]
  /** Complete local files with these bytes, unchanged as far as a stat tells. */
  findFile(sha256: Uint8Array): Promise<string[]>
  /** Local places of one chunk, most trustworthy first. */
  findChunk(digest: Uint8Array): Place[]
  /** Marks chunks of the file at `place` as damaged: not held, not served, until verified or replaced. */
  quarantine(place: string, chunks: readonly number[]): void
  /**
   * The file at `place` was re-hashed whole under this stamp and matches, but for the chunks in
   * `damaged`: lifts quarantine and `changed`, then sets those aside.
   */
  confirm(place: string, stamp: FileStamp, damaged?: readonly number[]): void

  // The cache.
  /** The file at this place may be evicted, unless something of it is here already. */
  cacheFile(place: string): void
  /** Read longest ago first. */
  cachedFiles(): CachedFile[]
  /**
   * Deletes what is at a cached place; the model is known as before. Nothing is deleted of a pinned model,
   * nor of a file that is being fetched.
   */
  evict(place: string): Promise<Removed>

  // Downloads.
  /** Throws StorageError unless `bytes` more fit in `folder`'s file system above the reserve. */
  checkSpace(folder: string, bytes: number): Promise<void>
  /**
   * Opens or resumes the partial file for a place. A file that lies there already with the right
   * bytes is taken as it is: `held` is full and nothing is left but to publish. One that a pull wrote
   * and that is damaged is repaired: what is good of it is held, and publishing replaces it.
   * ConflictError when other bytes lie there or the partial is open: its identity is the place, so
   * one root may be fetched to two places at once.
   */
  openPartial(spec: PartialSpec): Promise<Partial>
  /** A download into the folder is over: what it needed there beside the files goes. */
  tidy(folder: string): Promise<void>
  /** Remembers a pull so that the next start resumes it. */
  putPending(pull: PendingPull): void
  deletePending(id: string): void
  pending(): PendingPull[]

  // What operations remember over restarts: a few short texts by their names.
  fact(name: string): string | undefined
  /** Undefined forgets it. */
  setFact(name: string, value: string | undefined): void

  // Providing.
  /** Everything that should be findable: manifests, file roots and whole-file SHA-256 of what is held and seeded. */
  providedKeys(): Iterable<CID>

  /** Models whose index was lost (damaged database), and which have files not indexed again since. */
  lostModels(): LostModel[]
  /** All that could be found of a lost model was indexed again: it is not listed at the next start. */
  clearLost(manifest: CID): void
  /** What a person should know and do about what is kept here: sentences, none when all is well. */
  warnings(): string[]
}
