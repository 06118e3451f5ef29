/**
 * The language between a session, which decides, and swarm-run.ts, which acts for it. Files are numbered
 * in the order of the download, chunks by their index in the file.
 */

import type { Bitfield } from '../core/bitfield.ts'
import { LimitError, ProtocolError, UnavailableError } from '../core/errors.ts'
import type { Range } from '../core/ranges.ts'
import type { ChunkTable } from '../dag/chunk-table.ts'
import type { DownloadLimits } from './allowance.ts'
import type { FlightShare } from './flight-budget.ts'
import type { Source, SourceId } from './source.ts'

export interface SessionOptions {
  readonly files: number
  /** 0 <= n < 1. */
  readonly random: () => number
  /** Limits on the speed, which the bytes asked for count against. None when left out. */
  readonly limits?: Pick<DownloadLimits, 'allow' | 'spend'> | undefined
  readonly openFilesMax?: number
  readonly bytesInFlightMax?: number
  /** Of what all downloads of the node may have in flight. */
  readonly share?: FlightShare | undefined
  /** Among equally rare chunks, the first ones of the first files. */
  readonly isSequential?: boolean | undefined
}

export interface ChunkName {
  readonly file: number
  readonly index: number
}

export interface SourceChunk extends ChunkName {
  readonly source: SourceId
}

/**
 * refused: it does not have what it claimed. busy: ask later. gone: its connection ended.
 * rules: it broke the protocol, or sent another length.
 */
export type Failure = 'refused' | 'busy' | 'gone' | 'rules'

export type SessionEvent =
  | {
      readonly type: 'source-added'
      readonly source: SourceId
      readonly requestsMax: number | undefined
      /** The node's limit on the speed of downloads does not apply to it. */
      readonly isUnlimited?: boolean | undefined
    }
  | { readonly type: 'source-gone'; readonly source: SourceId }
  | {
      readonly type: 'have'
      readonly source: SourceId
      readonly file: number
      readonly gained: readonly Range[]
      readonly lost: readonly Range[]
    }
  /** The file's chunks are known: claims on it count from now on. */
  | { readonly type: 'file-known'; readonly file: number; readonly table: ChunkTable }
  /** Answers an open, with what is on disk already; or a publish, when that turns out to be less. */
  | { readonly type: 'file-opened'; readonly file: number; readonly held: Bitfield }
  /** Answers a park: its partial is closed. */
  | { readonly type: 'file-parked'; readonly file: number }
  /** Answers a publish; or the whole file was found on this machine. */
  | { readonly type: 'file-done'; readonly file: number }
  /** All bytes are here; they are being checked and written. */
  | ({ readonly type: 'chunk-arrived' } & SourceChunk)
  /** Checked, and on disk. */
  | ({ readonly type: 'chunk-verified' } & SourceChunk)
  | ({ readonly type: 'chunk-bad'; readonly reason: Error } & SourceChunk)
  /** It had arrived, and was lost on its way to the disk: nobody's fault. */
  | ({ readonly type: 'chunk-lost' } & SourceChunk)
  /** Found on this machine, checked, and on disk. */
  | ({ readonly type: 'chunk-found' } & ChunkName)
  | ({
      readonly type: 'request-failed'
      readonly failure: Failure
      readonly reason: Error
    } & SourceChunk)
  /** A limit on the speed that held something back lets more be asked for now. */
  | { readonly type: 'allowed' }
  /** Time passes: several times a second. */
  | { readonly type: 'tick' }

export type SessionAction =
  | ({ readonly type: 'request'; readonly length: number } & SourceChunk)
  /** Nothing more is expected of this request. */
  | ({ readonly type: 'cancel' } & SourceChunk)
  | { readonly type: 'ban'; readonly source: SourceId; readonly reason: Error }
  /** For the log: it delivered nothing for long and is left alone for a while. */
  | { readonly type: 'stalled'; readonly source: SourceId }
  /** For the log: it did not serve what it claimed; its claims count for nothing for an hour. */
  | { readonly type: 'distrusted'; readonly source: SourceId }
  | { readonly type: 'open'; readonly file: number }
  /** Close its partial: nobody serves what it misses, and others wait for its place. */
  | { readonly type: 'park'; readonly file: number }
  | { readonly type: 'publish'; readonly file: number }
  /** Nobody known serves anything that is missing. Said once each time that becomes so. */
  | { readonly type: 'need-sources' }

/** Undefined for an error that is not the source's doing. */
export function failureOf(error: unknown, source: Source): Failure | undefined {
  if (error instanceof ProtocolError) return 'rules'
  if (source.closed.aborted) return 'gone'
  if (error instanceof LimitError) return 'busy'
  return error instanceof UnavailableError ? 'refused' : undefined
}
