/**
 * What a model is: the files, their sizes, SHA-256 and roots; canonical dag-cbor, unsigned, and the
 * same bytes on every machine that imports the same files. The rule is docs/spec/manifest.md.
 */

import type { CID } from '../core/cid.ts'
import { MiB } from '../core/units.ts'

/** See docs/spec/limits.md: with 100 000 files of 1 KiB of path each a manifest stays below it. */
export const manifestBytesMax = 64 * MiB
export const manifestFilesMax = 100_000

export const manifestType = 'commonweight/manifest'
export const manifestVersion = 1
export const chunkingId = 'cw-chunk-1'

export interface ManifestFile {
  /** Accepted by parsePath of ./paths.ts. */
  readonly path: string
  readonly size: number
  /** 32 bytes. */
  readonly sha256: Uint8Array
  /** raw or dag-pb. */
  readonly root: CID
}

export interface Manifest {
  readonly type: typeof manifestType
  readonly version: typeof manifestVersion
  readonly chunking: typeof chunkingId
  /** Sorted by the bytes of their path; at least one. */
  readonly files: readonly ManifestFile[]
}
