/**
 * Drives a download: sources as they are found, one pure session that decides, a store that keeps
 * what was verified. Everything a peer sends passes dag/verify.ts here before it exists for anyone.
 */

import type { CID } from '../core/cid.ts'
import type { Clock } from '../core/clock.ts'
import type { Logger } from '../core/log.ts'
import type { Manifest } from '../manifest/manifest.ts'
import type { Store } from '../store/store.ts'
import type { SourceFinder, SourceId } from './source.ts'

export interface DownloadDeps {
  readonly store: Pick<
    Store,
    | 'addFiles'
    | 'checkSpace'
    | 'chunkTable'
    | 'fileAt'
    | 'findChunk'
    | 'findFile'
    | 'manifestBlock'
    | 'openPartial'
  >
  readonly finder: SourceFinder
  readonly clock: Clock
  readonly log: Logger
  /** 0 <= n < 1; breaks ties of the picker. */
  random(): number
}

/** A file that is wanted, and where it goes. */
export interface WantedFile {
  readonly path: string
  readonly size: number
  readonly sha256: Uint8Array
  readonly root: CID
  /** Absolute. */
  readonly place: string
}

export interface DownloadProgress {
  /** finding: looking for sources. waiting: nobody known serves what is missing now. */
  readonly phase: 'finding' | 'reusing' | 'fetching' | 'waiting' | 'publishing'
  readonly filesDone: number
  readonly filesTotal: number
  readonly bytesDone: number
  readonly bytesTotal: number
  /** Sources that gave bytes in the last seconds. */
  readonly sources: number
}

export interface DownloadOptions {
  readonly signal: AbortSignal
  /** Multiaddrs from the link or --peer. */
  readonly peers: readonly string[]
  /** Give up with NotFoundError or UnavailableError when nobody served a byte for so long. */
  readonly patienceMs: number
  /** A few times a second at most. */
  readonly onProgress: (progress: DownloadProgress) => void
  /** Worth a line on the terminal: a source banned, nobody left to serve. */
  readonly onNotice: (level: 'info' | 'warn', message: string) => void
}

export interface DownloadResult {
  readonly bytesFetched: number
  readonly bytesReused: number
  readonly sources: readonly { readonly id: SourceId; readonly bytes: number }[]
}

export interface FetchedManifest {
  readonly manifest: Manifest
  /** The canonical bytes, verified against the CID. */
  readonly block: Uint8Array
}
