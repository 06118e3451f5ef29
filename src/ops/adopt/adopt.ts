/**
 * Adopt: what other programs have in their caches is shared from where it lies. Each model becomes one
 * of ours, by the name that it has there; a second time only what changed is read, and what is gone from
 * a cache is forgotten.
 */

import type { AdoptedEvent, AdoptionEvent, AdoptRequest } from '../../api/adoption.ts'
import type { CacheFolder, FoundEntry, FoundModel, RefusedModel } from '../../caches/found.ts'
import { readCache } from '../../caches/read-cache.ts'
import type { CID } from '../../core/cid.ts'
import type { Clock } from '../../core/clock.ts'
import { CommonweightError } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import { asReadError } from '../../ingest/file-errors.ts'
import type { HashedFile, HashPool } from '../../ingest/hash-file.ts'
import { smallFileBytesMax } from '../../ingest/hash-jobs.ts'
import { importFiles } from '../../ingest/import-files.ts'
import type { Net } from '../../net/net.ts'
import type { NewFile } from '../../store/new-file.ts'
import type { Store } from '../../store/store.ts'
import { identify, proveGitOids, provePlaces } from './identify.ts'
import { knownFiles } from './known.ts'
import { AdoptedModels } from './models.ts'
import { AdoptProgress } from './progress.ts'
import { type HomeFolders, refuseHome } from '../home-guard.ts'
import type { OperationOptions } from '../operation.ts'
import { namesModel, type Selection } from '../select.ts'
import { type Guess, UnreadFiles } from './unread.ts'

export interface AdoptDeps extends HomeFolders {
  readonly store: Store
  readonly net: Pick<Net, 'providedChanged'>
  readonly pool: HashPool
  readonly clock: Clock
  readonly log: Logger
}

export type AdoptOptions = Pick<OperationOptions, 'signal'> & {
  readonly onEvent: (event: Parameters<OperationOptions['onEvent']>[0] | AdoptedEvent) => void
}

export type AdoptHow = Pick<AdoptRequest, 'dryRun' | 'pin'>

/** The caches that a request names. */
export function cachesOf({ hf, ollama, lmStudio }: AdoptRequest): CacheFolder[] {
  return [
    ...hf.map(folder => ({ kind: 'hf' as const, folder })),
    ...ollama.map(folder => ({ kind: 'ollama' as const, folder })),
    ...lmStudio.map(folder => ({ kind: 'lm-studio' as const, folder })),
  ]
}

export interface Scan {
  /** Those that were read, without links on the way. */
  readonly caches: readonly CacheFolder[]
  /** In the order of their places. */
  readonly entries: readonly FoundEntry[]
  /** Folders of models that are not meant: they stay as they are. */
  readonly others: readonly string[]
}

/** What is meant of what the caches hold. Throws NotFoundError for the only cache when it is not there. */
export async function scan(
  deps: HomeFolders,
  wanted: readonly CacheFolder[],
  selection: Selection,
  signal: AbortSignal,
): Promise<Scan> {
  const found = new Map<string, FoundEntry>()
  const caches: CacheFolder[] = []
  for (const cache of wanted) {
    await refuseHome(deps, cache.folder)
    try {
      const { folder, entries } = await readCache(cache, { signal })
      caches.push({ ...cache, folder })
      for (const entry of entries) found.set(entry.folder, entry)
    } catch (error) {
      // One of several that cannot be read does not keep the others from it.
      if (wanted.length === 1 || !(error instanceof CommonweightError)) throw error
      found.set(cache.folder, unreadable(cache, error.message))
    }
  }
  const all = [...found.values()].toSorted((a, b) => (a.folder < b.folder ? -1 : 1))
  const isMeant = namesModel(selection)
  const entries = all.filter(({ title }) => isMeant(title))
  const others = all.filter(({ title }) => !isMeant(title)).map(({ folder }) => folder)
  return { caches, entries, others }
}

function unreadable({ kind, folder }: CacheFolder, reason: string): RefusedModel {
  return { kind: 'refused', cache: kind, title: folder, name: undefined, folder, reason }
}

export async function adopt(
  deps: AdoptDeps,
  request: AdoptRequest,
  options: AdoptOptions,
): Promise<AdoptionEvent> {
  const found = await scan(deps, cachesOf(request), request, options.signal)
  return adoptFound(deps, found, request, options)
}

export async function adoptFound(
  deps: AdoptDeps,
  { caches, entries, others }: Scan,
  how: AdoptHow,
  options: AdoptOptions,
): Promise<AdoptionEvent> {
  const run = new Adopting(deps, how, options, entries)
  for (const entry of entries) {
    options.signal.throwIfAborted()
    await run.take(entry)
  }
  await run.finish(caches, others)
  return run.result
}

class Adopting {
  readonly #deps: AdoptDeps
  readonly #how: AdoptHow
  readonly #options: AdoptOptions
  readonly #models: AdoptedModels
  readonly #unread: UnreadFiles
  readonly #progress: AdoptProgress
  #result: AdoptionEvent = { type: 'adoption', models: 0, files: 0, bytes: 0, skipped: 0 }

  constructor(
    deps: AdoptDeps,
    how: AdoptHow,
    options: AdoptOptions,
    entries: readonly FoundEntry[],
  ) {
    this.#deps = deps
    this.#how = how
    this.#options = options
    this.#models = new AdoptedModels(deps, how, options.onEvent)
    this.#unread = new UnreadFiles(deps.store)
    this.#progress = new AdoptProgress(deps.clock, options.onEvent, entries)
  }

  get result(): AdoptionEvent {
    return this.#result
  }

  async take(entry: FoundEntry): Promise<void> {
    const { onEvent } = this.#options
    const line = entry.kind === 'refused' ? this.#refuse(entry) : await this.#adopt(entry)
    const { models, files, bytes, skipped } = this.#result
    this.#result =
      line.state === 'skipped'
        ? { ...this.#result, skipped: skipped + 1 }
        : {
            type: 'adoption',
            models: models + 1,
            files: files + line.files,
            bytes: bytes + line.bytes,
            skipped,
          }
    onEvent(line)
  }

  finish(caches: readonly CacheFolder[], others: readonly string[]): Promise<void> {
    for (const folder of others) this.#models.noteUnclear(folder)
    return this.#models.finish(caches)
  }

  #refuse({ name, folder, reason }: RefusedModel): AdoptedEvent {
    this.#models.noteUnclear(folder)
    const about = { name: name ?? null, path: folder, manifest: null, files: 0, bytes: 0 }
    return { type: 'adopted', ...about, state: 'skipped', reason }
  }

  async #adopt(found: FoundModel): Promise<AdoptedEvent> {
    try {
      return this.#how.dryRun ? this.#look(found) : await this.#share(found)
    } catch (error) {
      this.#options.signal.throwIfAborted()
      const { folder } = found
      // Other programs write into their caches meanwhile: what the system refuses is of the file, and no bug.
      const known = error instanceof CommonweightError ? error : asReadError(folder, error)
      if (!(known instanceof CommonweightError)) throw error
      this.#deps.log.warn('not adopted', { path: folder, error: known.message })
      return this.#refuse({ ...found, kind: 'refused', reason: known.message })
    } finally {
      this.#progress.finished(found)
    }
  }

  /** What would be done: nothing is read but what was hashed before. */
  #look(found: FoundModel): AdoptedEvent {
    const known = this.#known(found)
    if (known.size < found.files.length) {
      this.#models.noteUnclear(found.folder)
      return unreadLine(found, this.#unread.heldAs(found))
    }
    const part = this.#models.partOf(found, known)
    const manifest = part?.manifest ?? identify(found, known).cid
    const isHeld = this.#deps.store.model(manifest) !== undefined
    this.#models.noteSeen(found, manifest)
    return lineOf(found, manifest, isHeld ? 'known' : 'new')
  }

  async #share(found: FoundModel): Promise<AdoptedEvent> {
    const { store } = this.#deps
    const { files, fresh } = await this.#hash(found, this.#known(found))
    await provePlaces(fresh)
    const part = this.#models.settlePart(found, { files, fresh })
    if (part !== undefined) return lineOf({ ...found, name: part.name }, part.manifest, 'known')
    const identified = identify(found, files)
    // A manifest that is held was proven of the same bytes.
    const isProven = store.model(identified.cid) !== undefined && fresh.length === 0
    if (!isProven) await proveGitOids(identified, this.#options.signal)
    const { isNew, name } = await this.#models.settle(found, identified, { files, fresh })
    return lineOf({ ...found, name }, identified.cid, isNew ? 'new' : 'known')
  }

  async #hash(
    found: FoundModel,
    known: ReadonlyMap<string, HashedFile>,
  ): Promise<{ files: ReadonlyMap<string, HashedFile>; fresh: readonly NewFile[] }> {
    if (known.size === found.files.length) return { files: known, fresh: [] }
    const { store } = this.#deps
    const { signal } = this.#options
    const pool = rememberLarge(this.#deps.pool, store)
    const imported = await importFiles({ pool, known: () => known.values() }, found.files, {
      signal,
      onProgress: progress => this.#progress.report(progress),
    })
    const { files, fresh } = imported
    return { files: new Map(files.map(({ path, file }) => [path, file])), fresh }
  }

  #known(found: FoundModel): ReadonlyMap<string, HashedFile> {
    const known = knownFiles(this.#deps.store, found)
    this.#progress.knew([...known.values()].reduce((sum, { stamp }) => sum + stamp.size, 0))
    return known
  }
}

function unreadLine(found: FoundModel, held: Guess | undefined): AdoptedEvent {
  if (held !== 'likely') return lineOf(found, undefined, held === undefined ? 'new' : 'known')
  const remarks = [found.remark, 'by names and sizes'].filter(text => text !== undefined)
  return lineOf({ ...found, remark: remarks.join('; ') }, undefined, 'known')
}

/** Who stops in the middle of a model of many shards begins with the next one, and not anew. */
function rememberLarge(pool: HashPool, store: Pick<Store, 'addFiles'>): HashPool {
  return {
    ...pool,
    hashFiles: (places, options) =>
      pool.hashFiles(places, {
        ...options,
        onFile(file) {
          if (file.stamp.size > smallFileBytesMax) store.addFiles([file])
          options?.onFile?.(file)
        },
      }),
  }
}

function lineOf(
  { name, folder, files, remark }: FoundModel,
  manifest: CID | undefined,
  state: 'new' | 'known',
): AdoptedEvent {
  return {
    type: 'adopted',
    name: name ?? null,
    path: folder,
    manifest: manifest?.toString() ?? null,
    files: files.length,
    bytes: files.reduce((sum, { size }) => sum + size, 0),
    state,
    ...(remark === undefined ? {} : { reason: remark }),
  }
}
