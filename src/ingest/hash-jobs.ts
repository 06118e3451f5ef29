/** What the main thread and the hash threads say to each other. */

import type { FileStamp } from '../core/file-stamp.ts'
import type { SentError } from '../core/sent-error.ts'
import { MiB } from '../core/units.ts'
import type { RingMemory } from './ring.ts'

/**
 * Files up to here are hashed by one thread in one read, many of them per message; above it two
 * threads and a ring win although they cost two messages.
 */
export const smallFileBytesMax = 4 * MiB

/** Takes the files in order for as long as batchMs: hashes the small ones, plans the large ones. */
export interface FilesJob {
  readonly kind: 'files'
  readonly places: readonly string[]
  /** Chunk lengths to use, of every file; planned from the content when undefined. */
  readonly lengths: Uint32Array | undefined
  /** Whoever asks has a stamp from before and compares: one look after the read will do. */
  readonly seenBefore: boolean
  /** One shared cell: 1 when nobody waits for them any more. */
  readonly stopped: Int32Array
}

/** Then the rest is given back: threads stay evenly loaded, and progress shows. */
export const batchMs = 50

/**
 * The plain case, a small file of one chunk, is packed: as an object for each it cost more to send
 * than to hash.
 */
export interface FilesReply {
  readonly kind: 'files'
  /** So many of the files were taken. */
  readonly taken: number
  /** 32 bytes per file taken: the SHA-256 of a small one. */
  readonly sha256s: Uint8Array
  /** Size, mtimeNs and ino of each file taken. */
  readonly stamps: BigInt64Array
  /** What else there is to say, by file. */
  readonly others: ReadonlyMap<number, OtherReply>
}

export const stampCells = 3

export function packStamp(stamp: FileStamp, stamps: BigInt64Array, index: number): void {
  const at = index * stampCells
  stamps[at] = BigInt(stamp.size)
  stamps[at + 1] = stamp.mtimeNs
  stamps[at + 2] = BigInt.asIntN(64, stamp.ino)
}

export function unpackStamp(stamps: BigInt64Array, index: number): FileStamp {
  const at = index * stampCells
  const [size = 0n, mtimeNs = 0n, ino = 0n] = [stamps[at], stamps[at + 1], stamps[at + 2]]
  return { size: Number(size), mtimeNs, ino: BigInt.asUintN(64, ino) }
}

export type OtherReply =
  | { readonly kind: 'chunks'; readonly chunks: SmallChunks }
  | { readonly kind: 'large'; readonly lengths: Uint32Array }
  | { readonly kind: 'failed'; readonly error: SentError }

/** The chunks of a small file that is not exactly one. */
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

/** Hashes the chunks of the file that the other end of the ring opens, and helps to read it. */
export interface DigestJob {
  readonly kind: 'digest'
  /** For messages. */
  readonly place: string
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
