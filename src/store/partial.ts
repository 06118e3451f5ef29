/**
 * A file being downloaded: sparse, written in any order, resumable after kill -9, published by
 * fsync + rename + directory fsync.
 */

import type { Bitfield } from '../core/bitfield.ts'
import type { VerifiedBlock } from '../dag/verify.ts'
import type { NewFile } from './new-file.ts'

/** Where in which open file the bytes of a chunk go. */
export interface WriteTarget {
  readonly fd: number
  readonly offset: number
  readonly length: number
}

export interface PublishedFile extends NewFile {
  /** Where the damaged file lies now that this one replaced, when it is kept. */
  readonly keptAs: string | undefined
}

export interface Partial extends AsyncDisposable {
  /** Chunks on disk and believed, including those found at open; changes as chunks are written. */
  readonly held: Bitfield
  /**
   * Writes one checked chunk; at most one write in flight per file, later ones queue. StorageError
   * when the disk is full: what is held stays, and later writes may succeed. After a failed sync
   * every write fails until the partial is opened again.
   */
  write(index: number, block: VerifiedBlock): Promise<void>
  /**
   * Somebody else writes the chunk's checked bytes: `write` puts them there, and settles only when
   * nothing more will be written for it. The bit is set after that. Many may be under way at a time;
   * the file stays open for them.
   */
  writeThrough(index: number, write: (target: WriteTarget) => Promise<void>): Promise<void>
  /**
   * Once `held` is full: makes it durable, checks the whole SHA-256, moves it to its place, indexes
   * it. IntegrityError when the manifest's SHA-256 is not that of its root; ConflictError, and
   * nothing overwritten, when another file took the place meanwhile.
   */
  publish(): Promise<PublishedFile>
  /** Flushes and closes; the file and its bitmap stay for the next time. */
  [Symbol.asyncDispose](): Promise<void>
}
