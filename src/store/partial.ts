/**
 * A file being downloaded: sparse, written in any order, resumable after kill -9, published by
 * fsync + rename + directory fsync.
 */

import type { Bitfield } from '../core/bitfield.ts'
import type { VerifiedBlock } from '../dag/verify.ts'
import type { NewFile } from './store.ts'

export interface Partial extends AsyncDisposable {
  /** Chunks on disk and believed, including those found at open. */
  readonly held: Bitfield
  /** Writes one checked chunk; at most one write in flight per file, later ones queue. */
  write(index: number, block: VerifiedBlock): Promise<void>
  /** Once `held` is full: makes it durable, moves it to its place, indexes it. */
  publish(): Promise<NewFile>
  /** Flushes and closes; the file and its bitmap stay for the next time. */
  [Symbol.asyncDispose](): Promise<void>
}
