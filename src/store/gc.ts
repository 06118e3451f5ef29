/**
 * Removing: a model, and what no model needs any more. What may be deleted from the disk is decided
 * here and nowhere else: files in our own models folder that are as we wrote them, and partial files.
 *
 * Invariants:
 * 1. A file outside the models folder is never deleted, nor one that was changed since it was indexed,
 *    nor one that another model wants.
 * 2. The model is forgotten before its files go: a crash in between leaves files, not a model without.
 * 3. Nothing of a running pull is touched.
 */

import { opendir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { CID } from '../core/cid.ts'
import { ConflictError } from '../core/errors.ts'
import { sameStamp, stampOf } from '../core/file-stamp.ts'
import { hour } from '../core/units.ts'
import type { ChunkIndex, Content, IndexedPartial } from './chunk-index.ts'
import { isInside, partialFolderName, removeFile, removeIfEmpty, statLink } from './files.ts'
import type { Holdings } from './holdings.ts'
import type { Models } from './models.ts'
import type { OpenFiles } from './open-files.ts'
import { partOf, type Partials } from './partials.ts'
import type { StateDb, StoredModel } from './state-db.ts'
import type { ModelPlacement, Removed } from './store.ts'

export interface RemovalDeps {
  readonly index: ChunkIndex
  readonly state: StateDb
  readonly holdings: Holdings
  readonly models: Models
  readonly partials: Partials
  readonly files: OpenFiles
  /** Our own models folder. */
  readonly modelsFolder: string
}

interface Tally {
  filesDeleted: number
  bytesFreed: number
  readonly kept: string[]
}

/** Longer than a hub lets anybody wait, and short enough for somebody who gave up on a mirror. */
const abandonedMs = 24 * hour

/** Levels of the models folder that are searched for stray partials: org, model, and one to spare. */
const searchDepthMax = 4

export class Removal {
  readonly #deps: RemovalDeps

  constructor(deps: RemovalDeps) {
    this.#deps = deps
  }

  async removeModel(manifest: CID, options: { deleteFiles: boolean }): Promise<Removed> {
    const { models, state } = this.#deps
    const model = models.require(manifest)
    const placements = state.placements(model)
    if (this.#isBusy(placements)) {
      throw new ConflictError(`${model.name ?? manifest.toString()} is being pulled`, {
        hint: 'stop the pull first: commonweight attach, then Ctrl-C',
      })
    }
    models.forget(model)
    const tally = newTally()
    for (const { place } of placements) {
      // What was fetched for readers was never the user's to keep, and nothing would know of it.
      const deleteFiles = options.deleteFiles || (!model.pinned && state.isCached(place))
      await this.#release(place, { deleteFiles, dryRun: false }, tally)
    }
    await this.#removeEmptyFolders(model, placements)
    const roots = new Map(placements.map(({ root }) => [root.toString(), root]))
    await this.#forget([...roots.values()].flatMap(root => this.#deps.index.contentOf(root) ?? []))
    return tally
  }

  async gc({ dryRun }: { dryRun: boolean }): Promise<Removed> {
    const { state } = this.#deps
    const tally = newTally()
    for (const model of state.models()) {
      const placements = state.placements(model)
      if (model.pinned || model.origin !== 'pulled' || this.#isBusy(placements)) continue
      if (!(await isInside(this.#deps.modelsFolder, model.folder))) continue
      if (dryRun) await this.#count(model, placements, tally)
      else add(tally, await this.removeModel(model.manifest, { deleteFiles: true }))
    }
    await this.#collectPartials(dryRun, tally)
    await this.#collectStrayParts(dryRun, tally)
    if (!dryRun) await this.#collectRows()
    return tally
  }

  /** What is at a place of the cache, which its models go on to want. */
  async evict(place: string): Promise<Removed> {
    const { index, partials, state } = this.#deps
    const tally = newTally()
    const cached = state.cached().find(row => row.place === place)
    if (cached === undefined || cached.pinned || partials.isOpen(place)) return tally
    await this.#drop(place, { deleteFiles: true, dryRun: false }, tally)
    const content = index.contentOf(cached.root)
    if (content !== undefined) await this.#forget([content])
    return tally
  }

  /** What came to a place after its model was removed; nothing when a model wants it. */
  async discard(place: string): Promise<Removed> {
    const { index, partials } = this.#deps
    const tally = newTally()
    const content = (index.fileAt(place) ?? index.partialAt(place))?.content
    if (partials.isOpen(place) || content === undefined) return tally
    await this.#release(place, { deleteFiles: true, dryRun: false }, tally)
    await this.#forget([content])
    return tally
  }

  /** What removing this model would do. */
  async #count(
    model: StoredModel,
    placements: readonly ModelPlacement[],
    tally: Tally,
  ): Promise<void> {
    for (const { place } of placements) {
      const others = this.#deps.state.modelsAt(place).filter(({ id }) => id !== model.id)
      if (others.length > 0) continue
      await this.#release(place, { deleteFiles: true, dryRun: true }, tally)
    }
  }

  #isBusy(placements: readonly ModelPlacement[]): boolean {
    return placements.some(({ place }) => this.#deps.partials.isOpen(place))
  }

  /** One place that a model no longer wants. */
  async #release(
    place: string,
    how: { deleteFiles: boolean; dryRun: boolean },
    tally: Tally,
  ): Promise<void> {
    if (!how.dryRun && this.#deps.state.modelsAt(place).length > 0) return
    await this.#drop(place, how, tally)
  }

  async #drop(
    place: string,
    how: { deleteFiles: boolean; dryRun: boolean },
    tally: Tally,
  ): Promise<void> {
    const { index, state, holdings, files } = this.#deps
    if (!how.dryRun) state.deleteCached(place)
    const partial = index.partialAt(place)
    if (partial !== undefined) await this.#deletePartial(partial, how.dryRun, tally)
    const file = index.fileAt(place)
    if (file === undefined) return
    if (!how.dryRun) {
      holdings.change([file.content.root], () => index.deleteFile(file))
      holdings.forgetSeen(place)
      files.forget(place)
    }
    if (!how.deleteFiles) return
    const stats = await statLink(place)
    if (stats === undefined) return
    const isOurs = stats.isFile() && (await isInside(this.#deps.modelsFolder, place))
    if (!isOurs || !sameStamp(stampOf(stats), file.stamp)) {
      tally.kept.push(place)
      return
    }
    if (!how.dryRun) await removeFile(place)
    tally.filesDeleted += 1
    // Another name of the same file keeps its bytes.
    if (stats.nlink === 1n) tally.bytesFreed += Number(stats.size)
  }

  async #deletePartial(partial: IndexedPartial, dryRun: boolean, tally: Tally): Promise<void> {
    const { index, holdings, files } = this.#deps
    if (!dryRun) {
      holdings.change([partial.content.root], () => index.deletePartial(partial.place))
      holdings.forgetSeen(partial.part)
      files.forget(partial.part)
    }
    await countAndRemove(partial.part, dryRun, tally)
    if (!dryRun) await this.#deps.partials.tidy(partial.folder)
  }

  /** Partials of places that no model wants. */
  async #collectPartials(dryRun: boolean, tally: Tally): Promise<void> {
    const { index, state, partials } = this.#deps
    for (const partial of index.allPartials()) {
      const { place } = partial
      if (partials.isOpen(place) || state.modelsAt(place).length > 0) continue
      await this.#deletePartial(partial, dryRun, tally)
    }
  }

  /** Partial files in our models folder that nothing knows, as an index that was lost leaves them. */
  async #collectStrayParts(dryRun: boolean, tally: Tally): Promise<void> {
    const { index, state, modelsFolder } = this.#deps
    const known = new Set(index.allPartials().map(({ part }) => part))
    for (const model of state.models()) {
      for (const { place, root } of state.placements(model)) {
        known.add(partOf({ folder: model.folder, place, root }))
      }
    }
    for await (const part of partsBelow(modelsFolder, 0)) {
      if (known.has(part) || this.#deps.partials.isWriting(part)) continue
      await countAndRemove(part, dryRun, tally)
      if (!dryRun) await this.#deps.partials.tidy(dirname(dirname(part)))
    }
  }

  /** Index rows of files and contents that no model wants. */
  async #collectRows(): Promise<void> {
    const { index, state, holdings } = this.#deps
    for (const file of index.allFiles()) {
      if (state.modelsAt(file.place).length > 0) continue
      holdings.change([file.content.root], () => index.deleteFile(file))
      holdings.forgetSeen(file.place)
    }
    await this.#forget(index.unusedContents())
  }

  /** One content a turn: the 10,000 rows of a large file take 0.2 s. */
  async #forget(contents: readonly Content[]): Promise<void> {
    for (const content of contents) {
      this.#deps.index.deleteUnused(content)
      await nextTurn()
    }
  }

  async #removeEmptyFolders(
    model: StoredModel,
    placements: readonly ModelPlacement[],
  ): Promise<void> {
    const { modelsFolder } = this.#deps
    await this.#deps.partials.tidy(model.folder)
    if (!(await isInside(modelsFolder, model.folder))) return
    const folders = new Set<string>()
    for (const { place } of placements) {
      for (
        let folder = dirname(place);
        folder.length > modelsFolder.length;
        folder = dirname(folder)
      ) {
        folders.add(folder)
      }
    }
    // The deepest first.
    for (const folder of [...folders].toSorted((a, b) => b.length - a.length)) {
      await removeIfEmpty(folder)
    }
  }
}

function newTally(): Tally {
  return { filesDeleted: 0, bytesFreed: 0, kept: [] }
}

function add(tally: Tally, more: Removed): void {
  tally.filesDeleted += more.filesDeleted
  tally.bytesFreed += more.bytesFreed
  tally.kept.push(...more.kept)
}

async function countAndRemove(part: string, dryRun: boolean, tally: Tally): Promise<void> {
  const stats = await statLink(part)
  if (stats === undefined) return
  if (!dryRun) await removeFile(part)
  tally.filesDeleted += 1
  // A partial is sparse: what it really takes, in the 512-byte units of stat.
  if (stats.nlink === 1n) tally.bytesFreed += Number(stats.blocks) * 512
}

async function* partsBelow(folder: string, depth: number): AsyncGenerator<string> {
  const stats = await statLink(folder)
  if (stats?.isDirectory() !== true || depth > searchDepthMax) return
  for await (const entry of await opendir(folder)) {
    const path = join(folder, entry.name)
    if (!entry.isDirectory()) {
      const isPart = folder.endsWith(partialFolderName) && entry.name.endsWith('.part')
      if (isPart || (await isAbandoned(folder, entry.name))) yield path
    } else {
      yield* partsBelow(path, depth + 1)
    }
  }
}

/** What a mirror of a hub left: it is written to all the time while it runs (ops/hub-partial.ts). */
async function isAbandoned(folder: string, name: string): Promise<boolean> {
  if (!folder.endsWith(partialFolderName) || !/\.(?:hub|held)$/u.test(name)) return false
  const stats = await statLink(join(folder, name))
  return stats !== undefined && Date.now() - Number(stats.mtimeMs) > abandonedMs
}
