/**
 * Files whose chunks nobody tells: a web server that has one as it is gives it whole, one file and one server at a
 * time, so that it is plain whose bytes were wrong. Gives way as soon as a peer tells the chunks.
 */

import type { CID } from '../core/cid.ts'
import type { Clock } from '../core/clock.ts'
import { messageOf, UnavailableError } from '../core/errors.ts'
import type { Logger } from '../core/log.ts'
import { second } from '../core/units.ts'
import type { ChunkTable } from '../dag/chunk-table.ts'
import { isLie, isNoAnswer } from './ask-sources.ts'
import type { FetchWhole, WantedFile } from './request.ts'
import type { Source } from './source.ts'

/** When no server went on with any file. */
const againMs = 2 * second

export interface WholeFilesDeps {
  readonly fetchWhole: FetchWhole
  readonly clock: Clock
  readonly log: Logger
  /** Those connected now. */
  sources(): readonly Source[]
  /** Files without a table, in order. */
  unknown(): readonly number[]
  wanted(file: number): WantedFile
  onStart(file: number, source: Source): void
  onBytes(file: number, source: Source, bytes: number): void
  /** What came of it is not wanted. */
  onDiscarded(file: number): void
  /** Published. */
  onTable(file: number, table: ChunkTable): void
  onLie(source: Source, error: Error): void
}

export class WholeFiles {
  readonly #deps: WholeFilesDeps
  #current: { readonly file: number; readonly unneeded: AbortController } | undefined

  constructor(deps: WholeFilesDeps) {
    this.#deps = deps
  }

  get isFetching(): boolean {
    return this.#current !== undefined
  }

  /** Until every file has a table, from here or from elsewhere. */
  async run(signal: AbortSignal): Promise<void> {
    while (this.#deps.unknown().length > 0) {
      for (const file of this.#deps.unknown()) await this.#fetchFromAny(file, signal)
      if (this.#deps.unknown().length > 0) await this.#deps.clock.sleep(againMs, signal)
    }
  }

  /** Somebody told the chunks of this file. */
  known(file: number): void {
    if (this.#current?.file === file) this.#current.unneeded.abort(told)
  }

  async #fetchFromAny(file: number, signal: AbortSignal): Promise<void> {
    const { root } = this.#deps.wanted(file)
    for (const source of this.#deps.sources()) {
      if (!this.#deps.unknown().includes(file)) return
      if (holdsWhole(source, root)) await this.#fetch(file, source, signal)
    }
  }

  async #fetch(file: number, source: Source, signal: AbortSignal): Promise<void> {
    const { fetchWhole, log, ...deps } = this.#deps
    const unneeded = new AbortController()
    this.#current = { file, unneeded }
    deps.onStart(file, source)
    try {
      const table = await fetchWhole({
        file: deps.wanted(file),
        source,
        signal,
        unneeded: unneeded.signal,
        onBytes: bytes => deps.onBytes(file, source, bytes),
      })
      this.#current = undefined
      deps.onTable(file, table)
    } catch (error) {
      signal.throwIfAborted()
      log.debug('no whole file', { source: source.id, file, error: messageOf(error) })
      if (isLie(error)) deps.onLie(source, error)
      else if (!isNoAnswer(error)) throw error
      if (isLie(error) || unneeded.signal.aborted) deps.onDiscarded(file)
    } finally {
      this.#current = undefined
    }
  }
}

const told = new UnavailableError('its chunks are known now')

/** It says at once what it holds; one that gives no ranges holds the first chunk. */
function holdsWhole(source: Source, root: CID): boolean {
  if (source.kind !== 'web-seed') return false
  const watching = new AbortController()
  let end = 0
  const files = [{ root, chunks: 2 }]
  source.watch(files, ({ gained }) => (end = gained[0]?.[1] ?? 0), { signal: watching.signal })
  watching.abort()
  return end === 2
}
