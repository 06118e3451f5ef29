/** The chunk tables of a download's files: several at a time, each from whichever source gives a true one. */

import type { Clock } from '../core/clock.ts'
import { codecs } from '../core/cid.ts'
import { mapLimit, raceSignal } from '../core/async.ts'
import { messageOf } from '../core/errors.ts'
import type { Logger } from '../core/log.ts'
import { second } from '../core/units.ts'
import { ChunkTable } from '../dag/chunk-table.ts'
import { verifyTable } from '../dag/verify.ts'
import type { Store } from '../store/store.ts'
import { answerMs, isLie, isNoAnswer, withDeadline } from './ask-sources.ts'
import type { WantedFile } from './request.ts'
import type { Source } from './source.ts'

/** The table of a 5 GB shard has 170 KB: a few hide the round trips. */
const tablesInFlightMax = 8
/** When all sources were asked in vain, the next time unless a new one comes. */
const againMs = 5 * second

export interface TableFetcherDeps {
  readonly store: Pick<Store, 'chunkTable'>
  readonly clock: Clock
  readonly log: Logger
  random(): number
  /** Those connected now. */
  sources(): readonly Source[]
  onLie(source: Source, error: Error): void
}

export class TableFetcher {
  readonly #deps: TableFetcherDeps
  #inFlight = 0
  #woken = Promise.withResolvers<void>()

  constructor(deps: TableFetcherDeps) {
    this.#deps = deps
  }

  /** Requests that are not answered yet. */
  get inFlight(): number {
    return this.#inFlight
  }

  /** There is a new source. */
  wake(): void {
    this.#woken.resolve()
    this.#woken = Promise.withResolvers<void>()
  }

  /** The table, if nobody has to be asked for it. */
  local({ root, size, table }: WantedFile): ChunkTable | undefined {
    if (table !== undefined) return table.table
    // A root that is raw is the only chunk of its file, or the file is empty.
    if (root.code === codecs.raw) return ChunkTable.ofOneChunk(root.multihash.digest, size)
    return this.#deps.store.chunkTable(root)
  }

  /**
   * Calls back for each file as its table comes; returns when all are known, or rejects as `signal`.
   * In rounds: a table that nobody has now does not hold up the others. A file of which nothing is wanted
   * any more is known from elsewhere.
   */
  async fetchAll(
    files: readonly number[],
    wanted: (file: number) => WantedFile | undefined,
    signal: AbortSignal,
    onTable: (file: number, table: ChunkTable) => void,
  ): Promise<void> {
    let left = files
    while (left.length > 0) {
      const unknown: number[] = []
      const woken = this.#woken.promise
      const fetchOne = async (file: number): Promise<void> => {
        const asked = wanted(file)
        const table = asked && (await this.#askAll(asked, signal))
        if (wanted(file) === undefined) return
        if (table === undefined) unknown.push(file)
        else onTable(file, table)
      }
      for await (const _ of mapLimit(left, tablesInFlightMax, fetchOne, signal)) {
        // onTable has it already.
      }
      left = unknown
      if (left.length > 0) await this.#pause(woken, signal)
    }
  }

  /** Asks every source connected now, in random order, until one has the true table. */
  async #askAll(wanted: WantedFile, signal: AbortSignal): Promise<ChunkTable | undefined> {
    const asked = new Set<Source>()
    for (;;) {
      const fresh = this.#deps.sources().filter(source => !asked.has(source))
      const source = fresh[Math.floor(this.#deps.random() * fresh.length)]
      if (source === undefined) return undefined
      asked.add(source)
      const table = await this.#ask(source, wanted, signal)
      if (table !== undefined) return table
    }
  }

  async #ask(
    source: Source,
    { root, size }: WantedFile,
    signal: AbortSignal,
  ): Promise<ChunkTable | undefined> {
    this.#inFlight += 1
    try {
      const fetch = (inner: AbortSignal): Promise<Uint8Array> =>
        source.fetchTable(root, size, { signal: inner })
      const bytes = await withDeadline(this.#deps.clock, answerMs, signal, fetch)
      return verifyTable(root, size, bytes)
    } catch (error) {
      signal.throwIfAborted()
      if (isLie(error)) this.#deps.onLie(source, error)
      else if (!isNoAnswer(error)) throw error
      this.#deps.log.debug('no chunk table', { source: source.id, error: messageOf(error) })
      return undefined
    } finally {
      this.#inFlight -= 1
    }
  }

  async #pause(woken: Promise<void>, signal: AbortSignal): Promise<void> {
    const done = new AbortController()
    const inner = AbortSignal.any([signal, done.signal])
    const slept = this.#deps.clock.sleep(againMs, inner).catch(() => undefined)
    try {
      await raceSignal(Promise.race([woken, slept]), signal)
    } finally {
      done.abort()
    }
  }
}
