/**
 * One file being downloaded, open: chunks are written in any order into a sparse file, what is held is
 * recorded every few chunks, made durable in the background, and published at the end.
 *
 * Invariants:
 * 1. A bit is set only after its bytes were written, and recorded only after it was set: kill -9 loses
 *    at most `flushChunks` finished chunks and never leaves a bit without its bytes.
 * 2. `durable` has only bits whose bytes an fdatasync has covered that started after they were written:
 *    after a power cut nothing else is believed.
 * 3. A failed sync ends the partial: what is not durable counts as lost and is never synced again, as
 *    the system may have dropped those pages and answer the next sync with success.
 * 4. One write of ours in flight; the next waits. A checkpoint runs beside the writes, one at a time.
 * 5. While somebody else writes through our descriptor it stays open, and the file is not published.
 */

import { type FileHandle, lstat } from 'node:fs/promises'
import { Bitfield } from '../core/bitfield.ts'
import { equalBytes, toHex } from '../core/bytes.ts'
import { sha256 as sha256Of } from '../core/digest.ts'
import { IntegrityError, StorageError } from '../core/errors.ts'
import { stampOf } from '../core/file-stamp.ts'
import { writePieceBytes } from '../core/limits.ts'
import { MiB } from '../core/units.ts'
import type { ChunkTable } from '../dag/chunk-table.ts'
import type { VerifiedBlock } from '../dag/verify.ts'
import type { ChunkIndex, Content } from './chunk-index.ts'
import { readFull } from './chunk-reader.ts'
import { asStorageError, moveIntoPlace, openFolder, removeFile, splitPlace } from './files.ts'
import type { Holdings, LivePartial } from './holdings.ts'
import type { Partial, PublishedFile, WriteTarget } from './partial.ts'
import { type GrowingHashes, PrefixHash } from './prefix-hash.ts'
import { type Owner, type Repair, replaceFile } from './repair.ts'
import type { NewFile } from './new-file.ts'
import type { PartialSpec } from './store.ts'
import { takeExisting } from './taken-place.ts'

/** Bits are recorded every so many chunks: 8 MiB fetched again after kill -9, at 0.03 ms a commit. */
const flushChunks = 8
/** Of one write that another thread does: handing it over costs as much as copying a quarter of it. */
const handedBytes = 4 * writePieceBytes
/** Written between two fdatasyncs: what a power cut makes us hash again. */
const checkpointBytes = 64 * MiB
/** Written beside a checkpoint that takes long: what a slow disk may lag behind the network. */
const unsyncedBytesMax = 4 * checkpointBytes

export interface PartialDeps {
  readonly index: ChunkIndex
  readonly holdings: Holdings
  readonly boot: string
  /** Throws StorageError when the disk is so full that a download has to stop. */
  checkReserve(folder: string): Promise<void>
  wholeSha256(place: string, signal?: AbortSignal): Promise<Uint8Array>
  ownerOf(place: string): Promise<Owner>
  /** What was read at the place before says nothing of it any more. */
  readonly forgetReads: (place: string) => void
  /** Hashes a file while it is written; undefined: at the end only. */
  readonly growing?: GrowingHashes | undefined
}

export interface OpenedPartial {
  readonly spec: PartialSpec
  readonly content: Content
  /** The partial file. */
  readonly part: string
  readonly handle: FileHandle
  readonly ino: bigint
  readonly held: Bitfield
  readonly durable: Bitfield
  /** Set when a damaged file lies at the place, which the whole one replaces. */
  readonly repair: Repair | undefined
}

export class PartialFile implements Partial, LivePartial {
  readonly held: Bitfield
  readonly #deps: PartialDeps
  readonly #opened: OpenedPartial
  #durable: Bitfield
  /** Settles, never rejects, when the last queued write is done. */
  #tail: Promise<unknown> = Promise.resolve()
  /** Others' writes that have not settled; as promises that never reject. */
  readonly #through = new Set<Promise<unknown>>()
  readonly #prefix: PrefixHash
  #checkpoint: Promise<void> = Promise.resolve()
  #checkpointing = false
  #unrecorded = 0
  #bytesSinceCheckpoint = 0
  #state: 'open' | 'moving' | 'published' | 'broken' | 'closed' = 'open'
  #broken: Error | undefined

  constructor(deps: PartialDeps, opened: OpenedPartial) {
    this.#deps = deps
    this.#opened = opened
    this.held = opened.held
    this.#durable = opened.durable
    const { handle, held, spec } = opened
    this.#prefix = new PrefixHash(deps.growing, { fd: handle.fd, table: spec.table, held })
  }

  write(index: number, block: VerifiedBlock): Promise<void> {
    const written = this.#tail.then(() => this.#write(index, block))
    this.#tail = written.catch(() => undefined)
    return written
  }

  writeThrough(index: number, write: (target: WriteTarget) => Promise<void>): Promise<void> {
    const written = this.#writeThrough(index, write)
    const settled = written.catch(() => undefined).finally(() => this.#through.delete(settled))
    this.#through.add(settled)
    return written
  }

  async publish(): Promise<PublishedFile> {
    await this.#settled()
    this.#requireOpen()
    if (!this.held.isFull) throw new Error(`published before it is complete: ${this.#place}`)
    // What is left to hash is hashed while the disk works.
    const along = this.#prefix.digest()
    await this.#sync()
    const { table, root } = this.#opened.spec
    const sha256 = await this.#hashWhole(await along)
    const { stamp, keptAs } = await this.#move(sha256)
    const file = { place: this.#place, stamp, sha256, root, table }
    this.#index(file)
    this.#state = 'published'
    await removeFile(this.#opened.part)
    return { ...file, keptAs }
  }

  /** Chunks read back wrong are fetched again; once the file is being moved it is too late, and checked. */
  drop(chunks: readonly number[]): void {
    if (this.#state !== 'open') return
    for (const chunk of chunks) {
      this.held.delete(chunk)
      this.#durable.delete(chunk)
    }
    this.#prefix.giveUp()
    this.#record()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#state === 'closed') return
    await this.#settled()
    await this.#checkpoint
    try {
      if (this.#state === 'open') await this.#sync()
    } finally {
      this.#state = 'closed'
      this.#deps.holdings.live.delete(this.#place)
      await this.#prefix.end()
      await this.#opened.handle.close()
    }
  }

  get #place(): string {
    return this.#opened.spec.place
  }

  get #table(): ChunkTable {
    return this.#opened.spec.table
  }

  async #write(index: number, block: VerifiedBlock): Promise<void> {
    this.#requireOpen()
    const { digest, offset, length } = this.#table.ref(index)
    if (block.bytes.length !== length || !equalBytes(block.digest, digest)) {
      throw new IntegrityError(`that is not chunk ${index} of ${this.#opened.spec.root.toString()}`)
    }
    if (this.held.has(index)) return
    await this.#keepPace()
    await this.#writeAt(block.bytes, offset)
    await this.#written(index, length)
  }

  async #writeThrough(index: number, write: (target: WriteTarget) => Promise<void>): Promise<void> {
    this.#requireOpen()
    if (this.held.has(index)) return
    const { offset, length } = this.#table.ref(index)
    await this.#keepPace()
    try {
      await write({ fd: this.#opened.handle.fd, offset, length })
    } catch (error) {
      // The writer knows the descriptor only, and not the path that a person needs.
      const isWrite = error instanceof StorageError && error.cause !== undefined
      throw isWrite ? asStorageError(`writing ${this.#opened.part}`, error.cause) : error
    }
    // A sync may have failed meanwhile, and then nobody knows what became of these bytes.
    this.#requireOpen()
    await this.#written(index, length)
  }

  async #settled(): Promise<void> {
    await this.#tail
    await Promise.all(this.#through)
  }

  /** A disk slower than the network: waits for the checkpoint instead of piling up dirty pages. */
  async #keepPace(): Promise<void> {
    if (this.#bytesSinceCheckpoint < unsyncedBytesMax) return
    await this.#checkpoint
    this.#requireOpen()
  }

  async #written(index: number, length: number): Promise<void> {
    if (!this.held.add(index)) return
    this.#prefix.grow()
    this.#unrecorded += 1
    this.#bytesSinceCheckpoint += length
    if (this.#unrecorded >= flushChunks) this.#record()
    this.#deps.holdings.chunkWritten(this.#opened.content, index)
    if (this.#bytesSinceCheckpoint >= checkpointBytes && !this.#checkpointing) {
      await this.#deps.checkReserve(this.#opened.spec.folder)
      this.#startCheckpoint()
    }
  }

  async #writeAt(bytes: Uint8Array, offset: number): Promise<void> {
    try {
      for (let done = 0; done < bytes.length;) {
        const length = Math.min(handedBytes, bytes.length - done)
        const { bytesWritten } = await this.#opened.handle.write(bytes, done, length, offset + done)
        done += bytesWritten
      }
    } catch (error) {
      throw asStorageError(`writing ${this.#opened.part}`, error)
    }
  }

  #startCheckpoint(): void {
    this.#bytesSinceCheckpoint = 0
    this.#checkpointing = true
    this.#checkpoint = this.#sync()
      // A failed sync is kept in #broken and thrown by every later call; a full disk under the index
      // shows at the next record.
      .catch(() => undefined)
      .finally(() => {
        this.#checkpointing = false
      })
  }

  /** Invariants 2 and 3. */
  async #sync(): Promise<void> {
    const covered = this.held.clone()
    try {
      await this.#opened.handle.datasync()
    } catch (error) {
      throw this.#break(asStorageError(`syncing ${this.#opened.part}`, error))
    }
    // What was found wrong meanwhile is not durable.
    this.#durable = common(covered, this.held)
    this.#record()
  }

  #break(error: Error): Error {
    this.#state = 'broken'
    this.#broken = error
    const { holdings } = this.#deps
    holdings.change([this.#opened.content.root], () => {
      for (let chunk = 0; chunk < this.held.length; chunk += 1) {
        if (!this.#durable.has(chunk)) this.held.delete(chunk)
      }
    })
    this.#record()
    return error
  }

  #record(): void {
    const { index, boot } = this.#deps
    index.setBits(this.#place, { held: this.held, durable: this.#durable, boot })
    this.#unrecorded = 0
  }

  #requireOpen(): void {
    if (this.#broken !== undefined) {
      throw new StorageError(`${this.#opened.part} failed: ${this.#broken.message}`, {
        cause: this.#broken,
        hint: 'check the disk, then start the pull again: what is safely on disk is kept',
      })
    }
    if (this.#state !== 'open') throw new Error(`${this.#opened.part} is ${this.#state}`)
  }

  /** Invariant of publishing: the manifest's SHA-256 is a claim until the whole file has been hashed. */
  async #hashWhole(along: Uint8Array | undefined): Promise<Uint8Array> {
    const { root, sha256: claimed } = this.#opened.spec
    if (along !== undefined && claimed !== undefined && equalBytes(along, claimed)) return along
    const actual = await this.#wholeSha256(this.#opened.part)
    if (claimed !== undefined && equalBytes(actual, claimed)) return actual
    const wrong = await wrongChunks(this.#opened.handle, this.#table, this.held)
    if (wrong.length > 0) {
      this.#deps.holdings.change([this.#opened.content.root], () => this.drop(wrong))
      throw new StorageError(`${this.#opened.part}: ${wrong.length} chunks changed on disk`, {
        hint: 'start the pull again to fetch just these chunks',
      })
    }
    if (claimed === undefined) return actual
    throw new IntegrityError(
      `the manifest says SHA-256 ${toHex(claimed)} of ${root.toString()}, whose bytes have ${toHex(actual)}`,
      { hint: 'this manifest is wrong: do not use it' },
    )
  }

  async #wholeSha256(path: string): Promise<Uint8Array> {
    try {
      return await this.#deps.wholeSha256(path)
    } catch (error) {
      throw asStorageError(`hashing ${path}`, error)
    }
  }

  async #move(sha256: Uint8Array): Promise<Pick<PublishedFile, 'stamp' | 'keptAs'>> {
    const { spec, part, handle, repair } = this.#opened
    const { names, name } = splitPlace(spec.folder, spec.place)
    try {
      await using folder = await openFolder(spec.folder, names)
      this.#state = 'moving'
      const target = folder.at(name)
      const keptAs = repair && (await replaceFile(part, target, { place: spec.place, repair }))
      if (repair === undefined && !(await moveIntoPlace(part, target))) {
        const file = { place: spec.place, size: spec.table.size, sha256 }
        const hash = (place: string): Promise<Uint8Array> => this.#wholeSha256(place)
        return { stamp: await takeExisting(target, file, hash), keptAs: undefined }
      }
      const stamp = stampOf(await handle.stat({ bigint: true }))
      const { ino } = await lstat(target, { bigint: true })
      if (ino !== stamp.ino) {
        await removeFile(target)
        throw new StorageError(`${part} was swapped while it was published`)
      }
      await folder.sync()
      return { stamp, keptAs }
    } catch (error) {
      this.#state = 'open'
      throw asStorageError(`publishing ${spec.place}`, error)
    }
  }

  #index(file: NewFile): void {
    const { index, holdings } = this.#deps
    const { content } = this.#opened
    holdings.change([content.root], () => {
      index.transaction(() => {
        const proven = index.putContent(file.root, file.table, file.sha256)
        index.putFile(file.place, proven, file.stamp)
        index.indexChunks(proven, file)
        index.deletePartial(file.place)
      })
      this.#deps.forgetReads(file.place)
      holdings.live.delete(file.place)
    })
  }
}

/** Which of the chunks in `claimed` do not have their digest on disk. */
export async function wrongChunks(
  handle: FileHandle,
  table: ChunkTable,
  claimed: Bitfield,
): Promise<number[]> {
  const wrong: number[] = []
  for (const [start, end] of claimed.runs()) {
    for (let index = start; index < end; index += 1) {
      const { offset, length, digest } = table.ref(index)
      const buffer = Buffer.allocUnsafe(length)
      const filled = await readFull(handle, buffer, offset)
      if (filled !== length || !equalBytes(sha256Of(buffer), digest)) wrong.push(index)
    }
  }
  return wrong
}

function common(a: Bitfield, b: Bitfield): Bitfield {
  return new Bitfield(
    a.length,
    a.bytes.map((bits, at) => bits & (b.bytes[at] ?? 0)),
  )
}
