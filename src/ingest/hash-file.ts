/**
 * Files on disk → SHA-256, chunk digests and root, each byte read once. Threads do the work: one a
 * batch of small files, two and a ring a large file (research: 1.02 x the time of `openssl dgst` for
 * both hashes, which one thread would need 1.74 x for).
 */

import { availableParallelism } from 'node:os'
import type { Worker } from 'node:worker_threads'
import { type CID, codecs, rawCid } from '../core/cid.ts'
import { digestBytes } from '../core/digest.ts'
import { InvalidInputError } from '../core/errors.ts'
import { type FileStamp, sameStamp } from '../core/file-stamp.ts'
import { ChunkTable, chunkBytesMax, recordBytes } from '../dag/chunk-table.ts'
import { rootOf } from '../dag/unixfs.ts'
import { changedError } from './file-errors.ts'
import { smallFileBytesMax } from './hash-jobs.ts'
import { type Digests, HashQueue, type HashOptions, type Planned } from './hash-queue.ts'
import { startWorker } from './hash-thread.ts'

export type { HashOptions } from './hash-queue.ts'

/** A whole file whose digests were just computed; the store's NewFile. */
export interface HashedFile {
  /** Absolute. */
  readonly place: string
  readonly stamp: FileStamp
  /** 32 bytes. */
  readonly sha256: Uint8Array
  readonly root: CID
  readonly table: ChunkTable
}

/** How many chunks it has, without a table made for a file that is one. */
export function chunkCount(file: HashedFile): number {
  return file.root.code === codecs.raw ? Math.min(file.stamp.size, 1) : file.table.count
}

export interface HashedChunks {
  /** Of the whole file as it is, whatever the plan says. */
  readonly sha256: Uint8Array
  /**
   * 32 bytes per chunk, in order. A file shorter than its plan has fewer: the chunk that it cuts off
   * and all after it are absent. Bytes after the last chunk show in `stamp.size` and `sha256` only.
   */
  readonly digests: Uint8Array
  readonly stamp: FileStamp
}

export interface HashFilesOptions extends HashOptions {
  /**
   * What a look at each file showed before. Saves two looks at a small one, and changes nothing else:
   * a file that is not as it was then is hashed as if this were not given.
   */
  readonly stamps?: readonly FileStamp[]
  /** After each file, in any order. */
  readonly onFile?: (file: HashedFile) => void
}

/**
 * Every method rejects with StorageError for what cannot be read, ConflictError for a file that
 * changed meanwhile, and the signal's reason at once when aborted; the threads then let go of the
 * file within a mebibyte.
 */
export interface HashPool extends AsyncDisposable {
  /** Starts a thread, so that the first files need not wait for it. */
  warm(): void
  /** Plans by the file's tensors and hashes. */
  hashFile(place: string, options?: HashOptions): Promise<HashedFile>
  /**
   * The same for many files, meant for small ones: they travel to the threads in batches. In the
   * order given; the first that fails ends it.
   */
  hashFiles(places: readonly string[], options?: HashFilesOptions): Promise<HashedFile[]>
  /** Hashes by the given plan: for verifying what was hashed before. */
  hashChunks(place: string, lengths: Uint32Array, options?: HashOptions): Promise<HashedChunks>
  /** The whole file's SHA-256 alone. */
  sha256(place: string, options?: HashOptions): Promise<Uint8Array>
}

export interface HashPoolOptions {
  /** Threads; at least 2, because a large file takes a pair. */
  readonly workers?: number
  /** Starts a thread; tests give threads that fail. */
  readonly startWorker?: () => Worker
}

/** More threads than this outrun any disk: each pair hashes 1 GB/s and more. */
const workersMax = 4
const workersMin = 2

export function openHashPool(options: HashPoolOptions = {}): HashPool {
  const workers = options.workers ?? Math.min(availableParallelism(), workersMax)
  const queue = new HashQueue(Math.max(workers, workersMin), options.startWorker ?? startWorker)
  return {
    warm: () => queue.warm(),
    async hashFile(place, hashOptions) {
      const [file] = await hashFiles(queue, [place], hashOptions)
      return file as HashedFile
    },
    hashFiles: (places, hashOptions) => hashFiles(queue, places, hashOptions),
    hashChunks: (place, lengths, hashOptions = {}) =>
      hashChunks(queue, { place, lengths }, hashOptions),
    async sha256(place, hashOptions = {}) {
      const read = await queue.read({ place, lengths: undefined }, hashOptions)
      return read.sha256
    },
    [Symbol.asyncDispose]: () => queue.close(),
  }
}

async function hashFiles(
  queue: HashQueue,
  places: readonly string[],
  options: HashFilesOptions = {},
): Promise<HashedFile[]> {
  const hashed: HashedFile[] = []
  const large = new Map<number, Planned>()
  const finish = (index: number, digests: Digests): void => {
    const file = hashedFile(places[index] as string, digests)
    hashed[index] = file
    options.onFile?.(file)
  }
  const { stamps } = options
  const changed: number[] = []
  const files = { places, lengths: undefined, seenBefore: stamps !== undefined }
  await queue.look(files, options, (index, seen) => {
    const before = stamps?.[index]
    if (seen.kind === 'large') large.set(index, seen)
    else if (before === undefined || sameStamp(before, seen.stamp)) finish(index, seen)
    else changed.push(index)
  })
  const again = { places: changed.map(index => places[index] as string), lengths: undefined }
  await queue.look(
    { ...again, seenBefore: false },
    { ...options, onBytes: () => {} },
    (at, seen) => {
      if (seen.kind === 'small') finish(changed[at] as number, seen)
      else large.set(changed[at] as number, seen)
    },
  )
  for (const [index, { lengths, stamp }] of large) {
    const place = places[index] as string
    const digests = await queue.read({ place, lengths }, options)
    if (!sameStamp(digests.stamp, stamp)) throw changedError(place)
    finish(index, digests)
  }
  return hashed
}

async function hashChunks(
  queue: HashQueue,
  file: { place: string; lengths: Uint32Array },
  options: HashOptions,
): Promise<HashedChunks> {
  const { place, lengths } = file
  const size = checkLengths(lengths)
  let small: Digests | undefined
  if (size <= smallFileBytesMax) {
    await queue.look({ places: [place], lengths, seenBefore: false }, options, (_, seen) => {
      if (seen.kind === 'small') small = seen
    })
  }
  const { sha256, digests, stamp } = small ?? (await queue.read(file, options))
  return { sha256, digests, stamp }
}

function checkLengths(lengths: Uint32Array): number {
  let size = 0
  for (const length of lengths) {
    // A longer one would not fit the ring and the threads would wait for ever.
    if (length < 1 || length > chunkBytesMax) {
      throw new InvalidInputError(`a chunk of ${length} bytes; 1 to ${chunkBytesMax} allowed`)
    }
    size += length
  }
  return size
}

function hashedFile(place: string, { stamp, sha256, lengths, digests }: Digests): HashedFile {
  if (lengths === undefined || lengths.length <= 1) return new OneChunkFile(place, stamp, sha256)
  const table = tableOf(lengths, digests)
  return { place, stamp, sha256, root: rootOf(table), table }
}

/** A file that is one chunk, or empty. They come by the ten thousand, and few are asked for a table. */
class OneChunkFile implements HashedFile {
  readonly place: string
  readonly stamp: FileStamp
  readonly sha256: Uint8Array
  readonly root: CID

  constructor(place: string, stamp: FileStamp, sha256: Uint8Array) {
    this.place = place
    this.stamp = stamp
    this.sha256 = sha256
    this.root = rawCid(sha256)
  }

  get table(): ChunkTable {
    return ChunkTable.ofOneChunk(this.sha256, this.stamp.size)
  }
}

function tableOf(lengths: Uint32Array, digests: Uint8Array): ChunkTable {
  const bytes = Buffer.allocUnsafeSlow(lengths.length * recordBytes)
  for (const [index, length] of lengths.entries()) {
    bytes.set(digests.subarray(index * digestBytes, (index + 1) * digestBytes), index * recordBytes)
    bytes.writeUInt32LE(length, index * recordBytes + digestBytes)
  }
  return new ChunkTable(bytes)
}
