/**
 * Files that were fetched for somebody who read them, and that nobody promised to keep: which they are,
 * how much they take, and when each was read last, over HTTP or by a peer.
 *
 * Invariants:
 * 1. Only a file of which nothing was here before is cached; one that is added to a model on purpose is
 *    not cached any more.
 * 2. The times of reads are exact while the process runs. A kill loses those of the last minutes, which
 *    costs no more than a file that is evicted too early.
 */

import type { Bitfield } from '../core/bitfield.ts'
import { sameCid } from '../core/cid.ts'
import type { Clock } from '../core/clock.ts'
import { minute } from '../core/units.ts'
import type { ChunkIndex, Content } from './chunk-index.ts'
import type { Holdings } from './holdings.ts'
import type { CachedPlace, StateDb } from './state-db.ts'
import type { CachedFile } from './store.ts'

export interface CacheDeps {
  readonly clock: Clock
  readonly index: ChunkIndex
  readonly state: StateDb
  readonly holdings: Holdings
}

/** Each time is a commit that waits for the disk. */
const saveEveryMs = 10 * minute

export class Cache implements Disposable {
  readonly #deps: CacheDeps
  /** By the number of the content: when it was read in this run, and by a peer. */
  readonly #reads = new Map<number, number>()
  readonly #served = new Map<number, number>()
  #savedAtMs: number

  constructor(deps: CacheDeps) {
    this.#deps = deps
    this.#savedAtMs = deps.clock.monotonic()
  }

  add(place: string): void {
    const { clock, index, state } = this.#deps
    if (index.fileAt(place) !== undefined || index.partialAt(place) !== undefined) return
    state.putCached(place, clock.now())
  }

  noteRead(content: Content): void {
    const { clock } = this.#deps
    this.#reads.set(content.id, clock.now())
    if (clock.monotonic() - this.#savedAtMs >= saveEveryMs) this.#save()
  }

  noteServed(content: Content): void {
    this.#served.set(content.id, this.#deps.clock.now())
    this.noteRead(content)
  }

  /** Read longest ago first; without those of which nothing is here. */
  files(): CachedFile[] {
    return this.#deps.state
      .cached()
      .map(row => this.#view(row))
      .filter(({ bytesHeld }) => bytesHeld > 0)
      .toSorted((a, b) => a.readAtMs - b.readAtMs)
  }

  [Symbol.dispose](): void {
    this.#save()
  }

  #view(row: CachedPlace): CachedFile {
    const content = this.#deps.index.contentOf(row.root)
    const servedAtMs = content === undefined ? undefined : this.#served.get(content.id)
    return { ...row, bytesHeld: this.#bytesAt(row), readAtMs: this.#readAtMs(row), servedAtMs }
  }

  #bytesAt({ place, root }: CachedPlace): number {
    const { holdings, index } = this.#deps
    const file = index.fileAt(place)
    if (file !== undefined) return file.content.size
    const partial = index.partialAt(place)
    if (partial === undefined || !sameCid(partial.content.root, root)) return 0
    return this.#bytesOf(partial.content, holdings.bitsOf(partial))
  }

  #bytesOf(content: Content, held: Bitfield): number {
    const table = this.#deps.index.tableOf(content)
    let bytes = 0
    for (const [start, end] of held.runs()) bytes += table.offset(end) - table.offset(start)
    return bytes
  }

  #readAtMs({ readAtMs, root }: CachedPlace): number {
    const content = this.#deps.index.contentOf(root)
    const inThisRun = content === undefined ? undefined : this.#reads.get(content.id)
    return Math.max(readAtMs, inThisRun ?? 0)
  }

  #save(): void {
    const { clock, state } = this.#deps
    this.#savedAtMs = clock.monotonic()
    if (this.#reads.size === 0) return
    state.transaction(() => {
      for (const row of state.cached()) {
        const readAtMs = this.#readAtMs(row)
        if (readAtMs > row.readAtMs) state.putCached(row.place, readAtMs)
      }
    })
    // Saved, or of no cached file.
    this.#reads.clear()
  }
}
