/**
 * What is held: for each content the copies on this machine, which of their chunks are believed, and
 * who is told when that changes.
 *
 * Invariants:
 * 1. A chunk counts as held only if some copy has it: a file whose stamp matched at the last look,
 *    without the chunks found damaged, or a partial, with the bits that its boot lets us believe.
 * 2. Listeners hear of every change of what is served, after it is in the index, once.
 * 3. A chunk is marked as seen only after its bytes were hashed in this run, and the mark is gone when
 *    the file's stamp is found changed, on demand, and after `seenForMs`: a disk that rots under a
 *    process that runs for months is noticed.
 */

import { Bitfield } from '../core/bitfield.ts'
import { viewOf } from '../core/bytes.ts'
import { type CID, codecs, digestOf } from '../core/cid.ts'
import type { Clock } from '../core/clock.ts'
import { type FileStamp, sameStamp } from '../core/file-stamp.ts'
import type { Logger } from '../core/log.ts'
import type { Range } from '../core/ranges.ts'
import { hour } from '../core/units.ts'
import type { ChunkIndex, Content, IndexedFile } from './chunk-index.ts'
import type { StateDb } from './state-db.ts'
import type { HeldChange } from './store.ts'

/** A partial that is open for writing: its bits are newer than the index's. */
export interface LivePartial {
  readonly held: Bitfield
  /** Stops believing chunks that were read back wrong. */
  drop(chunks: readonly number[]): void
}

/** Where chunks of a content can be read. */
export type Copy =
  | { readonly kind: 'file'; readonly path: string; readonly file: IndexedFile }
  | {
      readonly kind: 'partial'
      readonly path: string
      readonly place: string
      readonly held: Bitfield
    }

/** Short for a disk to rot in, long for a chunk to be asked for again and again at the price of one hash. */
export const seenForMs = 6 * hour

export interface HoldingsDeps {
  readonly clock: Clock
  readonly index: ChunkIndex
  readonly state: StateDb
  readonly log: Logger
  /** Identifies this boot of the machine. */
  readonly boot: string
}

/** What is about to change, told in time: most of a seeded folder is new, and needs no look at all. */
export interface Change {
  /** What is served of this root may change. */
  note(root: CID): void
  /** Nothing had this content until now, and a whole file has it now. */
  noteMade(content: Content): void
  /** A model that serves this root is about to be added. */
  noteServed(root: CID): void
}

const unheard: Change = { note() {}, noteMade() {}, noteServed() {} }

export class Holdings {
  /** By the place of the finished file. */
  readonly live = new Map<string, LivePartial>()
  readonly #deps: HoldingsDeps
  readonly #listeners = new Set<(change: HeldChange) => void>()
  /** By path, one bit a chunk, for files that were read: 100 TB read whole take 12 MB. */
  readonly #seen = new Map<string, Bitfield>()
  /** All marks in `#seen` are younger. */
  #seenSinceMs: number

  constructor(deps: HoldingsDeps) {
    this.#deps = deps
    this.#seenSinceMs = deps.clock.monotonic()
  }

  onChange(listener: (change: HeldChange) => void): () => void {
    // Wrapped, so that a function given twice is called twice and each can be taken back.
    const own = (change: HeldChange): void => listener(change)
    this.#listeners.add(own)
    return () => void this.#listeners.delete(own)
  }

  /** By root, or by the raw CID of a proven whole-file SHA-256. */
  contentOf(key: CID): Content | undefined {
    const { index } = this.#deps
    const content = index.contentOf(key)
    if (content !== undefined || key.code !== codecs.raw) return content
    return index.contentsWith(digestOf(key))[0]
  }

  copiesOf(content: Content): Copy[] {
    const { index } = this.#deps
    const copies: Copy[] = []
    for (const file of index.filesWith(content)) {
      if (!file.changed) copies.push({ kind: 'file', path: file.place, file })
    }
    for (const partial of index.partialsWith(content)) {
      const { place, part } = partial
      copies.push({ kind: 'partial', path: part, place, held: this.bitsOf(partial) })
    }
    return copies
  }

  /** The bits of a partial that are believed now. */
  bitsOf(partial: { place: string; held: Bitfield; durable: Bitfield; boot: string }): Bitfield {
    const live = this.live.get(partial.place)
    if (live !== undefined) return live.held
    return partial.boot === this.#deps.boot ? partial.held : partial.durable
  }

  /** The chunks that some copy has. */
  heldOf(content: Content): Bitfield {
    const copies = this.copiesOf(content)
    if (copies.some(copy => copy.kind === 'file' && copy.file.damaged === undefined)) {
      return Bitfield.full(content.chunks)
    }
    const bytes = new Uint8Array(Math.ceil(content.chunks / 8))
    for (const copy of copies) {
      const whole = copy.kind === 'file' ? Bitfield.full(content.chunks) : copy.held
      const damaged = copy.kind === 'file' ? copy.file.damaged : undefined
      for (const [at, bits] of whole.bytes.entries()) {
        bytes[at] = (bytes[at] ?? 0) | (bits & ~(damaged?.bytes[at] ?? 0))
      }
    }
    return new Bitfield(content.chunks, bytes)
  }

  isServed(root: CID): boolean {
    return this.#deps.state.isServed(root)
  }

  /** What others can get; undefined for what is not here or not for them. */
  servedOf(content: Content): Bitfield | undefined {
    return this.isServed(content.root) ? this.heldOf(content) : undefined
  }

  /** Whether a chunk of the file at `path` was hashed lately. */
  wasSeen(path: string, chunk: number): boolean {
    if (this.#deps.clock.monotonic() - this.#seenSinceMs >= seenForMs) this.forgetAllSeen()
    return this.#seen.get(path)?.has(chunk) === true
  }

  noteSeen(copy: Copy, content: Content, chunk: number): void {
    let seen = this.#seen.get(copy.path)
    if (seen?.length !== content.chunks) {
      seen = new Bitfield(content.chunks)
      this.#seen.set(copy.path, seen)
    }
    seen.add(chunk)
  }

  forgetSeen(path: string): void {
    this.#seen.delete(path)
  }

  forgetAllSeen(): void {
    this.#seen.clear()
    this.#seenSinceMs = this.#deps.clock.monotonic()
  }

  /**
   * Runs `work`, which may change what is served of these roots, and of those that it notes before it
   * touches them; then tells the listeners.
   */
  change<T>(roots: Iterable<CID>, work: (change: Change) => T): T {
    if (this.#listeners.size === 0) return work(unheard)
    const before = new Map<string, { root: CID; bits: Bitfield | undefined }>()
    const made = new Map<string, Content>()
    const note = (root: CID): void => {
      const key = keyOf(root)
      if (before.has(key) || made.has(key)) return
      before.set(key, { root, bits: this.#servedUnder(root) })
    }
    for (const root of roots) note(root)
    const served = new Set<string>()
    const noteServed = (root: CID): void => {
      if (made.has(keyOf(root))) served.add(keyOf(root))
      else if (!this.isServed(root)) note(root)
    }
    const noteMade = (content: Content): void => void made.set(keyOf(content.root), content)
    const result = work({ note, noteMade, noteServed })
    for (const { root, bits } of before.values()) this.#tell(root, bits, this.#servedUnder(root))
    for (const [key, content] of made) {
      if (content.chunks === 0 || !(served.has(key) || this.isServed(content.root))) continue
      this.#emit({ root: content.root, gained: [[0, content.chunks]], lost: [] })
    }
    return result
  }

  /** One more chunk of a partial: the frequent case, without comparing bitfields. */
  chunkWritten(content: Content, chunk: number): void {
    if (this.#listeners.size === 0 || !this.isServed(content.root)) return
    const isElsewhere = this.copiesOf(content).some(
      copy => copy.kind === 'file' && hasChunk(copy, chunk),
    )
    if (!isElsewhere) this.#emit({ root: content.root, gained: [[chunk, chunk + 1]], lost: [] })
  }

  /** Notes what a look at the file found; undefined: nothing is there, or no regular file. */
  noteStamp(seen: IndexedFile, stamp: FileStamp | undefined): void {
    if (!seen.changed && stamp !== undefined && sameStamp(stamp, seen.stamp)) return
    // Read again: it may have been re-imported while it was looked at.
    const { place } = seen
    const file = this.#deps.index.fileAt(place)
    if (file === undefined) return
    const changed = stamp === undefined || !sameStamp(stamp, file.stamp)
    if (changed) this.forgetSeen(place)
    if (changed === file.changed) return
    const { index, log } = this.#deps
    const fields = { place, root: file.content.root.toString() }
    if (!changed) log.info('file is as it was again', fields)
    else if (stamp === undefined) log.warn('file is gone: withdrawn', fields)
    else log.warn('file was changed: withdrawn', fields)
    this.change([file.content.root], () => index.setChanged(file, changed))
  }

  /** Sets chunks of one copy aside. */
  noteDamage(copy: Copy, content: Content, chunks: readonly number[]): void {
    const { index, log } = this.#deps
    log.warn('chunks do not match their digests: withdrawn', {
      path: copy.path,
      count: chunks.length,
      first: chunks[0],
    })
    this.change([content.root], () => {
      if (copy.kind === 'file') {
        const file = index.fileAt(copy.path)
        if (file?.content.id !== content.id) return
        const damaged = file.damaged ?? new Bitfield(content.chunks)
        for (const chunk of chunks) damaged.add(chunk)
        index.setDamaged(file, damaged)
        for (const chunk of chunks) this.#seen.get(copy.path)?.delete(chunk)
      } else {
        this.#dropFromPartial(copy.place, chunks)
      }
    })
  }

  #dropFromPartial(place: string, chunks: readonly number[]): void {
    const { index, boot } = this.#deps
    const live = this.live.get(place)
    if (live !== undefined) {
      live.drop(chunks)
      return
    }
    const partial = index.partialAt(place)
    if (partial === undefined) return
    const held = this.bitsOf(partial).clone()
    for (const chunk of chunks) {
      held.delete(chunk)
      partial.durable.delete(chunk)
    }
    index.setBits(place, { held, durable: partial.durable, boot })
  }

  #servedUnder(root: CID): Bitfield | undefined {
    const content = this.#deps.index.contentOf(root)
    return content === undefined ? undefined : this.servedOf(content)
  }

  #tell(root: CID, before: Bitfield | undefined, after: Bitfield | undefined): void {
    const none = new Bitfield((before ?? after)?.length ?? 0)
    const gained = withoutBits(after ?? none, before ?? none)
    const lost = withoutBits(before ?? none, after ?? none)
    if (gained.length > 0 || lost.length > 0) this.#emit({ root, gained, lost })
  }

  #emit(change: HeldChange): void {
    for (const listener of this.#listeners) listener(change)
  }
}

/** A root as the key of a Map: one character a byte. */
function keyOf(root: CID): string {
  return viewOf(root.bytes).toString('latin1')
}

export function hasChunk(copy: Copy, chunk: number): boolean {
  if (copy.kind === 'partial') return copy.held.has(chunk)
  return copy.file.damaged?.has(chunk) !== true
}

/** The bits of `a` that are not in `b`, as runs. */
function withoutBits(a: Bitfield, b: Bitfield): Range[] {
  const bytes = a.bytes.map((bits, at) => bits & ~(b.bytes[at] ?? 0))
  return [...new Bitfield(a.length, bytes).runs()]
}
