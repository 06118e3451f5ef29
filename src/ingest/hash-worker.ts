/**
 * A hash thread: takes one job at a time, answers with one message. It may block (reads, waits for
 * the ring): that is what it is for.
 */

import { parentPort } from 'node:worker_threads'
import { memorySource } from '../core/bytes.ts'
import { createSha256, digestBytes, sha256 } from '../core/digest.ts'
import { CommonweightError, systemCode } from '../core/errors.ts'
import { changedError, readError, sendError } from './file-errors.ts'
import { descriptorSource, planFile, readFully } from './file-plan.ts'
import {
  batchMs,
  type BytesMessage,
  type DigestJob,
  type DigestReply,
  type FileItem,
  type FilesJob,
  type FilesReply,
  type Job,
  type OtherReply,
  packStamp,
  type ReadJob,
  type ReadReply,
  type Reply,
  type SmallChunks,
  smallFileBytesMax,
  stampCells,
  type StoppedReply,
} from './hash-jobs.ts'
import { type OpenFile, openFile } from './open-file.ts'
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

async function hashFiles({ items, stopped }: FilesJob): Promise<FilesReply | StoppedReply> {
  const sha256s = new Uint8Array(items.length * digestBytes)
  const stamps = new BigInt64Array(items.length * stampCells)
  const others = new Map<number, OtherReply>()
  const endMs = performance.now() + batchMs
  let taken = 0
  for (const item of items) {
    if (Atomics.load(stopped, 0) === 1) return { kind: 'stopped' }
    if (taken > 0 && performance.now() > endMs) break
    const digest = sha256s.subarray(taken * digestBytes, (taken + 1) * digestBytes)
    const stamp = stamps.subarray(taken * stampCells, (taken + 1) * stampCells)
    const other = await hashOrPlan(item, digest, stamp)
    if (other !== undefined) others.set(taken, other)
    taken += 1
  }
  return { kind: 'files', taken, sha256s, stamps, others }
}

/** Hashes a small file into `digest`; returns what there is to say beside that and the stamp. */
async function hashOrPlan(
  item: FileItem,
  digest: Uint8Array,
  stampOut: BigInt64Array,
): Promise<OtherReply | undefined> {
  try {
    using file = openFile(item.place)
    const { size } = file.stamp
    packStamp(file.stamp, stampOut)
    if (size > smallFileBytesMax) {
      const lengths = item.lengths ?? (await planFile(descriptorSource(file.fd, size)))
      return { kind: 'large', lengths }
    }
    const bytes = readSmall(item.place, file)
    file.checkUnchanged()
    digest.set(sha256(bytes))
    const lengths = item.lengths ?? (await planFile(memorySource(bytes)))
    const isOneChunk = lengths.length === 1 && lengths[0] === size
    return isOneChunk ? undefined : { kind: 'chunks', chunks: digestsOf(bytes, lengths) }
  } catch (error) {
    return { kind: 'failed', error: sendError(named(item.place, error)) }
  }
}

function readSmall(place: string, file: OpenFile): Uint8Array {
  smallBuffer ??= Buffer.allocUnsafeSlow(smallFileBytesMax)
  const bytes = smallBuffer.subarray(0, file.stamp.size)
  if (readFully(file.fd, bytes, 0) < bytes.length) throw changedError(place)
  return bytes
}

function digestsOf(bytes: Uint8Array, lengths: Uint32Array): SmallChunks {
  const digests: Uint8Array[] = []
  let offset = 0
  for (const length of lengths) {
    if (offset + length > bytes.length) break
    digests.push(sha256(bytes.subarray(offset, offset + length)))
    offset += length
  }
  return { lengths, digests: Uint8Array.from(Buffer.concat(digests)) }
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
