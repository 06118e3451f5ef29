/**
 * Files that are fetched while they are read: one download for all readers of a file. It runs as long
 * as somebody reads, and to its end when the model is pinned. What becomes of it then is up to the cache.
 */

import type { Bitfield } from '../../core/bitfield.ts'
import { raceSignal } from '../../core/async.ts'
import { type CID, sameCid } from '../../core/cid.ts'
import type { ChunkTable } from '../../dag/chunk-table.ts'
import { isAbort, messageOf, StorageError, UnavailableError } from '../../core/errors.ts'
import { minute, second } from '../../core/units.ts'
import { decodeManifest, type Manifest, type ManifestFile } from '../../manifest/manifest.ts'
import { openWebSeeds, type WebSeeds } from '../../net/web/web-seeds.ts'
import { download } from '../../transfer/download.ts'
import { fetchManifest } from '../../transfer/fetch-manifest.ts'
import type { HeldChange, NamedModel, Store } from '../../store/store.ts'
import type { ComingFile, FileCache } from './cache.ts'
import { isInside } from '../home-guard.ts'
import { Steering } from './steering.ts'
import type { PullDeps } from '../pull/pull.ts'
import { chooseTarget } from '../pull/target.ts'
import { parseLink } from '../ref.ts'
import type { Work } from '../work.ts'

export interface FetchDeps extends PullDeps {
  readonly work: Work
}

interface FileFetchDeps extends FetchDeps {
  readonly cache: Pick<FileCache, 'arrived' | 'expect'>
}

/** How long to look for a manifest that nobody known has. */
const findPatienceMs = 30 * second
/** How long a download waits when nobody serves what is missing. */
const stallPatienceMs = 5 * minute

export class Fetches {
  readonly #deps: FileFetchDeps
  readonly #manifests = new Map<string, Promise<Manifest>>()
  readonly #files = new Map<string, FileFetch>()

  constructor(deps: FileFetchDeps) {
    this.#deps = deps
  }

  /** Fetched once for all who ask, and kept as a model of which nothing is here yet. */
  manifest(model: NamedModel): Promise<Manifest> {
    const key = model.manifest.toString()
    const running = this.#manifests.get(key)
    if (running !== undefined) return running
    const started = this.#deps.work
      .run(signal => addModel(this.#deps, model, signal))
      .finally(() => this.#manifests.delete(key))
    // Whoever asked may have left.
    started.catch(() => undefined)
    this.#manifests.set(key, started)
    return started
  }

  /** The download of a file, started unless it runs. */
  join(model: NamedModel, file: ManifestFile): FileFetch {
    const key = file.root.toString()
    const known = this.#files.get(key)
    const fetch = known ?? new FileFetch(this.#deps, model, file)
    if (known === undefined) {
      this.#files.set(key, fetch)
      void fetch.ended.then(() => this.#files.delete(key))
    }
    return fetch
  }

  /** Of some file of the model. */
  isRunning(manifest: CID): boolean {
    return [...this.#files.values()].some(({ model }) => sameCid(model.manifest, manifest))
  }

  /** Nobody reads the file now: what is asked for comes, and nothing else, unless the model is pinned. */
  pause(root: CID): void {
    this.#files.get(root.toString())?.pause()
  }

  /** Nobody reads the file any more: its download ends, unless the model is pinned. */
  async left(root: CID): Promise<void> {
    await this.#files.get(root.toString())?.stop()
  }
}

export class FileFetch {
  readonly #deps: FileFetchDeps
  readonly model: NamedModel
  readonly #file: ManifestFile
  readonly #steering: Steering
  readonly #stop = new AbortController()
  readonly ended: Promise<void>
  /** Kept up by what the store tells: asking it costs the more the larger the file is. */
  #here: Bitfield | undefined
  #table: ChunkTable | undefined
  /** Where somebody waits. */
  readonly #wishes = new Set<{ readonly offset: number }>()
  #changed = Promise.withResolvers<void>()
  #failure: Error | undefined
  #isOver = false
  #isPaused = false

  constructor(deps: FileFetchDeps, model: NamedModel, file: ManifestFile) {
    this.#deps = deps
    this.model = model
    this.#file = file
    this.#steering = new Steering(file.root)
    this.ended = this.#run()
  }

  /** Every byte of the file is here. */
  get isWhole(): boolean {
    return this.#look()?.isFull === true
  }

  /**
   * Resolves when the chunk with this byte is here; rejects when the download ended without it.
   */
  async whenHere(offset: number, signal: AbortSignal): Promise<void> {
    const wish = { offset }
    this.#wishes.add(wish)
    this.#isPaused = false
    try {
      for (;;) {
        const here = this.#look()
        this.#table ??= this.#deps.store.chunkTable(this.#file.root)
        const chunk = this.#table?.at(offset)
        if (chunk !== undefined && here?.has(chunk) === true) return
        if (chunk !== undefined) this.#steering.want(chunk, here)
        if (this.#isOver) throw this.#failure ?? new UnavailableError('the download was stopped')
        await raceSignal(this.#changed.promise, signal)
      }
    } finally {
      this.#wishes.delete(wish)
    }
  }

  /** Before anything is asked for: what readers wait for comes first. */
  #know(table: ChunkTable): void {
    this.#table = table
    for (const { offset } of this.#wishes) this.#steering.want(table.at(offset), undefined)
  }

  #look(): Bitfield | undefined {
    this.#here ??= this.#deps.store.present(this.#file.root)
    return this.#here
  }

  #heard({ root, gained, lost }: HeldChange): void {
    if (!sameCid(root, this.#file.root)) return
    const here = this.#here
    for (const [start, end] of gained) {
      for (let chunk = start; chunk < end; chunk += 1)
        if (here?.has(chunk) === false) here.add(chunk)
    }
    for (const [start, end] of lost) {
      for (let chunk = start; chunk < end; chunk += 1) here?.delete(chunk)
    }
    this.#wake()
  }

  /** More of it may be here: more may be asked for. */
  #wake(): void {
    const here = this.#look()
    if (here !== undefined && !this.#isPaused) this.#steering.advance(here)
    this.#changed.resolve()
    this.#changed = Promise.withResolvers()
  }

  /** Until somebody waits again: a reader of a few bytes does not want the file. */
  pause(): void {
    this.#isPaused = !this.#isPinned
  }

  get #isPinned(): boolean {
    return this.#deps.store.model(this.model.manifest)?.pinned === true
  }

  /** Resolves when it has stopped; at once when it goes on because the model is pinned. */
  async stop(): Promise<void> {
    if (this.#isPinned) {
      // Perhaps only since it was paused.
      this.#isPaused = false
      this.#wake()
      return
    }
    this.#stop.abort()
    await this.ended
  }

  async #run(): Promise<void> {
    const { log, store, work } = this.#deps
    const { path } = this.#file
    const { name } = this.model
    const unlisten = store.onHeldChange(change => this.#heard(change))
    try {
      await work.run(signal => this.#fetch(signal), this.#stop.signal)
      log.debug('a file was fetched for the gateway', { name, path })
    } catch (error) {
      this.#failure = asUnavailable(error)
      if (!isAbort(error)) {
        log.warn('a file was not fetched for the gateway', { name, path, error: messageOf(error) })
      }
    } finally {
      unlisten()
      this.#isOver = true
      this.#stop.abort()
      this.#changed.resolve()
    }
  }

  async #fetch(signal: AbortSignal): Promise<void> {
    const { cache, modelsFolder, store } = this.#deps
    const model = this.model
    const file = this.#file
    await this.#addAgain(signal)
    const coming: ComingFile = { model, file, ...(await placeOf(this.#deps, model, file)) }
    try {
      await cache.expect(coming)
      signal.throwIfAborted()
      await this.#download(coming, signal)
    } finally {
      cache.arrived(coming)
      const { place } = coming
      const isRemoved = store.model(model.manifest) === undefined
      if (isRemoved && isInside(place, modelsFolder)) await store.discard(place)
    }
  }

  /** Removed, and bound to its name again: what the reader knows of it is from before. */
  async #addAgain(signal: AbortSignal): Promise<void> {
    const { store } = this.#deps
    const { manifest, name } = this.model
    const bound = store.findName(name)
    if (bound === undefined || !sameCid(bound.manifest, manifest)) return
    if (store.model(manifest) === undefined) await addModel(this.#deps, bound, signal)
  }

  async #download({ folder, place }: ComingFile, signal: AbortSignal): Promise<void> {
    const { finder, modelsFolder, net } = this.#deps
    const { manifest } = this.model
    const { root, sha256, size, path } = this.#file
    using webSeeds = webSeedsOf(this.#deps, this.model)
    await download(
      { ...this.#deps, finder: this.#steering.finderOver(webSeeds.finderOver(finder)) },
      {
        keys: [manifest, root],
        folder,
        files: [{ path, size, sha256, root, place }],
        ownFolder: modelsFolder,
      },
      {
        signal,
        peers: peersOf(this.model),
        patienceMs: stallPatienceMs,
        order: 'sequential',
        allowance: net.bandwidth.down,
        // Nothing is told of what others may not have.
        onProgress: () => {
          this.#here = undefined
          this.#wake()
        },
        onNotice: () => undefined,
        onTable: (_, table) => this.#know(table),
      },
    )
    net.providedChanged()
  }
}

/** What a reader can do about it is to come back, whatever the reason; that is in the log. */
function asUnavailable(error: unknown): Error {
  if (error instanceof UnavailableError) return error
  return error instanceof StorageError
    ? error
    : new UnavailableError(`it cannot be fetched now: ${messageOf(error)}`, { cause: error })
}

function peersOf({ link }: NamedModel): readonly string[] {
  return link === undefined ? [] : parseLink(link).peers
}

/** Those of the link that the name is bound to. */
function webSeedsOf(deps: FetchDeps, { link, manifest, name }: NamedModel): WebSeeds {
  const hinted = link === undefined ? [] : parseLink(link).webSeeds
  const block = hinted.length === 0 ? undefined : deps.store.manifestBlock(manifest)
  const files = block === undefined ? [] : decodeManifest(block).files
  const onNotice = (_: string, message: string): void => deps.log.warn(message, { name })
  return openWebSeeds({ ...deps, onNotice }, { named: [], hinted, files }, deps.webSeeds)
}

async function addModel(
  deps: FetchDeps,
  model: NamedModel,
  signal: AbortSignal,
): Promise<Manifest> {
  const known = deps.store.manifestBlock(model.manifest)
  if (known !== undefined) return decodeManifest(known)
  const { block, manifest } = await fetchManifest(deps, model.manifest, {
    signal,
    peers: peersOf(model),
    patienceMs: findPatienceMs,
    onNotice: () => undefined,
  })
  const { name } = model
  const target = await chooseTarget(deps, { manifest: model.manifest, name, to: undefined })
  deps.store.addModel({
    manifest: model.manifest,
    block,
    name,
    origin: 'pulled',
    folder: target.folder,
    // Kept while there is room: gc deletes it.
    pinned: false,
    seeding: true,
    files: manifest.files.map(file => ({ ...file, place: target.placeOf(file.path) })),
  })
  deps.net.providedChanged()
  return manifest
}

/** Where the file of a held model goes; one that was left out of a pull is wanted from now on. */
async function placeOf(
  deps: { readonly store: Store; readonly modelsFolder: string },
  { manifest, name }: NamedModel,
  file: ManifestFile,
): Promise<{ folder: string; place: string }> {
  const { store } = deps
  const target = await chooseTarget(deps, { manifest, name, to: undefined })
  const { folder } = target
  const place = target.placeOf(file.path)
  const model = store.model(manifest)
  const block = store.manifestBlock(manifest)
  if (model === undefined || block === undefined)
    throw new UnavailableError('the model was removed')
  if (!store.filesOf(manifest).some(({ path }) => path === file.path)) {
    store.addModel({ ...model, block, files: [{ ...file, place }] })
  }
  return { folder, place }
}
