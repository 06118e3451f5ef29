/** What a download has done so far: for progress and for its result. */

import type { Bitfield } from '../core/bitfield.ts'
import type { ChunkTable } from '../dag/chunk-table.ts'
import type { DownloadProgress, DownloadResult, WantedFile } from './request.ts'
import type { SourceId } from './source.ts'

export class Tally {
  readonly #filesTotal: number
  readonly #bytesTotal: number
  #filesDone = 0
  #bytesFetched = 0
  #bytesReused = 0
  #bytesDiscarded = 0
  readonly #bySource = new Map<SourceId, number>()

  constructor(files: readonly WantedFile[]) {
    this.#filesTotal = files.length
    this.#bytesTotal = files.reduce((sum, { size }) => sum + size, 0)
  }

  fileDone(): void {
    this.#filesDone += 1
  }

  /** Checked bytes, on disk. */
  fetched(source: SourceId, bytes: number): void {
    this.#bytesFetched += bytes
    this.#bySource.set(source, (this.#bySource.get(source) ?? 0) + bytes)
  }

  /** Fetched, and then not wanted. */
  discarded(bytes: number): void {
    this.#bytesDiscarded += bytes
  }

  reused(bytes: number): void {
    this.#bytesReused += bytes
  }

  progress(phase: DownloadProgress['phase'], sources: number): DownloadProgress {
    const bytesHere = this.#bytesFetched - this.#bytesDiscarded + this.#bytesReused
    return {
      phase,
      filesDone: this.#filesDone,
      filesTotal: this.#filesTotal,
      bytesDone: Math.min(this.#bytesTotal, bytesHere),
      bytesTotal: this.#bytesTotal,
      sources,
    }
  }

  result(): DownloadResult {
    return {
      bytesFetched: this.#bytesFetched,
      bytesReused: this.#bytesReused,
      sources: Array.from(this.#bySource, ([id, bytes]) => ({ id, bytes })),
    }
  }
}

/** Of a file of which these chunks are held. */
export function bytesHeld(table: ChunkTable, held: Bitfield): number {
  if (held.isFull) return table.size
  let bytes = 0
  for (const [start, end] of held.runs()) bytes += table.offset(end) - table.offset(start)
  return bytes
}
