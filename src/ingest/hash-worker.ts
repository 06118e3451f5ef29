/**
 * A hash thread: takes one job at a time, answers with one message. It may block (reads, waits for
 * the ring): that is what it is for.
 */

import { parentPort } from 'node:worker_threads'
import { memorySource } from '../core/bytes.ts'
import { createSha256, digestBytes, sha256 } from '../core/digest.ts'
import { CommonweightError, systemCode } from '../core/errors.ts'
import type { FileStamp } from '../core/file-stamp.ts'
import { chunkBytesMax } from '../core/limits.ts'
import { sendError } from '../core/sent-error.ts'
import { isPlain } from '../formats/detect.ts'
import { changedError, readError } from './file-errors.ts'
import { descriptorSource, planFile, readFully } from './file-plan.ts'
import {
  batchMs,
  type BytesMessage,
  type DigestJob,
  type DigestReply,
  type FilesJob,
  type FilesReply,
  type Job,
  type OtherReply,
  packStamp,
  type ReadJob,
  type ReadReply,
  type Reply,
  smallFileBytesMax,
  stampCells,
  type StoppedReply,
} from './hash-jobs.ts'
import { type OpenFile, openFile, readAtOnce } from './open-file.ts'
import {
  awaitFile,
  type FillSlot,
  RingEnd,
  type RingMemory,
  RingStopped,
  shareFile,
  slotBytes,
} from './ring.ts'

/** Often enough for a progress bar, seldom enough to cost nothing. */
const progressMs = 50

const port = parentPort
if (port === null) throw new Error('hash-worker.ts runs as a worker thread only')

/** Every small file of every batch passes through this one buffer. */
let smallBuffer: Buffer | undefined

// Only tensorStarts is async here, and never waits: a job runs to its end before the next is taken.
port.on('message', (job: Job) => void run(job).then(reply => port.postMessage(reply)))

async function run(job: Job): Promise<Reply> {
  try {
    switch (job.kind) {
      case 'files':
        return await hashFiles(job)
      case 'read':
        return readWhole(job)
      case 'digest':
        return digestChunks(job)
    }
  } catch (error) {
    if (error instanceof RingStopped) return { kind: 'stopped' }
    return { kind: 'failed', error: sendError(error) }
  }
}

async function hashFiles(job: FilesJob): Promise<FilesReply | StoppedReply> {
  const { places, lengths, seenBefore, stopped } = job
  const sha256s = new Uint8Array(places.length * digestBytes)
  const stamps = new BigInt64Array(places.length * stampCells)
  const others = new Map<number, OtherReply>()
  const endMs = performance.now() + batchMs
  let taken = 0
  for (const place of places) {
    if (Atomics.load(stopped, 0) === 1) return { kind: 'stopped' }
    if (taken > 0 && performance.now() > endMs) break
    const seen = (seenBefore ? hashPlain(place) : undefined) ?? (await hashOrPlan(place, lengths))
    sha256s.set(seen.sha256, taken * digestBytes)
    packStamp(seen.stamp, stamps, taken)
    if (seen.other !== undefined) others.set(taken, seen.other)
    taken += 1
  }
  return { kind: 'files', taken, sha256s, stamps, others }
}

interface SeenFile {
  readonly stamp: FileStamp
  /** Nothing of a large file, and of none that failed. */
  readonly sha256: Uint8Array
  readonly other: OtherReply | undefined
}

const noSha256 = new Uint8Array(0)
const noStamp: FileStamp = { size: 0, mtimeNs: 0n, ino: 0n }

/** The plain case, and most of many files: small, one chunk, nothing wrong. Undefined: try the other. */
function hashPlain(place: string): SeenFile | undefined {
  try {
    const file = readAtOnce(place, small())
    if (file === undefined || file.bytes.length > chunkBytesMax) return undefined
    const { bytes, stamp } = file
    if (!isPlain(bytes.length, bytes)) return undefined
    return { stamp, sha256: sha256(bytes), other: undefined }
  } catch {
    // Whatever it is, the other way runs into it as well, and says so properly.
    return undefined
  }
}

async function hashOrPlan(place: string, wanted: Uint32Array | undefined): Promise<SeenFile> {
  try {
    using file = openFile(place)
    const { stamp } = file
    if (stamp.size > smallFileBytesMax) {
      const lengths = wanted ?? (await planFile(descriptorSource(file.fd, stamp.size)))
      return { stamp, sha256: noSha256, other: { kind: 'large', lengths } }
    }
    const bytes = small().subarray(0, stamp.size)
    if (readFully(file.fd, bytes, 0) < bytes.length) throw changedError(place)
    file.checkUnchanged()
    const lengths = wanted ?? (await planFile(memorySource(bytes)))
    const isOneChunk = lengths.length === 1 && lengths[0] === stamp.size
    const other = isOneChunk ? undefined : chunksOf(bytes, lengths)
    return { stamp, sha256: sha256(bytes), other }
  } catch (error) {
    const other: OtherReply = { kind: 'failed', error: sendError(named(place, error)) }
    return { stamp: noStamp, sha256: noSha256, other }
  }
}

function small(): Buffer {
  return (smallBuffer ??= Buffer.allocUnsafeSlow(smallFileBytesMax))
}

function chunksOf(bytes: Uint8Array, lengths: Uint32Array): OtherReply {
  const digests: Uint8Array[] = []
  let offset = 0
  for (const length of lengths) {
    if (offset + length > bytes.length) break
    digests.push(sha256(bytes.subarray(offset, offset + length)))
    offset += length
  }
  const chunks = { lengths, digests: Uint8Array.from(Buffer.concat(digests)) }
  return { kind: 'chunks', chunks }
}

function readWhole(job: ReadJob): ReadReply {
  try {
    using file = openFile(job.place)
    const whole = createSha256()
    const progress = new Progress()
    const take = job.ring === undefined ? takeAlone(job, file) : takeShared(job.ring, job, file)
    for (let offset = 0; offset < file.stamp.size;) {
      if (Atomics.load(job.stopped, 0) === 1) throw new RingStopped()
      const bytes = take(offset)
      whole.update(bytes)
      offset += bytes.length
      progress.add(bytes.length)
    }
    file.checkUnchanged()
    return { kind: 'read', stamp: file.stamp, sha256: Uint8Array.from(whole.digest()) }
  } catch (error) {
    throw named(job.place, error)
  }
}

/** Gives the bytes of a slot from `offset`, until the next call. */
type TakeSlot = (offset: number) => Uint8Array

function takeAlone({ place }: ReadJob, { fd, stamp: { size } }: OpenFile): TakeSlot {
  const slot = Buffer.allocUnsafeSlow(Math.min(slotBytes, size))
  const fill = filler(place, fd)
  return offset => {
    const bytes = slot.subarray(0, size - offset)
    fill(bytes, offset)
    return bytes
  }
}

function takeShared(
  ring: RingMemory,
  { place }: ReadJob,
  { fd, stamp: { size } }: OpenFile,
): TakeSlot {
  shareFile(ring, { fd, size })
  const end = new RingEnd(ring, { side: 0, size, fill: filler(place, fd) })
  return offset => {
    end.release(offset)
    const [bytes] = end.take(offset, Math.min(slotBytes, size - offset)) ?? []
    return bytes as Uint8Array
  }
}

function digestChunks({ place, lengths, ring }: DigestJob): DigestReply {
  const { fd, size } = awaitFile(ring)
  const end = new RingEnd(ring, { side: 1, size, fill: filler(place, fd) })
  const digests = new Uint8Array(lengths.length * digestBytes)
  let count = 0
  let offset = 0
  for (const length of lengths) {
    const views = end.take(offset, length)
    if (views === undefined) break
    digests.set(sha256Of(views), count * digestBytes)
    count += 1
    offset += length
    end.release(offset)
  }
  // A file longer than its plan: the reader goes on alone.
  end.leave()
  return { kind: 'digest', digests: digests.slice(0, count * digestBytes) }
}

/** Reads exactly; a file that ends early has changed. */
function filler(place: string, fd: number): FillSlot {
  return (bytes, offset) => {
    if (readFully(fd, bytes, offset) < bytes.length) throw changedError(place)
  }
}

function sha256Of(views: readonly Uint8Array[]): Uint8Array {
  const [only] = views
  if (only !== undefined && views.length === 1) return sha256(only)
  const hasher = createSha256()
  for (const view of views) hasher.update(view)
  return hasher.digest()
}

/** Adds the place to a bare system error; anything else passes as it is. */
function named(place: string, error: unknown): unknown {
  if (error instanceof CommonweightError || systemCode(error) === undefined) return error
  return readError(place, error)
}

class Progress {
  #bytes = 0
  #lastMs = performance.now()

  add(bytes: number): void {
    this.#bytes += bytes
    const nowMs = performance.now()
    if (nowMs - this.#lastMs < progressMs) return
    port?.postMessage({ kind: 'bytes', bytes: this.#bytes } satisfies BytesMessage)
    this.#bytes = 0
    this.#lastMs = nowMs
  }
}
