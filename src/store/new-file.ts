/** A file as it enters the store. */

import type { CID } from '../core/cid.ts'
import type { FileStamp } from '../core/file-stamp.ts'
import type { ChunkTable } from '../dag/chunk-table.ts'

/** A whole file whose digests were just computed, or proven chunk by chunk. */
export interface NewFile {
  /** Absolute. */
  readonly place: string
  readonly stamp: FileStamp
  readonly sha256: Uint8Array
  readonly root: CID
  readonly table: ChunkTable
}
