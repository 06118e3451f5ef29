/**
 * The files of one download on this machine: opened, filled with what lies in other files here,
 * parked, published. Which of them when is the session's decision.
 */

import type { Bitfield } from '../core/bitfield.ts'
import { IntegrityError, messageOf } from '../core/errors.ts'
import type { ChunkTable } from '../dag/chunk-table.ts'
import type { Partial } from '../store/partial.ts'
import type { DownloadDeps, DownloadOptions, DownloadRequest, WantedFile } from './request.ts'
import { readLocalChunk } from './reuse.ts'
import type { SourceId } from './source.ts'
import { bytesHeld, type Tally } from './tally.ts'

export interface RunFile {
  readonly wanted: WantedFile
  table: ChunkTable | undefined
  partial: Partial | undefined
  /** Came before its chunks were known. */
  bytesWhole: number
}

export interface RunFilesOptions {
  readonly tally: Tally
  /** Ends copying: the download is over. */
  readonly signal: AbortSignal
  readonly onNotice: DownloadOptions['onNotice']
  /** Something was written or finished. */
  readonly onProgress: () => void
}

export class RunFiles {
  readonly all: readonly RunFile[]
  readonly #deps: DownloadDeps
  readonly #folder: string
  readonly #options: RunFilesOptions
  /** One file after the other: disks like that, and it bounds memory. */
  #copying: Promise<unknown> = Promise.resolve()
  #copies = 0

  constructor(deps: DownloadDeps, request: DownloadRequest, options: RunFilesOptions) {
    this.#deps = deps
    this.#folder = request.folder
    this.#options = options
    this.all = request.files.map(wanted => ({
      wanted,
      table: undefined,
      partial: undefined,
      bytesWhole: 0,
    }))
  }

  /** Chunks of this machine's other files are being copied. */
  get isCopying(): boolean {
    return this.#copies > 0
  }

  /** Files whose chunks are not known. */
  unknown(): number[] {
    return this.all.flatMap(({ table }, file) => (table === undefined ? file : []))
  }

  get(file: number): RunFile {
    const entry = this.all[file]
    if (entry === undefined) throw new RangeError(`no file ${file}`)
    return entry
  }

  /** A person knows files; the digests are for the log. */
  wrongBytes(file: number, cause: Error): IntegrityError {
    return new IntegrityError(`it sent wrong bytes of ${this.get(file).wanted.path}`, { cause })
  }

  /** Returns what is held of it, once what lies in other files here is held too. */
  async open(file: number): Promise<Bitfield> {
    const entry = this.get(file)
    const { root, sha256, place, size } = entry.wanted
    const table = entry.table as ChunkTable
    const isFirst = entry.partial === undefined
    const spec = { root, sha256, table, place, folder: this.#folder }
    const partial = await this.#deps.store.openPartial(spec)
    entry.partial = partial
    const heldBefore = bytesHeld(table, partial.held)
    if (isFirst) this.#options.tally.reused(heldBefore - entry.bytesWhole)
    if (heldBefore < size) await this.#copyLocal(partial, table)
    return partial.held
  }

  async park(file: number): Promise<void> {
    await this.get(file).partial?.[Symbol.asyncDispose]()
  }

  /** Undefined when it is done; what is held when the store found some of it damaged on the disk. */
  async publish(file: number): Promise<Bitfield | undefined> {
    const entry = this.get(file)
    const partial = entry.partial as Partial
    if (!partial.held.isFull) return partial.held
    try {
      const { keptAs } = await partial.publish()
      if (keptAs !== undefined) this.#options.onNotice('info', keptNotice(keptAs))
      await partial[Symbol.asyncDispose]()
    } catch (error) {
      if (error instanceof IntegrityError) entry.wanted.table?.blame?.(error)
      throw error
    }
    entry.partial = undefined
    this.#options.onProgress()
    this.#options.tally.fileDone()
    return undefined
  }

  /** Of a file that comes whole, not chunk by chunk. */
  gotWhole(file: number, from: SourceId, bytes: number): void {
    this.get(file).bytesWhole += bytes
    this.#options.tally.fetched(from, bytes)
    this.#options.onProgress()
  }

  /** What came of it so is not wanted. */
  discardWhole(file: number): void {
    const entry = this.get(file)
    this.#options.tally.discarded(entry.bytesWhole)
    entry.bytesWhole = 0
  }

  /** Flushed and closed, whatever goes wrong with one of them. */
  async close(): Promise<void> {
    for (const { partial, wanted } of this.all) {
      try {
        await partial?.[Symbol.asyncDispose]()
      } catch (error) {
        const { path } = wanted
        this.#deps.log.warn('closing a partial file failed', { path, error: messageOf(error) })
      }
    }
  }

  async #copyLocal(partial: Partial, table: ChunkTable): Promise<void> {
    if (!this.#isAnyHere(partial, table)) return
    const before = this.#copying
    const turn = Promise.withResolvers<void>()
    this.#copying = turn.promise
    this.#copies += 1
    try {
      await before
      await this.#copyChunks(partial, table)
    } finally {
      this.#copies -= 1
      turn.resolve()
    }
  }

  #isAnyHere(partial: Partial, table: ChunkTable): boolean {
    const { store } = this.#deps
    for (let index = 0; index < table.count; index += 1) {
      if (!partial.held.has(index) && store.findChunk(table.digest(index)).length > 0) return true
    }
    return false
  }

  async #copyChunks(partial: Partial, table: ChunkTable): Promise<void> {
    const { tally, signal, onProgress } = this.#options
    for (let index = 0; index < table.count && !signal.aborted; index += 1) {
      if (partial.held.has(index)) continue
      const places = this.#deps.store.findChunk(table.digest(index))
      if (places.length === 0) continue
      const block = await readLocalChunk(this.#deps, table.digest(index), places)
      if (block === undefined) continue
      await partial.write(index, block)
      tally.reused(block.bytes.length)
      onProgress()
    }
  }
}

function keptNotice(path: string): string {
  return `the damaged file is kept as ${path}: delete it when you do not need it`
}
