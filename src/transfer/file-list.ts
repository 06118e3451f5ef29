/**
 * The files of a download as a session sees them: which chunks are whose, which are worth opening,
 * which are whole. Pure. Only some are open at a time, so that 100 000 files need few descriptors.
 */

import { LimitError } from '../core/errors.ts'
import type { ChunkTable } from '../dag/chunk-table.ts'

/** 16 TiB of full chunks; each costs 40 bytes of memory here and in its table, and some bits a source. */
const chunksMax = 2 ** 24

type FileState = 'closed' | 'opening' | 'open' | 'parking' | 'publishing' | 'done'

export interface SessionFile {
  readonly file: number
  readonly table: ChunkTable
  /** Number of its first chunk; they are consecutive. */
  readonly first: number
  state: FileState
  missing: number
  /** Missing chunks that some source can be asked for. */
  servable: number
  /** Chunks asked for, or being written. */
  busy: number
}

/** Descriptors, and the files whose start costs nobody a wait. */
const openFilesMaxDefault = 128

export class FileList {
  readonly total: number
  #done = 0
  #open = 0
  /** Files whose opening, parking or publishing was asked for and not yet answered. */
  #changing = 0
  readonly #openMax: number
  readonly #byFile: (SessionFile | undefined)[]
  /** In the order of their chunks' numbers. */
  readonly #known: SessionFile[] = []
  /** Closed files of which somebody serves something. */
  readonly #ready = new Set<SessionFile>()

  constructor(total: number, openMax = openFilesMaxDefault) {
    this.total = total
    this.#openMax = openMax
    this.#byFile = Array.from({ length: total })
  }

  get done(): number {
    return this.#done
  }

  get isIdle(): boolean {
    return this.#changing === 0 && this.#ready.size === 0
  }

  get known(): readonly SessionFile[] {
    return this.#known
  }

  get(file: number): SessionFile | undefined {
    return this.#byFile[file]
  }

  add(file: number, table: ChunkTable, first: number): SessionFile {
    if (first + table.count > chunksMax) {
      throw new LimitError(`a download of more than ${chunksMax} chunks`, {
        hint: 'fetch it in parts, with --include',
      })
    }
    const entry: SessionFile = {
      file,
      table,
      first,
      state: 'closed',
      missing: table.count,
      servable: 0,
      busy: 0,
    }
    this.#byFile[file] = entry
    this.#known.push(entry)
    // An empty file needs nobody.
    if (table.count === 0) this.#ready.add(entry)
    return entry
  }

  /** The file of a numbered chunk. */
  ofChunk(chunk: number): SessionFile {
    let low = 0
    let high = this.#known.length - 1
    while (low < high) {
      const middle = (low + high + 1) >>> 1
      if ((this.#known[middle]?.first ?? 0) <= chunk) low = middle
      else high = middle - 1
    }
    // An empty file has the same first chunk as the one after it, which the search prefers.
    return this.#known[low] as SessionFile
  }

  /** More or fewer of its missing chunks have a source. */
  served(entry: SessionFile, change: number): void {
    entry.servable += change
    this.#settle(entry)
  }

  /** The next file to open, now being opened; undefined when none is worth it or enough are open. */
  openNext(): SessionFile | undefined {
    if (this.#open >= this.#openMax) return undefined
    const [entry] = this.#ready
    if (entry === undefined) return undefined
    this.#ready.delete(entry)
    this.#open += 1
    this.#changing += 1
    entry.state = 'opening'
    return entry
  }

  /** Opened, or found incomplete when it was to be published. */
  opened(entry: SessionFile): void {
    if (entry.state !== 'opening' && entry.state !== 'publishing') return
    this.#changing -= 1
    entry.state = 'open'
  }

  /** Open files that hold a place which a ready one could use. */
  idleOpenFiles(): SessionFile[] {
    if (this.#ready.size === 0 || this.#open < this.#openMax) return []
    const idle = ({ state, servable, busy }: SessionFile): boolean =>
      state === 'open' && servable === 0 && busy === 0
    return this.#known.filter(idle).slice(0, this.#ready.size)
  }

  parking(entry: SessionFile): void {
    this.#changing += 1
    entry.state = 'parking'
  }

  parked(file: number): undefined {
    const entry = this.get(file)
    if (entry?.state !== 'parking') return
    this.#changing -= 1
    this.#open -= 1
    entry.state = 'closed'
    this.#settle(entry)
  }

  /** True when the file is whole and may be published now. */
  publishing(entry: SessionFile): boolean {
    if (entry.state !== 'open' || entry.missing > 0) return false
    this.#changing += 1
    entry.state = 'publishing'
    return true
  }

  finished(file: number): undefined {
    const entry = this.get(file)
    if (entry === undefined || entry.state === 'done') return
    if (entry.state !== 'closed') this.#open -= 1
    if (entry.state !== 'closed' && entry.state !== 'open') this.#changing -= 1
    this.#ready.delete(entry)
    entry.state = 'done'
    this.#done += 1
  }

  #settle(entry: SessionFile): void {
    if (entry.state === 'closed' && entry.servable > 0) this.#ready.add(entry)
    else this.#ready.delete(entry)
  }
}
