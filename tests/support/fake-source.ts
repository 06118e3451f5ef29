/**
 * A Source in memory that holds what it is given and can be made to lie, refuse, freeze and leave;
 * and a finder of such sources.
 */

import { writeSync } from 'node:fs'
import { AsyncQueue } from '../../src/core/async.ts'
import type { Bitfield } from '../../src/core/bitfield.ts'
import type { CID } from '../../src/core/cid.ts'
import { UnavailableError } from '../../src/core/errors.ts'
import type { Range } from '../../src/core/ranges.ts'
import type { ChunkTable } from '../../src/dag/chunk-table.ts'
import { verifyDigest } from '../../src/dag/verify.ts'
import type {
  BulkSource,
  ChunkRequest,
  FoundSource,
  HaveUpdate,
  Source,
  SourceFinder,
  SourceOptions,
  WatchedFile,
} from '../../src/transfer/source.ts'

export interface SourceFile {
  readonly bytes: Uint8Array
  readonly root: CID
  readonly table: ChunkTable
  /** All of it when left out. */
  readonly held?: Bitfield
}

/** What is wrong with it; change while it runs. */
export interface Faults {
  /** Flips a bit of every chunk for which this is true. */
  corrupts?: (index: number) => boolean
  /** Changes what is sent for a chunk: too short, too long. */
  mangles?: (bytes: Uint8Array) => Uint8Array
  /** Claims everything and serves no chunk. */
  refuses?: boolean
  /** Answers nothing, or no request for a chunk, until it is closed. */
  freezes?: 'all' | 'chunks'
  /** Sent instead of the true table or manifest. */
  table?: Uint8Array
  manifest?: Uint8Array
}

interface Watch {
  readonly files: readonly WatchedFile[]
  readonly onHave: (update: HaveUpdate) => void
  readonly signal: AbortSignal
}

export class FakeSource implements Source {
  readonly id: string
  readonly kind = 'peer'
  readonly faults: Faults
  readonly bans: Error[] = []
  readonly requests: ChunkRequest[] = []
  readonly manifests = new Map<string, Uint8Array>()
  inFlight = 0
  inFlightPeak = 0
  readonly #files = new Map<string, SourceFile>()
  readonly #tableKeys = new Map<string, ChunkTable>()
  readonly #closed = new AbortController()
  readonly #watches: Watch[] = []

  constructor(id: string, files: readonly SourceFile[] = [], faults: Faults = {}) {
    this.id = id
    this.faults = faults
    for (const file of files) this.add(file)
  }

  get closed(): AbortSignal {
    return this.#closed.signal
  }

  /** It holds this file from now on, and tells who watches. */
  add(file: SourceFile): void {
    this.#files.set(file.root.toString(), file)
    this.#tableKeys.set(file.root.toString(), file.table)
    for (const watch of this.#watches) this.#tell(watch, file.root)
  }

  /** Serves a table under another key: the raw CID of the whole file's SHA-256. */
  addTable(key: CID, table: ChunkTable): void {
    this.#tableKeys.set(key.toString(), table)
  }

  /** Tells that it gained or lost chunks, true or not. */
  tell(root: CID, change: { gained?: readonly Range[]; lost?: readonly Range[] }): void {
    for (const { onHave } of this.#watches) {
      onHave({ root, gained: change.gained ?? [], lost: change.lost ?? [] })
    }
  }

  close(reason: Error = new UnavailableError('it left')): void {
    this.#closed.abort(reason)
  }

  ban(reason: Error): void {
    this.bans.push(reason)
    this.close(reason)
  }

  watch(
    files: readonly WatchedFile[],
    onHave: (update: HaveUpdate) => void,
    { signal }: SourceOptions,
  ): void {
    const watch = { files, onHave, signal }
    this.#watches.push(watch)
    for (const { root } of files) this.#tell(watch, root)
  }

  async fetchManifest(manifest: CID, { signal }: SourceOptions): Promise<Uint8Array> {
    await this.#answering(signal)
    const bytes = this.faults.manifest ?? this.manifests.get(manifest.toString())
    if (bytes === undefined) throw new UnavailableError('no such manifest')
    return bytes
  }

  async fetchTable(
    key: CID,
    _: number | undefined,
    { signal }: SourceOptions,
  ): Promise<Uint8Array> {
    await this.#answering(signal)
    const bytes = this.faults.table ?? this.#tableKeys.get(key.toString())?.bytes
    if (bytes === undefined) throw new UnavailableError('no such file')
    return bytes
  }

  async fetchChunk(request: ChunkRequest, { signal }: SourceOptions): Promise<Uint8Array> {
    this.requests.push(request)
    this.inFlight += 1
    this.inFlightPeak = Math.max(this.inFlightPeak, this.inFlight)
    try {
      await this.#answering(signal, this.faults.freezes !== undefined)
    } finally {
      this.inFlight -= 1
    }
    const { root, index } = request
    const file = this.#files.get(root.toString())
    const isHeld = file?.held?.has(index) ?? true
    if (file === undefined || !isHeld || this.faults.refuses === true) {
      throw new UnavailableError('not held')
    }
    const { offset, length } = file.table.ref(index)
    // A copy: slice of a Buffer would share its memory.
    const bytes = Uint8Array.from(file.bytes.subarray(offset, offset + length))
    if (this.faults.corrupts?.(index) === true) bytes[length >>> 1] = (bytes[length >>> 1] ?? 0) ^ 1
    return this.faults.mangles?.(bytes) ?? bytes
  }

  #tell({ files, onHave, signal }: Watch, root: CID): void {
    const file = this.#files.get(root.toString())
    const isWatched = files.some(watched => watched.root.equals(root))
    if (file === undefined || !isWatched) return
    const { count } = file.table
    const gained: Range[] = file.held === undefined ? [[0, count]] : [...file.held.runs()]
    setImmediate(() => {
      if (!signal.aborted && !this.closed.aborted) onHave({ root, gained, lost: [] })
    })
  }

  /** A turn of the event loop, as over a socket; for ever when frozen. */
  async #answering(signal: AbortSignal, isFrozen = this.faults.freezes === 'all'): Promise<void> {
    const over = AbortSignal.any([signal, this.closed])
    over.throwIfAborted()
    const turn = Promise.withResolvers<void>()
    if (!isFrozen) setImmediate(turn.resolve)
    over.addEventListener('abort', () => turn.reject(over.reason as Error), { once: true })
    await turn.promise
  }
}

/** One with threads of its own, which check and write chunks. */
export class FakeBulkSource extends FakeSource {
  /** Asked each time a chunk is wanted: whether there is a lane. */
  isUp: () => boolean = () => true
  /** Why the thread ends between checking a chunk and writing it. */
  loses?: (index: number) => Error | undefined
  /** Chunks that were written past the main thread. */
  readonly written: number[] = []

  bulk(): Promise<BulkSource | undefined> {
    return Promise.resolve(this.isUp() ? this.#bulk : undefined)
  }

  readonly #bulk: BulkSource = {
    fetchChunkTo: async (request, { fd, offset }, { signal, onChecked }) => {
      const block = verifyDigest(request.digest, await this.fetchChunk(request, { signal }))
      onChecked()
      await new Promise(resolve => setImmediate(resolve))
      const lost = this.loses?.(request.index)
      if (lost !== undefined) throw lost
      writeSync(fd, block.bytes, 0, block.bytes.length, offset)
      this.written.push(request.index)
    },
  }
}

/** Yields the sources it is given, at first and later. */
export class FakeFinder implements SourceFinder {
  readonly keys: CID[] = []
  #known: FoundSource[]
  readonly #queues = new Set<AsyncQueue<FoundSource>>()

  constructor(sources: readonly Source[] = []) {
    this.#known = sources.map(source => ({ type: 'source', source }))
  }

  add(source: Source): void {
    this.#push({ type: 'source', source })
    this.#known.push({ type: 'source', source })
  }

  round(round = 1): void {
    this.#push({ type: 'round', round })
  }

  async *find(keys: readonly CID[], { signal }: SourceOptions): AsyncGenerator<FoundSource> {
    this.keys.push(...keys)
    const queue = new AsyncQueue<FoundSource>()
    this.#queues.add(queue)
    for (const found of this.#known) queue.push(found)
    signal.addEventListener('abort', () => queue.fail(signal.reason as Error), { once: true })
    try {
      yield* queue
    } finally {
      this.#queues.delete(queue)
    }
  }

  #push(found: FoundSource): void {
    for (const queue of this.#queues) queue.push(found)
  }
}
