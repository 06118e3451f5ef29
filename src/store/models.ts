/** The models of this machine: what is wanted of each, and how much of that is held. */

import type { Bitfield } from '../core/bitfield.ts'
import { viewOf } from '../core/bytes.ts'
import { type CID, codecs, rawCid, sameCid } from '../core/cid.ts'
import type { Clock } from '../core/clock.ts'
import { InvalidInputError, NotFoundError } from '../core/errors.ts'
import { isAbsolute } from 'node:path'
import type { ChunkIndex, Content } from './chunk-index.ts'
import type { Change, Holdings } from './holdings.ts'
import type { StateDb, StoredModel } from './state-db.ts'
import type { HeldFile, HeldModel, ModelPlacement, ModelState, NewModel } from './store.ts'

export interface ModelsDeps {
  readonly clock: Clock
  readonly index: ChunkIndex
  readonly state: StateDb
  readonly holdings: Holdings
}

export class Models {
  readonly #deps: ModelsDeps

  constructor(deps: ModelsDeps) {
    this.#deps = deps
  }

  add(model: NewModel, change: Change): HeldModel {
    const { clock, state } = this.#deps
    for (const place of [model.folder, ...model.files.map(file => file.place)]) {
      if (!isAbsolute(place)) throw new InvalidInputError(`not an absolute path: ${place}`)
    }
    const known = state.model(model.manifest)
    // What was wanted in the same folder stays so; elsewhere, or no longer seeded, it may be lost.
    const isKept = known === undefined || (model.seeding && known.folder === model.folder)
    for (const { root } of isKept ? [] : state.placements(known)) change.note(root)
    for (const { root } of model.files) {
      if (model.seeding) change.noteServed(root)
      else change.note(root)
    }
    state.putModel(model, clock.now())
    return this.#view(this.require(model.manifest))
  }

  require(manifest: CID): StoredModel {
    const model = this.#deps.state.model(manifest)
    if (model !== undefined) return model
    throw new NotFoundError(`no model ${manifest.toString()} is held here`, {
      hint: '`commonweight ls` lists those that are',
    })
  }

  get(manifest: CID): HeldModel | undefined {
    const model = this.#deps.state.model(manifest)
    return model === undefined ? undefined : this.#view(model)
  }

  all(): HeldModel[] {
    return this.#deps.state.models().map(model => this.#view(model))
  }

  filesOf(manifest: CID): HeldFile[] {
    return this.#files(this.require(manifest)).map(({ file }) => file)
  }

  /** Forgets the model; its files and partials are the caller's to deal with. */
  forget(model: StoredModel): void {
    const { state, holdings } = this.#deps
    const roots = state.placements(model).map(({ root }) => root)
    holdings.change(roots, () => state.deleteModel(model))
  }

  /** The keys under which others look for what is held and served; each once. */
  *providedKeys(): Generator<CID> {
    const given = new Set<string>()
    const { state } = this.#deps
    for (const model of state.models()) {
      if (!model.seeding) continue
      for (const key of this.#keysOf(model)) {
        const text = viewOf(key.bytes).toString('latin1')
        if (given.has(text)) continue
        given.add(text)
        yield key
      }
    }
  }

  /** The manifest and the roots once there is something to give; a SHA-256 only when it is proven. */
  *#keysOf(model: StoredModel): Generator<CID> {
    const files = this.#files(model)
    const given = files.filter(({ file, bytesHeld }) => bytesHeld > 0 || file.state === 'held')
    if (given.length > 0) yield model.manifest
    for (const { file } of given) {
      yield file.root
      // A raw root is that already.
      if (file.state === 'held' && file.root.code !== codecs.raw) yield rawCid(file.sha256)
    }
  }

  #view(model: StoredModel): HeldModel {
    const { id: _, lost: __, ...shown } = model
    const { state: db } = this.#deps
    const whole = db.countHeld(model)
    const others = whole.files === db.countFiles(model) ? [] : db.placementsNotHeld(model)
    let { bytes, bytes: bytesHeld } = whole
    let state: ModelState = 'complete'
    for (const placement of others) {
      const { file, bytesHeld: held } = this.#file(placement)
      bytes += file.size
      bytesHeld += held
      if (file.state === 'changed') state = 'changed'
      else if (file.state !== 'held' && state === 'complete') state = 'partial'
    }
    return { ...shown, state, files: whole.files + others.length, bytes, bytesHeld }
  }

  #files(model: StoredModel): { file: HeldFile; bytesHeld: number }[] {
    return this.#deps.state.placementsHeld(model).map(({ placement, chunks }) => {
      if (chunks === undefined) return this.#file(placement)
      const file: HeldFile = { ...placement, state: 'held', chunks, chunksHeld: chunks }
      return { file, bytesHeld: placement.size }
    })
  }

  #file(placement: ModelPlacement): { file: HeldFile; bytesHeld: number } {
    const { index, holdings } = this.#deps
    const { place, root, size } = placement
    const file = index.fileAt(place)
    if (file !== undefined) {
      const { content, damaged } = file
      const isOther = !sameCid(content.root, root)
      if (isOther || file.changed) {
        const chunks = isOther ? 0 : content.chunks
        return { file: { ...placement, state: 'changed', chunks, chunksHeld: 0 }, bytesHeld: 0 }
      }
      const chunksHeld = content.chunks - (damaged?.count ?? 0)
      const state = damaged === undefined ? 'held' : 'changed'
      const bytesHeld = size - (damaged === undefined ? 0 : this.#bytesOf(content, damaged))
      return { file: { ...placement, state, chunks: content.chunks, chunksHeld }, bytesHeld }
    }
    const partial = index.partialAt(place)
    if (partial === undefined || !sameCid(partial.content.root, root)) {
      return { file: { ...placement, state: 'missing', chunks: 0, chunksHeld: 0 }, bytesHeld: 0 }
    }
    const held = holdings.bitsOf(partial)
    const bytesHeld = this.#bytesOf(partial.content, held)
    const { chunks } = partial.content
    return {
      file: { ...placement, state: 'partial', chunks, chunksHeld: held.count },
      bytesHeld,
    }
  }

  #bytesOf(content: Content, chunks: Bitfield): number {
    if (chunks.count === 0) return 0
    if (chunks.isFull) return content.size
    const table = this.#deps.index.tableOf(content)
    let bytes = 0
    for (const [start, end] of chunks.runs()) bytes += table.offset(end) - table.offset(start)
    return bytes
  }
}
