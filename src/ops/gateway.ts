/**
 * What a gateway asks of a node: models by their names, and bytes of their files. The gateway speaks
 * HTTP and knows no store; this knows the store and no HTTP.
 */

import { raceSignal } from '../core/async.ts'
import { IntegrityError, NotFoundError, UnavailableError } from '../core/errors.ts'
import { chunkBytesMax } from '../core/limits.ts'
import type { ChunkTable } from '../dag/chunk-table.ts'
import { decodeManifest, type Manifest, type ManifestFile } from '../manifest/manifest.ts'
import type { NamedModel } from '../store/store.ts'
import { type FetchDeps, Fetches, type FileFetch } from './gateway-fetch.ts'

export type { NamedModel } from '../store/store.ts'

/** Bytes that one read gives at most, and what `into` must have room for. */
export const readBytesMax = chunkBytesMax

/** A file while somebody reads it. */
export interface OpenedFile extends Disposable {
  /** Every byte of it is here. */
  readonly isWhole: boolean
  /**
   * The bytes from `offset` on, at least one and none from `end` on, verified, in the memory of `into`.
   * What is not here is fetched and waited for; UnavailableError when nobody serves it.
   */
  read(span: Span, into: Uint8Array, signal: AbortSignal): Promise<Uint8Array>
}

export interface Span {
  readonly offset: number
  readonly end: number
}

export interface Gateway {
  /** Without regard to the case of ASCII letters. */
  find(name: string): NamedModel | undefined
  names(): readonly NamedModel[]
  /** UnavailableError when it is not here and nobody serves it. */
  manifest(model: NamedModel, signal: AbortSignal): Promise<Manifest>
  /** The file must be of this model's manifest. */
  open(model: NamedModel, file: ManifestFile): OpenedFile
}

export function openGateway(deps: FetchDeps): Gateway {
  const { store } = deps
  const fetches = new Fetches(deps)
  return {
    find: name => store.findName(name),
    names: () => store.names(),
    async manifest(model, signal) {
      const block = store.manifestBlock(model.manifest)
      if (block !== undefined) return decodeManifest(block)
      return raceSignal(fetches.manifest(model), signal)
    },
    open: (model, file) => new ReadFile(store, file, () => fetches.join(model, file)),
  }
}

/** A copy that turns out to be damaged is withdrawn, and there may be another one. */
const triesMax = 3

class ReadFile implements OpenedFile {
  readonly #store: FetchDeps['store']
  readonly #file: ManifestFile
  readonly #join: () => FileFetch
  /** Once something of it had to be fetched. */
  #fetch: FileFetch | undefined
  #table: ChunkTable | undefined
  #isWhole = false

  constructor(store: FetchDeps['store'], file: ManifestFile, join: () => FileFetch) {
    this.#store = store
    this.#file = file
    this.#join = join
  }

  get isWhole(): boolean {
    // Asked once when it is: each look is a query, and there is one for every piece.
    this.#isWhole ||= this.#store.present(this.#file.root)?.isFull === true
    return this.#isWhole
  }

  async read(span: Span, into: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
    let failure: unknown
    for (let tries = 0; tries < triesMax; tries += 1) {
      await this.#whenHere(span.offset, signal)
      try {
        return await this.#read(span, into, signal)
      } catch (error) {
        const isWithdrawn = error instanceof NotFoundError || error instanceof IntegrityError
        if (!isWithdrawn) throw error
        failure = error
        this.#isWhole = false
      }
    }
    throw new UnavailableError('the file on disk is not what it was', { cause: failure })
  }

  [Symbol.dispose](): void {
    void this.#fetch?.leave()
    this.#fetch = undefined
  }

  async #whenHere(offset: number, signal: AbortSignal): Promise<void> {
    const chunk = this.#chunkAt(offset)
    if (chunk !== undefined && this.isWhole) return
    const present = this.#store.present(this.#file.root)
    if (chunk !== undefined && present?.has(chunk) === true) {
      this.#fetch?.advance(present)
      return
    }
    this.#fetch ??= this.#join()
    await this.#fetch.whenHere(() => this.#chunkAt(offset), signal)
  }

  #chunkAt(offset: number): number | undefined {
    this.#table ??= this.#store.chunkTable(this.#file.root)
    return this.#table === undefined ? undefined : chunkAt(this.#table, offset)
  }

  async #read(span: Span, into: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
    const { root } = this.#file
    const table = this.#table as ChunkTable
    const present = this.isWhole ? undefined : this.#store.present(root)
    const chunk = chunkAt(table, span.offset)
    const isHere = (index: number): boolean => present?.has(index) ?? this.isWhole
    const end = runEnd(table, chunk, { end: span.end, isHere })
    const bytes = await this.#store.readRun(root, [chunk, end], into, { signal })
    const from = table.offset(chunk)
    return bytes.subarray(span.offset - from, Math.min(bytes.length, span.end - from))
  }
}

/** The chunk with this byte. */
function chunkAt(table: ChunkTable, offset: number): number {
  let low = 0
  let high = table.count - 1
  while (low < high) {
    const middle = (low + high + 1) >>> 1
    if (table.offset(middle) <= offset) low = middle
    else high = middle - 1
  }
  return low
}

/** Small chunks are read together, as many as fit. */
function runEnd(
  table: ChunkTable,
  start: number,
  { end, isHere }: { end: number; isHere: (chunk: number) => boolean },
): number {
  const limit = table.offset(start) + readBytesMax
  let next = start + 1
  while (
    next < table.count &&
    table.offset(next) < end &&
    table.offset(next + 1) <= limit &&
    isHere(next)
  ) {
    next += 1
  }
  return next
}
