/**
 * What becomes of the files that the gateway fetches: kept while they fit, promised, or dropped after
 * their last reader. What was read longest ago goes first; nothing goes that is pinned, is being read or
 * is being served.
 */

import type { CID } from '../../core/cid.ts'
import type { Clock } from '../../core/clock.ts'
import { isAbort, messageOf, StorageError } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import { formatBytes, minute, second } from '../../core/units.ts'
import type { ManifestFile } from '../../manifest/manifest.ts'
import type { CachedFile, NamedModel, Store } from '../../store/store.ts'
import { isInside } from '../home-guard.ts'
import type { Work } from '../work.ts'

export interface CacheOptions {
  /** As long as there is room, for good, or as long as somebody reads. */
  readonly keep: 'cache' | 'none' | 'pin'
  /** Of all files that were fetched for readers; as much as fits when left out. */
  readonly cacheBytes: number | undefined
}

export interface FileCacheDeps {
  readonly store: Pick<
    Store,
    'cachedFiles' | 'cacheFile' | 'checkSpace' | 'evict' | 'model' | 'present' | 'setPinned'
  >
  readonly net: { providedChanged(): void }
  readonly work: Work
  readonly clock: Clock
  readonly log: Logger
  /** Our own: a file that goes into a folder of the user's is the user's. */
  readonly modelsFolder: string
}

/** A file that is about to be fetched for a reader. */
export interface ComingFile {
  readonly model: NamedModel
  readonly file: ManifestFile
  readonly folder: string
  readonly place: string
}

/** A peer that fetches a file asks for a chunk of it more often than this. */
const servedMs = 30 * second
/** A cache that is too full, because all of it is in use, is looked at again after this. */
const lookAgainMs = minute
/** Evicted down to this part of the budget, so that not each small file looks through the whole cache. */
const lowWater = 0.95

export class FileCache {
  readonly #deps: FileCacheDeps
  readonly #options: CacheOptions
  readonly #isRead: (root: CID) => boolean
  /** Being fetched: they will take their whole size. */
  readonly #coming = new Map<string, number>()
  /** Fetched for readers who are there, and to be dropped after them. */
  readonly #passing = new Map<string, ComingFile>()
  /** At least what the cache takes; counted anew before anything is evicted. */
  #bytesAtMost = Infinity
  /** One eviction at a time, and no file is fetched to a place that is being emptied. */
  #turn: Promise<void> = Promise.resolve()
  #isTooFull = false
  #looksAgain = false

  constructor(deps: FileCacheDeps, options: CacheOptions, isRead: (root: CID) => boolean) {
    this.#deps = deps
    this.#options = options
    this.#isRead = isRead
  }

  /** What an earlier run left: the budget may be smaller now, and a kill leaves what was to be dropped. */
  async open(): Promise<void> {
    await this.#inTurn(async () => {
      if (this.#options.keep !== 'none') return this.#trim()
      for (const file of this.#idle()) await this.#evict(file)
    })
  }

  /** Makes room for it. To be followed by `arrived`, whatever becomes of it. */
  async expect(coming: ComingFile): Promise<void> {
    const { modelsFolder, store } = this.#deps
    const { file, folder, model, place } = coming
    const { keep } = this.#options
    if (keep === 'pin') store.setPinned(model.manifest, true)
    await this.#inTurn(async () => {
      if (keep !== 'pin' && isInside(place, modelsFolder)) store.cacheFile(place)
      if (keep === 'none') this.#passing.set(file.root.toString(), coming)
      this.#coming.set(place, file.size)
      this.#bytesAtMost += file.size
      await this.#trim()
      await this.#freeSpace(folder, file)
    })
  }

  arrived({ place }: ComingFile): void {
    this.#coming.delete(place)
  }

  /** Nobody reads the file any more. */
  async left(root: CID): Promise<void> {
    const key = root.toString()
    await this.#inTurn(async () => {
      const passing = this.#passing.get(key)
      const file = this.#idle().find(({ place }) => place === passing?.place)
      if (file !== undefined) await this.#evict(file)
      if (!this.#isRead(root)) this.#passing.delete(key)
      if (this.#isTooFull) await this.#trim()
    })
  }

  /** What may go, read longest ago first. */
  #idle(): CachedFile[] {
    const { clock, store } = this.#deps
    const nowMs = clock.now()
    return store
      .cachedFiles()
      .filter(file => !file.pinned && !this.#isRead(file.root) && !this.#coming.has(file.place))
      .filter(({ servedAtMs }) => servedAtMs === undefined || nowMs - servedAtMs > servedMs)
  }

  /** Down to the budget, as far as what is not in use allows. */
  async #trim(): Promise<void> {
    const { cacheBytes } = this.#options
    if (cacheBytes === undefined || this.#bytesAtMost <= cacheBytes) return
    this.#bytesAtMost = this.#count()
    if (this.#bytesAtMost > cacheBytes) {
      for (const file of this.#idle()) {
        if (this.#bytesAtMost <= cacheBytes * lowWater) break
        await this.#evict(file)
      }
    }
    this.#isTooFull = this.#bytesAtMost > cacheBytes
    if (this.#isTooFull && !this.#looksAgain) void this.#lookAgain()
  }

  async #lookAgain(): Promise<void> {
    const { clock, log, work } = this.#deps
    this.#looksAgain = true
    try {
      while (this.#isTooFull) {
        await clock.sleep(lookAgainMs, work.closing)
        await this.#inTurn(() => this.#trim())
      }
    } catch (error) {
      if (!isAbort(error)) log.warn('the cache was not trimmed', { error: messageOf(error) })
    } finally {
      this.#looksAgain = false
    }
  }

  /** Of what may be evicted at some time, and of what is coming. */
  #count(): number {
    let bytes = 0
    for (const { bytesHeld, pinned, place } of this.#deps.store.cachedFiles()) {
      if (!pinned && !this.#coming.has(place)) bytes += bytesHeld
    }
    for (const size of this.#coming.values()) bytes += size
    return bytes
  }

  /** A disk that others fill: the cache gives way as long as it has something to give. */
  async #freeSpace(folder: string, { root, size }: ManifestFile): Promise<void> {
    const { store } = this.#deps
    const present = store.present(root)
    const missing =
      present === undefined ? size : Math.ceil(size * (1 - present.count / (present.length || 1)))
    const tried = new Set<string>()
    for (;;) {
      try {
        await store.checkSpace(folder, missing)
        return
      } catch (error) {
        const oldest = this.#idle().find(({ place }) => !tried.has(place))
        if (!(error instanceof StorageError) || oldest === undefined) throw error
        tried.add(oldest.place)
        await this.#evict(oldest)
      }
    }
  }

  async #evict({ bytesHeld, place }: CachedFile): Promise<void> {
    const { log, net, store } = this.#deps
    const { bytesFreed, filesDeleted, kept } = await store.evict(place)
    // Pinned meanwhile, or a pull of it began.
    if (filesDeleted === 0 && kept.length === 0) return
    this.#bytesAtMost -= bytesHeld
    net.providedChanged()
    log.info('evicted a file of the cache', { place, freed: formatBytes(bytesFreed) })
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    const turn = this.#turn.then(work)
    this.#turn = turn.catch(() => undefined)
    return turn
  }
}
