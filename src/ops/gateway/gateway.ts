/**
 * What a gateway asks of a node: models by their names, and bytes of their files. The gateway speaks
 * HTTP and knows no store; this knows the store and no HTTP.
 */

import type { SourceView } from '../../api/contract.ts'
import { raceSignal } from '../../core/async.ts'
import type { CID } from '../../core/cid.ts'
import {
  errorFromCode,
  IntegrityError,
  isAbort,
  messageOf,
  NotFoundError,
  UnavailableError,
} from '../../core/errors.ts'
import { chunkBytesMax } from '../../core/limits.ts'
import type { ChunkTable } from '../../dag/chunk-table.ts'
import { decodeManifest, type Manifest, type ManifestFile } from '../../manifest/manifest.ts'
import type { NamedModel, Span, Store } from '../../store/store.ts'
import { type CacheOptions, FileCache } from './cache.ts'
import { type FetchDeps, Fetches, type FileFetch } from './fetch.ts'
import type { OpenedFile } from './opened-file.ts'
import { Readers } from './readers.ts'
import { sourceView, xetHashesOf } from '../mirror/hub-facts.ts'
import type { Upstream } from '../mirror/upstream.ts'

export type { NamedModel, Span } from '../../store/store.ts'
export type { CacheOptions } from './cache.ts'
export type { OpenedFile } from './opened-file.ts'

/** More room than this is not filled faster. */
export const readBytesMax = chunkBytesMax

export interface Gateway {
  /** Without regard to the case of ASCII letters. */
  find(name: string): NamedModel | undefined
  names(): readonly NamedModel[]
  /**
   * One that is not known here, of the hub that is passed through: UnavailableError when it cannot be asked.
   * There is no such question when none is.
   */
  readonly lookUp?: (name: string, signal: AbortSignal) => Promise<NamedModel | undefined>
  /** UnavailableError when it is not here and nobody serves it. */
  manifest(model: NamedModel, signal: AbortSignal): Promise<Manifest>
  /** What is known of where the model came from. */
  about(model: NamedModel): SourceView | null
  /** What Xet calls its files, by path; those that the hub told. */
  xetHashes(model: NamedModel): ReadonlyMap<string, string>
  /** The file must be of this model's manifest. */
  open(model: NamedModel, file: ManifestFile): OpenedFile
}

export interface NodeGateway extends Gateway {
  /** For who may read what is here and start nothing: UNTRUSTED where the other one would fetch. */
  readonly held: Gateway
  /** A file of the model is coming because somebody reads it, or did a moment ago. */
  isFetching(manifest: CID): boolean
}

export function openGateway(
  deps: FetchDeps,
  options: CacheOptions,
  upstream?: Upstream,
): NodeGateway {
  const { clock, log, store, work } = deps
  const cache = new FileCache(deps, options, root => readers.isUsed(root))
  const fetches = new Fetches({ ...deps, cache })
  const report = (error: unknown): void => {
    if (!isAbort(error)) log.warn('the cache was not trimmed', { error: messageOf(error) })
  }
  const onIdle = (root: CID): void =>
    void work
      .run(async () => {
        await fetches.left(root)
        await cache.left(root)
      })
      .catch(report)
  const onPause = (root: CID): void => fetches.pause(root)
  const readers = new Readers({ clock, closing: work.closing, onPause, onIdle })
  void work.run(() => cache.open()).catch(report)
  const read = (file: ManifestFile, join: () => FileFetch): OpenedFile => {
    readers.enter(file.root)
    return new ReadFile({ store, file, join, leave: () => readers.leave(file.root) })
  }
  return {
    held: heldGateway(store, file => read(file, refuseToStart)),
    isFetching: manifest => fetches.isRunning(manifest),
    find: name => store.findName(name),
    names: () => store.names(),
    ...(upstream === undefined
      ? {}
      : {
          lookUp: (name: string, signal: AbortSignal) => upstream.find(name, signal),
        }),
    async manifest(model, signal) {
      const passed = upstream?.repository(model.manifest)
      if (passed !== undefined) return passed.manifest
      const block = store.manifestBlock(model.manifest)
      if (block !== undefined) return decodeManifest(block)
      return raceSignal(fetches.manifest(model), signal)
    },
    about: ({ manifest }) => upstream?.repository(manifest)?.about ?? sourceView(store, manifest),
    xetHashes: ({ manifest }) =>
      upstream?.repository(manifest)?.xetHashes ?? xetHashesOf(store, manifest),
    open(model, file) {
      const passed = upstream?.repository(model.manifest)
      if (passed !== undefined) return passed.open(file)
      return read(file, () => fetches.join(model, file))
    },
  }
}

function heldGateway(store: Store, read: (file: ManifestFile) => OpenedFile): Gateway {
  return {
    find: name => store.findName(name),
    names: () => store.names(),
    async manifest(model) {
      const block = store.manifestBlock(model.manifest)
      return block === undefined ? refuseToStart() : decodeManifest(block)
    },
    about: ({ manifest }) => sourceView(store, manifest),
    xetHashes: ({ manifest }) => xetHashesOf(store, manifest),
    // A part of it would be an answer that breaks off.
    open: (_, file) => (store.present(file.root)?.isFull === true ? read(file) : refuseToStart()),
  }
}

function refuseToStart(): never {
  throw errorFromCode(
    'UNTRUSTED',
    'it is not here, and a web page may be asking: nothing is fetched for a browser',
    { hint: 'fetch it with a program, such as hf, curl or commonweight pull' },
  )
}

/** A copy that turns out to be damaged is withdrawn, and there may be another one. */
const triesMax = 3

interface ReadFileDeps {
  readonly store: FetchDeps['store']
  readonly file: ManifestFile
  join(): FileFetch
  leave(): void
}

class ReadFile implements OpenedFile {
  readonly #deps: ReadFileDeps
  readonly #store: FetchDeps['store']
  readonly #file: ManifestFile
  /** Once something of it had to be fetched. */
  #fetch: FileFetch | undefined
  #table: ChunkTable | undefined
  #isWhole = false

  constructor(deps: ReadFileDeps) {
    this.#deps = deps
    this.#store = deps.store
    this.#file = deps.file
  }

  get isWhole(): boolean {
    // Asked once when it is: each look is a query, and there is one for every piece.
    this.#isWhole ||= this.#fetch?.isWhole ?? this.#store.present(this.#file.root)?.isFull === true
    return this.#isWhole
  }

  async read(span: Span, into: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
    let failure: unknown
    for (let tries = 0; tries < triesMax; tries += 1) {
      await this.#whenHere(span.offset, signal)
      try {
        return await this.#store.readSpan(this.#file.root, span, into, { signal })
      } catch (error) {
        const isWithdrawn = error instanceof NotFoundError || error instanceof IntegrityError
        if (!isWithdrawn) throw error
        failure = error
        this.#isWhole = false
        this.#fetch = undefined
      }
    }
    throw new UnavailableError('the file on disk is not what it was', { cause: failure })
  }

  [Symbol.dispose](): void {
    this.#fetch = undefined
    this.#deps.leave()
  }

  async #whenHere(offset: number, signal: AbortSignal): Promise<void> {
    const chunk = this.#chunkAt(offset)
    if (chunk !== undefined && this.isWhole) return
    if (this.#fetch === undefined) {
      const present = this.#store.present(this.#file.root)
      if (chunk !== undefined && present?.has(chunk) === true) return
      this.#fetch = this.#deps.join()
    }
    await this.#fetch.whenHere(offset, signal)
  }

  #chunkAt(offset: number): number | undefined {
    this.#table ??= this.#store.chunkTable(this.#file.root)
    return this.#table?.at(offset)
  }
}
