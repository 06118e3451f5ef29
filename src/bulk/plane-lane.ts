/** A lane as the main thread sees it: what can be asked of it, and where its chunks go. */

import type { CID } from '../core/cid.ts'
import type { LaneAddress } from './lane.ts'

/** A chunk that is wanted, and where in which open file its bytes go. */
export interface ChunkJob {
  readonly root: CID
  readonly index: number
  readonly length: number
  readonly digest: Uint8Array
  /** Stays open until the job has settled: descriptors mean the same in all threads. */
  readonly fd: number
  readonly offset: number
}

export interface JobOptions {
  readonly signal: AbortSignal
  /** All bytes are here and are the right ones; from now on they are written, aborted or not. */
  readonly onChecked?: () => void
}

export interface Lane {
  readonly peer: string
  /** Aborted, with the reason, once nothing more comes over it. */
  readonly closed: AbortSignal
  /** Requests that the peer takes at a time. */
  readonly requestsMax: number
  readonly bytesReceived: number
  /** Jobs that have not settled. */
  readonly inFlight: number
  /**
   * Resolves when the chunk is checked and written. Rejects with IntegrityError (bad bytes),
   * UnavailableError (refused, gone), LimitError (busy), ProtocolError, StorageError, or the signal's
   * reason; in any case only when nothing will be written for it any more.
   */
  fetchChunk(job: ChunkJob, options: JobOptions): Promise<void>
  close(reason: Error): void
}

export interface LaneSpec {
  /** Peer id as text. */
  readonly peer: string
  /** Tried one after the other. */
  readonly addresses: readonly LaneAddress[]
}
