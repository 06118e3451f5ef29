/**
 * What a download needs from the outside: sources of chunks, and a way to find them. Declared here
 * and implemented in net/, so that transfer knows sources and never sockets.
 *
 * A source is not trusted: whatever it returns is bytes until dag/verify.ts has checked them.
 */

import type { CID } from '../core/cid.ts'
import type { Range } from '../core/ranges.ts'
import type { WriteTarget } from '../store/partial.ts'

/** Peer id, or URL: stable over reconnects, so that blame outlives a connection. */
export type SourceId = string

export interface SourceOptions {
  readonly signal: AbortSignal
}

export interface ChunkRequest {
  /** Root of the file. */
  readonly root: CID
  /** Position in the file's chunk table. */
  readonly index: number
  /** Where the chunk begins in the file. */
  readonly offset: number
  /** Bytes expected: 1 to chunkBytesMax. A source that sends another length is at fault. */
  readonly length: number
}

/** A change of what a source holds of one file. Ranges are of chunk indexes. */
export interface HaveUpdate {
  readonly root: CID
  readonly gained: readonly Range[]
  readonly lost: readonly Range[]
}

export interface WatchedFile {
  readonly root: CID
  /** Chunks in the file; a claim past it is a protocol error. */
  readonly chunks: number
}

export interface BulkRequest extends ChunkRequest {
  readonly digest: Uint8Array
}

export interface BulkOptions extends SourceOptions {
  /** The bytes are here and right; from now on they are written, aborted or not. */
  readonly onChecked: () => void
}

export interface ChunkOptions extends SourceOptions {
  /** Gives memory for the bytes, at least so much; a source may have its own. */
  readonly allocate?: (bytes: number) => Uint8Array
}

/** Fetches chunks past this thread: they are checked and written elsewhere. */
export interface BulkSource {
  /**
   * Resolves when the chunk is checked and written at the target. Rejects as fetchChunk does, with
   * IntegrityError for bad bytes or StorageError for a failed write; only when nothing will be written
   * any more.
   */
  fetchChunkTo(request: BulkRequest, target: WriteTarget, options: BulkOptions): Promise<void>
}

/**
 * One holder of chunks. Every method rejects with ProtocolError when the source breaks the rules,
 * UnavailableError when it cannot answer (gone, or does not have it), LimitError when it is too busy
 * to answer now, or the signal's reason.
 */
export interface Source {
  readonly id: SourceId
  readonly kind: 'peer' | 'web-seed'
  /** Requests it takes at a time, as it said itself. 64 when it did not. */
  readonly requestsMax?: number
  /** On this machine or its LAN: the node's limit on the speed of downloads does not apply. False when left out. */
  readonly isUnlimited?: boolean
  /**
   * Aborted, with the reason, when the source is gone. One that comes back is a new Source with the
   * same id, which the finder yields again.
   */
  readonly closed: AbortSignal
  /** Asks to be told what it holds of these files, now and as that changes, until the signal aborts. */
  watch(
    files: readonly WatchedFile[],
    onHave: (update: HaveUpdate) => void,
    options: SourceOptions,
  ): void
  /** The bytes of a manifest; bounded by manifestBytesMax, unverified. */
  fetchManifest(manifest: CID, options: SourceOptions): Promise<Uint8Array>
  /**
   * The chunk table of a file of `size` bytes; bounded by what that size can need, or by what the
   * largest file can when the size is not known; unverified. `key` is the file's root, or the raw
   * CID of its whole SHA-256.
   */
  fetchTable(key: CID, size: number | undefined, options: SourceOptions): Promise<Uint8Array>
  /** The bytes of one chunk, exactly `length`, unverified. Aborting tells the source to forget it. */
  fetchChunk(request: ChunkRequest, options: ChunkOptions): Promise<Uint8Array>
  /**
   * A faster way to a chunk of so many bytes; undefined when fetchChunk is the way now, and must follow.
   * May take a moment while a faster one is being opened.
   */
  bulk?(length: number, options: SourceOptions): Promise<BulkSource | undefined>
  /** It broke the rules or sent bad bytes: end it for this session, and say why. */
  ban(reason: Error): void
}

export interface FindOptions extends SourceOptions {
  /** Multiaddrs worth dialling first: from a link or --peer. */
  readonly peers: readonly string[]
  /** Each time that one of those peers, by its id, could not be reached; with the reason in plain words. */
  readonly onUnreached?: ((peer: string, reason: string) => void) | undefined
}

export interface SourceFinder {
  /**
   * Sources that may hold any of these CIDs: connected peers, the given addresses, the LAN, the DHT,
   * and what those peers know of others. Yields each source once as it is found and goes on looking,
   * at growing intervals, until the signal aborts; a failure to reach one is logged, not thrown.
   */
  find(keys: readonly CID[], options: FindOptions): AsyncIterable<FoundSource>
}

/** What a finder reports: a source, or that one whole round of looking is over. */
export type FoundSource =
  | { readonly type: 'source'; readonly source: Source }
  | { readonly type: 'round'; readonly round: number }
