/** What the main thread and the hash threads say to each other. */

import type { FileStamp } from '../core/file-stamp.ts'
import { MiB } from '../core/units.ts'
import type { SentError } from './file-errors.ts'
import type { RingMemory } from './ring.ts'

/**
 * Files up to here are hashed by one thread in one read, many of them per message; above it two
 * threads and a ring win although they cost two messages.
 */
export const smallFileBytesMax = 4 * MiB

/** Takes a batch of files: hashes the small ones, plans the large ones. */
export interface FilesJob {
  readonly kind: 'files'
  readonly items: readonly FileItem[]
  /** A shared cell per item: 1 when nobody waits for it any more. */
  readonly stopped: Int32Array
}

export interface FileItem {
  readonly place: string
  /** Chunk lengths to use; planned from the content when undefined. */
  readonly lengths: Uint32Array | undefined
}

export interface FilesReply {
  readonly kind: 'files'
  readonly items: readonly FileReply[]
  /** 32 bytes per item; meaningful for small files only. */
  readonly sha256s: Uint8Array
}

export type FileReply =
  | { readonly kind: 'small'; readonly stamp: FileStamp; readonly chunks: SmallChunks | undefined }
  | { readonly kind: 'large'; readonly stamp: FileStamp; readonly lengths: Uint32Array }
  | { readonly kind: 'failed'; readonly error: SentError }
  | { readonly kind: 'stopped' }

/** The chunks of a small file, unless it is one chunk: then its digest is the file's SHA-256. */
export interface SmallChunks {
  readonly lengths: Uint32Array
  /** 32 bytes per chunk that the file holds whole. */
  readonly digests: Uint8Array
}

/** Reads a whole file once: SHA-256 here, and chunks on the other end of the ring, if there is one. */
export interface ReadJob {
  readonly kind: 'read'
  readonly place: string
  readonly ring: RingMemory | undefined
  /** One shared cell: 1 when nobody waits for it any more. */
  readonly stopped: Int32Array
}

export interface ReadReply {
  readonly kind: 'read'
  readonly stamp: FileStamp
  readonly sha256: Uint8Array
}

/** Hashes the chunks that come out of the ring. */
export interface DigestJob {
  readonly kind: 'digest'
  readonly lengths: Uint32Array
  readonly ring: RingMemory
}

export interface DigestReply {
  readonly kind: 'digest'
  /** 32 bytes per chunk that the file holds whole. */
  readonly digests: Uint8Array
}

export interface FailedReply {
  readonly kind: 'failed'
  readonly error: SentError
}

/** Somebody stopped the job; whoever did knows why. */
export interface StoppedReply {
  readonly kind: 'stopped'
}

export type Job = FilesJob | ReadJob | DigestJob

/** The last message of a job. */
export type Reply = FilesReply | ReadReply | DigestReply | FailedReply | StoppedReply

/** Bytes read since the last message of this kind. */
export interface BytesMessage {
  readonly kind: 'bytes'
  readonly bytes: number
}
