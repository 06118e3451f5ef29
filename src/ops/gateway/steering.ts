/**
 * Makes a download fetch first what somebody waits for. A session asks a source for any chunk that it
 * claims, so the claims of every source are passed on in the order in which readers want them: a window
 * that begins small, doubles as it is filled, and jumps to where a reader is.
 *
 * A priority in the picker would not do: it orders only what is not asked for yet, and a session keeps up to
 * 64 MiB asked for, which a reader's first chunk would share the line with. What is hidden is not asked for.
 */

import type { Range } from '../../core/ranges.ts'
import { Bitfield } from '../../core/bitfield.ts'
import type { HaveUpdate, Source, SourceFinder } from '../../transfer/source.ts'

/** What a reader gets first must not wait for what comes after it. */
const windowChunksFirst = 2
/** Full chunks of this many keep a fast line busy. */
const windowChunksMax = 128

interface Watcher {
  /** What the source claims. */
  readonly claims: Bitfield
  readonly onHave: (update: HaveUpdate) => void
}

/** Of one file; `root` is what its have updates name. */
export class Steering {
  readonly #root: HaveUpdate['root']
  readonly #wrapped = new WeakMap<Source, Source>()
  readonly #watchers = new Set<Watcher>()
  /** Shown to the session. */
  #shown: Bitfield | undefined
  /** Shown, and not known to be here yet. */
  readonly #open = new Set<number>()
  /** What a reader waited for last: from there on it is shown next. */
  #next: number
  #window = windowChunksFirst

  constructor(root: HaveUpdate['root']) {
    this.#root = root
    this.#next = 0
  }

  finderOver(finder: SourceFinder): SourceFinder {
    const wrap = (source: Source): Source => this.#wrap(source)
    return {
      async *find(keys, options) {
        for await (const found of finder.find(keys, options)) {
          yield found.type === 'source' ? { ...found, source: wrap(found.source) } : found
        }
      },
    }
  }

  /** A reader waits for this chunk, and then for those after it. */
  want(chunk: number, present: Bitfield | undefined): void {
    if (this.#shown?.has(chunk) !== true) {
      this.#next = chunk
      this.#window = windowChunksFirst
      this.#show(this.#window)
    }
    if (present !== undefined) this.advance(present)
  }

  /** Shows more once half of what is shown has come. */
  advance(present: Bitfield): void {
    if (this.#shown?.length !== present.length) return
    for (const chunk of this.#open) if (present.has(chunk)) this.#open.delete(chunk)
    if (this.#shown.isFull || this.#open.size > this.#window / 2) return
    this.#window = Math.min(this.#window * 2, windowChunksMax)
    this.#show(this.#window - this.#open.size)
  }

  /** The next `count` chunks that are not shown, from the reader on and then from the start. */
  #show(count: number): void {
    const shown = this.#shown
    if (shown === undefined) return
    const added: Range[] = []
    for (let looked = 0; looked < shown.length && count > 0; looked += 1) {
      const chunk = this.#next
      this.#next = (chunk + 1) % shown.length
      if (!shown.add(chunk)) continue
      this.#open.add(chunk)
      added.push([chunk, chunk + 1])
      count -= 1
    }
    for (const watcher of this.#watchers) this.#pass(watcher, added)
  }

  #pass({ claims, onHave }: Watcher, ranges: readonly Range[]): void {
    const gained = ranges.filter(([chunk]) => claims.has(chunk))
    if (gained.length > 0) onHave({ root: this.#root, gained, lost: [] })
  }

  #wrap(source: Source): Source {
    const known = this.#wrapped.get(source)
    if (known !== undefined) return known
    const { id, kind, requestsMax, isUnlimited, closed } = source
    const steered: Source = {
      id,
      kind,
      closed,
      ...(requestsMax === undefined ? {} : { requestsMax }),
      ...(isUnlimited === undefined ? {} : { isUnlimited }),
      bulk: async (length, options) => source.bulk?.(length, options),
      watch: (files, onHave, options) => {
        const [file] = files
        if (file === undefined) return
        this.#shown ??= new Bitfield(file.chunks)
        if (this.#shown.count === 0) this.#show(this.#window)
        const watcher = { claims: new Bitfield(file.chunks), onHave }
        this.#watchers.add(watcher)
        const leave = (): void => void this.#watchers.delete(watcher)
        options.signal.addEventListener('abort', leave, { once: true })
        closed.addEventListener('abort', leave, { once: true, signal: options.signal })
        source.watch(files, update => this.#heard(watcher, update), options)
      },
      fetchManifest: (manifest, options) => source.fetchManifest(manifest, options),
      fetchTable: (key, size, options) => source.fetchTable(key, size, options),
      fetchChunk: (request, options) => source.fetchChunk(request, options),
      ban: reason => source.ban(reason),
    }
    this.#wrapped.set(source, steered)
    return steered
  }

  #heard(watcher: Watcher, update: HaveUpdate): void {
    const shown = this.#shown as Bitfield
    const gained: Range[] = []
    const lost: Range[] = []
    for (const [start, end] of update.gained) {
      for (let chunk = start; chunk < end; chunk += 1) {
        if (watcher.claims.add(chunk) && shown.has(chunk)) gained.push([chunk, chunk + 1])
      }
    }
    for (const [start, end] of update.lost) {
      for (let chunk = start; chunk < end; chunk += 1) {
        if (watcher.claims.delete(chunk) && shown.has(chunk)) lost.push([chunk, chunk + 1])
      }
    }
    if (gained.length + lost.length > 0) watcher.onHave({ root: this.#root, gained, lost })
  }
}
