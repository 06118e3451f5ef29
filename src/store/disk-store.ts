/** The store over plain files and two SQLite databases: which of its parts answers what. */

import { mapLimit } from '../core/async.ts'
import { Bitfield } from '../core/bitfield.ts'
import type { CID } from '../core/cid.ts'
import { InvalidInputError } from '../core/errors.ts'
import { type FileStamp, sameStamp } from '../core/file-stamp.ts'
import type { ChunkTable } from '../dag/chunk-table.ts'
import type { Cache } from './cache.ts'
import type { ChunkIndex } from './chunk-index.ts'
import { type Content, type IndexedFile } from './chunk-index.ts'
import type { ChunkReader } from './chunk-reader.ts'
import { damageWarnings } from './damage.ts'
import { regularStamp } from './files.ts'
import type { Removal } from './gc.ts'
import type { Holdings } from './holdings.ts'
import { type Copy, hasChunk } from './holdings.ts'
import { indexFiles } from './index-files.ts'
import type { Models } from './models.ts'
import type { OpenFiles } from './open-files.ts'
import type { Partial } from './partial.ts'
import type { Partials } from './partials.ts'
import { requireSpace, type Reserve } from './space.ts'
import type { StateDb } from './state-db.ts'
import type { StorePaths } from './store-paths.ts'
import type { NewFile } from './new-file.ts'
import type {
  CachedFile,
  HeldChange,
  HeldFile,
  HeldModel,
  IoOptions,
  LostModel,
  NamedModel,
  NewModel,
  Origin,
  PartialSpec,
  PendingPull,
  Place,
  ReadOptions,
  Removed,
  Span,
  Store,
} from './store.ts'

/** Stats in flight: the four threads of Node's pool, kept busy. */
const statsInFlightMax = 8

/** What the store is made of; opened by open-store.ts. */
export interface Parts {
  readonly index: ChunkIndex
  readonly state: StateDb
  readonly cache: Cache
  readonly holdings: Holdings
  readonly files: OpenFiles
  readonly models: Models
  readonly partials: Partials
  readonly removal: Removal
  readonly reader: ChunkReader
  readonly forgetReads: (place: string) => void
}

export class DiskStore implements Store {
  readonly #parts: Parts
  readonly #options: StorePaths & Reserve
  readonly #stack: AsyncDisposableStack

  constructor(parts: Parts, options: StorePaths & Reserve, stack: AsyncDisposableStack) {
    this.#parts = parts
    this.#options = options
    this.#stack = stack
  }

  // What the network sees.

  manifestBlock(manifest: CID): Uint8Array | undefined {
    return this.#parts.state.block(manifest)
  }

  chunkTable(root: CID): ChunkTable | undefined {
    const { index, holdings } = this.#parts
    const content = holdings.contentOf(root)
    return content === undefined ? undefined : index.tableOf(content)
  }

  held(root: CID): Bitfield | undefined {
    const { holdings } = this.#parts
    const content = holdings.contentOf(root)
    return content === undefined ? undefined : holdings.servedOf(content)
  }

  readChunk(root: CID, index: number, options?: ReadOptions): Promise<Uint8Array> {
    return this.#parts.reader.read(root, index, options)
  }

  recheck(): void {
    this.#parts.holdings.forgetAllSeen()
  }

  onHeldChange(listener: (change: HeldChange) => void): () => void {
    return this.#parts.holdings.onChange(listener)
  }

  // Models.

  addModel(model: NewModel, hashed: readonly NewFile[] = []): HeldModel {
    const { holdings, models } = this.#parts
    return holdings.change([], change => {
      indexFiles(this.#parts, hashed, change)
      return models.add(model, change)
    })
  }

  model(manifest: CID): HeldModel | undefined {
    return this.#parts.models.get(manifest)
  }

  models(): HeldModel[] {
    return this.#parts.models.all()
  }

  filesOf(manifest: CID): HeldFile[] {
    return this.#parts.models.filesOf(manifest)
  }

  setPinned(manifest: CID, pinned: boolean): void {
    this.#parts.models.require(manifest)
    this.#parts.state.setPinned(manifest, pinned)
  }

  setName(manifest: CID, name: string): void {
    this.#parts.models.require(manifest)
    this.#parts.state.setName(manifest, name)
  }

  findName(name: string): NamedModel | undefined {
    return this.#parts.state.findName(name)
  }

  names(): NamedModel[] {
    return this.#parts.state.names()
  }

  bindName(name: string, model: Pick<NamedModel, 'manifest'> & { readonly link: string }): void {
    this.#parts.state.bindName(name, model)
  }

  unbindName(name: string): void {
    this.#parts.state.unbindName(name)
  }

  putOrigin(origin: Origin): void {
    this.#parts.models.require(origin.manifest)
    this.#parts.state.putOrigin(origin)
  }

  originOf(manifest: CID): Origin | undefined {
    return this.#parts.state.originOf(manifest)
  }

  originsOf(repo: Pick<Origin, 'hub' | 'type' | 'repo'>): Origin[] {
    return this.#parts.state.originsOf(repo)
  }

  removeModel(manifest: CID, options: { deleteFiles: boolean }): Promise<Removed> {
    return this.#parts.removal.removeModel(manifest, options)
  }

  discard(place: string): Promise<Removed> {
    return this.#parts.removal.discard(place)
  }

  gc(options: { dryRun: boolean }): Promise<Removed> {
    return this.#parts.removal.gc(options)
  }

  async refresh(manifest?: CID, options: IoOptions = {}): Promise<void> {
    const files = manifest === undefined ? this.#parts.index.allFiles() : this.#filesOf(manifest)
    const looks = mapLimit(files, statsInFlightMax, file => this.#look(file), options.signal)
    for await (const _ of looks) options.signal?.throwIfAborted()
  }

  // Reading, for this machine's own user.

  present(root: CID): Bitfield | undefined {
    const { holdings } = this.#parts
    const content = holdings.contentOf(root)
    return content === undefined ? undefined : holdings.heldOf(content)
  }

  readSpan(root: CID, span: Span, into: Uint8Array, options?: IoOptions): Promise<Uint8Array> {
    return this.#parts.reader.readSpan(root, span, into, options)
  }

  // Files.

  addFiles(files: readonly NewFile[]): void {
    this.#parts.holdings.change([], change => indexFiles(this.#parts, files, change))
  }

  fileAt(place: string, stamp: FileStamp): NewFile | undefined {
    return this.filesAt([{ place, stamp }])[0]
  }

  filesAt(wanted: readonly { place: string; stamp: FileStamp }[]): NewFile[] {
    const { index } = this.#parts
    const stamps = new Map(wanted.map(({ place, stamp }) => [place, stamp]))
    return index.filesAt([...stamps.keys()]).flatMap(({ place, content, stamp, damaged }) => {
      const { root, sha256 } = content
      const isSame = sameStamp(stamp, stamps.get(place) as FileStamp)
      if (!isSame || sha256 === undefined || damaged !== undefined) return []
      return { place, stamp, sha256, root, table: index.tableOf(content) }
    })
  }

  async findFile(sha256: Uint8Array): Promise<string[]> {
    const { index } = this.#parts
    const places: string[] = []
    for (const content of index.contentsWith(sha256)) {
      for (const file of index.filesWith(content)) {
        if (file.damaged === undefined && (await this.#look(file))) places.push(file.place)
      }
    }
    return places
  }

  findChunk(digest: Uint8Array): Place[] {
    const { index, holdings } = this.#parts
    const seen: Place[] = []
    const unseen: Place[] = []
    for (const { content, index: chunk } of index.positionsOf(digest)) {
      const { offset, length } = index.tableOf(content).ref(chunk)
      for (const copy of holdings.copiesOf(content)) {
        if (!hasChunk(copy, chunk)) continue
        const places = holdings.wasSeen(copy.path, chunk) ? seen : unseen
        places.push({ place: copy.path, offset, length })
      }
    }
    return [...seen, ...unseen]
  }

  quarantine(place: string, chunks: readonly number[]): void {
    const copy = this.#copyAt(place)
    if (copy !== undefined) this.#parts.holdings.noteDamage(copy.copy, copy.content, chunks)
  }

  confirm(place: string, stamp: FileStamp, damaged: readonly number[] = []): void {
    const { index, holdings } = this.#parts
    const file = index.fileAt(place)
    if (file === undefined) return
    const { content } = file
    if (stamp.size !== content.size) {
      throw new InvalidInputError(`${place} has ${stamp.size} bytes, not ${content.size}`)
    }
    const bits = new Bitfield(content.chunks)
    for (const chunk of damaged) bits.add(chunk)
    holdings.change([content.root], () => {
      index.transaction(() => {
        index.putFile(place, content, stamp)
        index.setDamaged(file, bits)
      })
      this.#parts.forgetReads(place)
    })
  }

  // The cache.

  cacheFile(place: string): void {
    this.#parts.cache.add(place)
  }

  cachedFiles(): CachedFile[] {
    return this.#parts.cache.files()
  }

  evict(place: string): Promise<Removed> {
    return this.#parts.removal.evict(place)
  }

  // Downloads.

  checkSpace(folder: string, bytes: number): Promise<void> {
    return requireSpace(folder, bytes, this.#options)
  }

  openPartial(spec: PartialSpec): Promise<Partial> {
    return this.#parts.partials.open(spec)
  }

  tidy(folder: string): Promise<void> {
    return this.#parts.partials.tidy(folder)
  }

  putPending(pull: PendingPull): void {
    this.#parts.state.putPending(pull)
  }

  deletePending(id: string): void {
    this.#parts.state.deletePending(id)
  }

  pending(): PendingPull[] {
    return this.#parts.state.pending()
  }

  fact(name: string): string | undefined {
    return this.#parts.state.fact(name)
  }

  setFact(name: string, value: string | undefined): void {
    this.#parts.state.setFact(name, value)
  }

  // Providing.

  providedKeys(): Iterable<CID> {
    return this.#parts.models.providedKeys()
  }

  lostModels(): LostModel[] {
    const { state, index } = this.#parts
    return state.models().filter(model => {
      if (!model.lost) return false
      const isUnknown = (place: string): boolean =>
        index.fileAt(place) === undefined && index.partialAt(place) === undefined
      return state.placements(model).some(({ place }) => isUnknown(place))
    })
  }

  clearLost(manifest: CID): void {
    this.#parts.state.clearLost(manifest)
  }

  warnings(): string[] {
    return damageWarnings(this.#options)
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync()
  }

  *#filesOf(manifest: CID): Generator<IndexedFile> {
    const { index, models, state } = this.#parts
    for (const { place } of state.placements(models.require(manifest))) {
      const file = index.fileAt(place)
      if (file !== undefined) yield file
    }
  }

  /** Stats one file and notes what that shows; true when it is as it was. */
  async #look(file: IndexedFile): Promise<boolean> {
    const stamp = await regularStamp(file.place)
    this.#parts.holdings.noteStamp(file, stamp)
    return stamp !== undefined && sameStamp(stamp, file.stamp)
  }

  #copyAt(place: string): { copy: Copy; content: Content } | undefined {
    const { index, holdings } = this.#parts
    const file = index.fileAt(place)
    if (file !== undefined)
      return { copy: { kind: 'file', path: place, file }, content: file.content }
    const partial = index.partialAt(place)
    if (partial === undefined) return undefined
    const held = holdings.bitsOf(partial)
    return { copy: { kind: 'partial', path: partial.part, place, held }, content: partial.content }
  }
}
