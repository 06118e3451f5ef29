/** What a download is asked for, what it needs and what it answers. */

import type { CID } from '../core/cid.ts'
import type { Clock } from '../core/clock.ts'
import type { Logger } from '../core/log.ts'
import type { ChunkTable } from '../dag/chunk-table.ts'
import type { Manifest } from '../manifest/manifest.ts'
import type { Store } from '../store/store.ts'
import type { Allowance } from './allowance.ts'
import type { FlightBudget } from './flight-budget.ts'
import type { Source, SourceFinder, SourceId } from './source.ts'

export interface DownloadDeps {
  readonly store: Pick<
    Store,
    | 'addFiles'
    | 'checkSpace'
    | 'chunkTable'
    | 'fileAt'
    | 'findChunk'
    | 'findFile'
    | 'held'
    | 'manifestBlock'
    | 'openPartial'
    | 'tidy'
  >
  readonly finder: SourceFinder
  readonly clock: Clock
  readonly log: Logger
  /** 0 <= n < 1; breaks ties of the picker. */
  random(): number
  /** Shared with all downloads of the node; each is bounded by itself alone when left out. */
  readonly flights?: FlightBudget | undefined
  /** For files whose chunks nobody tells; without it they are waited for. */
  readonly fetchWhole?: FetchWhole | undefined
}

/** One file from one web server, which has it as it is. */
export interface WholeFetch {
  readonly file: WantedFile
  readonly source: Source
  readonly signal: AbortSignal
  /** Somebody told the chunks meanwhile: what is here of it can go. */
  readonly unneeded: AbortSignal
  /** Came from the source. */
  readonly onBytes: (bytes: number) => void
}

/**
 * Fetches, hashes by the plan that the file's bytes give, compares the root, and only then publishes; returns
 * the file's table. Rejects as a Source does: IntegrityError when the bytes are another file's; what is
 * here stays for the next time when the source cannot go on.
 */
export type FetchWhole = (job: WholeFetch) => Promise<ChunkTable>

export interface FetchedTable {
  readonly root: CID
  readonly table: ChunkTable
  /** Bans who gave it, if it is not proven; for when the whole file has another SHA-256. */
  readonly blame: ((reason: Error) => void) | undefined
}

/** A file that is wanted, and where it goes. */
export interface WantedFile {
  readonly path: string
  readonly size: number
  /** Undefined when only the root is known. */
  readonly sha256: Uint8Array | undefined
  readonly root: CID
  /** Absolute. */
  readonly place: string
  /** When it was fetched before: by a file's SHA-256, there is no other way to the root. */
  readonly table?: FetchedTable
}

export interface DownloadRequest {
  /** What sources are found by: manifest, file roots, SHA-256s; the most telling first. */
  readonly keys: readonly CID[]
  /** Absolute; every file lies below it. */
  readonly folder: string
  readonly files: readonly WantedFile[]
  /** Our own models folder: between files below it hard links are made, never to a user's file. */
  readonly ownFolder?: string
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
  /** The node's limit on the speed of downloads, from which the LAN is exempt. None when left out. */
  readonly allowance?: Allowance | undefined
  /** This download's own, whoever sends. None when left out. */
  readonly ownAllowance?: Allowance | undefined
  /** sequential: among equally rare chunks the first ones of the first files. rarest when left out. */
  readonly order?: 'rarest' | 'sequential' | undefined
  /** Give up with NotFoundError or UnavailableError when nobody served a byte for so long. */
  readonly patienceMs: number
  /** A few times a second at most. */
  readonly onProgress: (progress: DownloadProgress) => void
  /** Worth a line on the terminal: a source banned, nobody left to serve. */
  readonly onNotice: (level: 'info' | 'warn', message: string) => void
  /** One of `peers`, by its id, could not be reached: each time, with the reason in plain words. */
  readonly onUnreached?: ((peer: string, reason: string) => void) | undefined
  /** The chunks of a file are known; none of them was asked for yet. */
  readonly onTable?: ((root: CID, table: ChunkTable) => void) | undefined
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
