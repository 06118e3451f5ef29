/**
 * What adoption does to the models of the store: adds what is new, moves what lies elsewhere now, lets
 * models that lack files have those that turned up, and forgets what is gone from a cache.
 *
 * An adopted model is a seeded one that is not pinned: the program whose cache it is may delete it, and
 * then it is gone here too. One that the user seeded, pulled or pinned is never moved or forgotten.
 */

import { lstat } from 'node:fs/promises'
import type { AdoptRequest } from '../../api/adoption.ts'
import type { NoticeEvent } from '../../api/contract.ts'
import type { CacheFolder, FoundModel } from '../../caches/found.ts'
import { type CID, sameCid } from '../../core/cid.ts'
import { CommonweightError, messageOf, systemCode } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import type { HashedFile } from '../../ingest/hash-file.ts'
import type { Net } from '../../net/net.ts'
import type { NewFile } from '../../store/new-file.ts'
import type { HeldModel, ModelPlacement, NewModel, Store } from '../../store/store.ts'
import type { Identified } from './identify.ts'
import { Joining } from './join.ts'
import { linkInto } from './pin.ts'
import { isInside } from '../home-guard.ts'
import { ownFolder } from '../pull/target.ts'
import { isName } from '../ref.ts'

export interface AdoptedModelsDeps {
  readonly store: Store
  readonly net: Pick<Net, 'providedChanged'>
  readonly log: Logger
  readonly modelsFolder: string
}

interface Hashed {
  /** By path. */
  readonly files: ReadonlyMap<string, HashedFile>
  /** Of these, what is not in the index. */
  readonly fresh: readonly NewFile[]
}

export interface Settled {
  readonly isNew: boolean
  /** The name that it has now. */
  readonly name: string | undefined
}

/** What lies in the place of a model: its manifest, or something that was refused or not read. */
type Seen = CID | 'unclear'

export class AdoptedModels {
  readonly #deps: AdoptedModelsDeps
  readonly #how: Pick<AdoptRequest, 'dryRun' | 'pin'>
  readonly #onEvent: (event: NoticeEvent) => void
  /** By folder. */
  readonly #seen = new Map<string, Seen>()
  readonly #joining: Joining
  #saidUnpinnable = false

  constructor(
    deps: AdoptedModelsDeps,
    how: Pick<AdoptRequest, 'dryRun' | 'pin'>,
    onEvent: (event: NoticeEvent) => void,
  ) {
    this.#deps = deps
    this.#how = how
    this.#onEvent = onEvent
    this.#joining = new Joining(deps.store)
  }

  /** Something lies there of which is not known what it is. */
  noteUnclear(folder: string): void {
    this.#seen.set(folder, 'unclear')
  }

  noteSeen({ folder }: FoundModel, manifest: CID): void {
    this.#seen.set(folder, manifest)
  }

  partOf(found: FoundModel, files: Hashed['files']): HeldModel | undefined {
    return this.#joining.partOf(found, files)
  }

  /** The held model of which these files are a part; they are indexed then, and no model of their own. */
  settlePart(found: FoundModel, { files, fresh }: Hashed): HeldModel | undefined {
    const model = this.partOf(found, files)
    if (model === undefined) return undefined
    this.noteSeen(found, model.manifest)
    if (fresh.length > 0) this.#deps.store.addFiles(fresh)
    this.#joining.turnedUp(files.values())
    return model
  }

  async settle(found: FoundModel, model: Identified, hashed: Hashed): Promise<Settled> {
    const { store, net, log } = this.#deps
    this.noteSeen(found, model.cid)
    this.#joining.turnedUp(hashed.files.values())
    const held = store.model(model.cid)
    const name = this.#nameFor(found, model.cid, held)
    const wanted = (await this.#pinned(found, model, hashed)) ?? this.#inPlace(found, hashed)
    if (held !== undefined && !mayMove(held, wanted)) {
      if (hashed.fresh.length > 0) store.addFiles(hashed.fresh)
      // A copy of the user's own needs no link to be kept.
      if (this.#how.pin && !held.pinned && !isAdopted(held)) store.setPinned(model.cid, true)
      return this.#known(held, name)
    }
    if (held !== undefined && this.#isThere(held, wanted)) return this.#known(held, name)
    const { cid: manifest, block } = model
    const files = [...wanted.files].map(([path, file]) => placementOf(path, file))
    const { origin, folder, fresh } = wanted
    const pinned = wanted.pinned || held?.pinned === true
    const added: NewModel = { manifest, block, name, origin, folder, pinned, seeding: true, files }
    store.addModel(added, fresh)
    if (wanted.pinned) store.setFact(pinnedFact(found), manifest.toString())
    net.providedChanged()
    // Where they are kept counts, when they were pinned.
    this.#joining.turnedUp(wanted.files.values())
    if (held === undefined) {
      log.info('model adopted', { manifest: manifest.toString(), name, path: found.folder })
    }
    return { isNew: held === undefined, name: name ?? held?.name }
  }

  /** Once all caches were read. */
  async finish(caches: readonly CacheFolder[]): Promise<void> {
    this.#joining.join(this.#onEvent)
    this.#deps.net.providedChanged()
    await this.#forgetGone(caches)
  }

  #known({ manifest, name: before }: HeldModel, name: string | undefined): Settled {
    if (name !== undefined && before !== name) this.#deps.store.setName(manifest, name)
    return { isNew: false, name: name ?? before }
  }

  #inPlace({ folder }: FoundModel, { files, fresh }: Hashed): Wanted {
    return { folder, files, fresh, origin: 'seeded', pinned: false }
  }

  /** In our own folder; undefined when that is not asked for or cannot be. */
  async #pinned(
    { name }: FoundModel,
    { cid: manifest }: Identified,
    { files, fresh }: Hashed,
  ): Promise<Wanted | undefined> {
    const { store, modelsFolder } = this.#deps
    if (!this.#how.pin) return undefined
    const held = store.model(manifest)
    const isOurs = held !== undefined && isInside(held.folder, modelsFolder)
    // The user's own copy is as good as a link.
    if (held !== undefined && !isOurs && !isAdopted(held)) return undefined
    const folder = isOurs ? held.folder : ownFolder(store, modelsFolder, { manifest, name })
    const linked = await linkInto(store, folder, files)
    if (linked === undefined) {
      this.#sayUnpinnable()
      return undefined
    }
    const known = new Set(store.filesAt([...linked.values()]).map(({ place }) => place))
    const news = [...linked.values()].filter(({ place }) => !known.has(place))
    // Under both names, so that the next adoption of the cache knows them.
    return { folder, files: linked, fresh: [...fresh, ...news], origin: 'pulled', pinned: true }
  }

  #sayUnpinnable(): void {
    if (this.#saidUnpinnable) return
    this.#saidUnpinnable = true
    const { modelsFolder } = this.#deps
    const message =
      `files cannot be linked into ${modelsFolder}, which is on another file system or of another user: ` +
      'they are shared, and not pinned'
    this.#tell('warn', message)
  }

  #isThere(held: HeldModel, { folder, files, pinned }: Wanted): boolean {
    if (held.folder !== folder || held.state !== 'complete' || (pinned && !held.pinned))
      return false
    const { store } = this.#deps
    const places = new Map(store.filesOf(held.manifest).map(({ path, place }) => [path, place]))
    return [...files].every(([path, { place }]) => places.get(path) === place)
  }

  /** A cache suggests a name: it takes it from no model that another one than itself brought here. */
  #nameFor(
    { name, family, folder }: FoundModel,
    manifest: CID,
    held: HeldModel | undefined,
  ): string | undefined {
    const { store } = this.#deps
    // The user may have called it something else since.
    if (name === undefined || !isName(name) || held?.name !== undefined) return undefined
    const holder = store.findName(name)
    if (holder === undefined) return name
    if (sameCid(holder.manifest, manifest)) return holder.name
    const other = store.model(holder.manifest)
    const isHere = other !== undefined && isAdopted(other) && isInside(other.folder, family)
    const isPinned = store.fact(pinnedFact({ family })) === holder.manifest.toString()
    if (isHere || isPinned) {
      // In the same place it is the same revision, of which more is here now.
      if (other?.folder !== folder) {
        const older = holder.manifest.toString()
        this.#tell('info', `${name} names a newer revision now; it named ${older}`)
      }
      return name
    }
    const message = `${name} is the name of another model here: the one in the cache is kept without a name`
    if (held === undefined) this.#tell('warn', message)
    return undefined
  }

  #tell(level: NoticeEvent['level'], message: string): void {
    this.#onEvent({ type: 'notice', level, message })
  }

  /** Adopted models whose cache has nothing or something else in their place. */
  async #forgetGone(caches: readonly CacheFolder[]): Promise<void> {
    const { store } = this.#deps
    const unclear = [...this.#seen].filter(([, seen]) => seen === 'unclear').map(([path]) => path)
    for (const model of store.models()) {
      const { folder, manifest } = model
      if (!isAdopted(model) || !caches.some(cache => isInside(folder, cache.folder))) continue
      if (unclear.some(path => isInside(folder, path))) continue
      const now = this.#seen.get(folder)
      if (now !== undefined && now !== 'unclear' && sameCid(now, manifest)) continue
      if (now === undefined && (await this.#isStillThere(model))) continue
      await this.#forget(model, now !== undefined)
    }
  }

  /** What lies there as it was is not gone: it is another kind of cache than the one that was looked for. */
  async #isStillThere({ folder, manifest }: HeldModel): Promise<boolean> {
    const { store } = this.#deps
    if (!(await exists(folder))) return false
    await store.refresh(manifest)
    return store.model(manifest)?.state === 'complete'
  }

  async #forget({ manifest, name, folder }: HeldModel, isReplaced: boolean): Promise<void> {
    const { store, net, log } = this.#deps
    const shown = name ?? manifest.toString()
    const why = isReplaced ? 'was replaced in its cache' : 'is gone from its cache'
    const verb = this.#how.dryRun ? 'would be forgotten' : 'forgotten'
    try {
      if (!this.#how.dryRun) {
        await store.removeModel(manifest, { deleteFiles: false })
        net.providedChanged()
      }
    } catch (error) {
      // Somebody pulls it right now.
      if (!(error instanceof CommonweightError)) throw error
      log.warn('not forgotten', { path: folder, error: messageOf(error) })
      return
    }
    this.#tell('info', `${shown} ${why}: ${verb}`)
  }
}

interface Wanted {
  readonly folder: string
  readonly files: ReadonlyMap<string, NewFile>
  readonly fresh: readonly NewFile[]
  readonly origin: NewModel['origin']
  readonly pinned: boolean
}

async function exists(path: string): Promise<boolean> {
  try {
    await lstat(path)
    return true
  } catch (error) {
    if (systemCode(error) === undefined) throw error
    return false
  }
}

function placementOf(path: string, { place, stamp, sha256, root }: NewFile): ModelPlacement {
  return { path, place, size: stamp.size, sha256, root }
}

/** Where it was adopted from it stays as long as it is whole there; the user's own is never moved. */
function mayMove(held: HeldModel, wanted: Wanted): boolean {
  if (held.folder === wanted.folder) return true
  return isAdopted(held) && (wanted.pinned || held.state !== 'complete')
}

/** Under which name it is remembered what was pinned last of a repository: a pin looks like a pull. */
function pinnedFact({ family }: Pick<FoundModel, 'family'>): string {
  return `pinned from ${family}`
}

/** Whoever seeds pins. */
function isAdopted({ origin, pinned }: HeldModel): boolean {
  return origin === 'seeded' && !pinned
}
