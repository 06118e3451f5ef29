/**
 * A file while it comes from a hub: sparse, written in any order, found again after kill -9. Which bytes
 * are right nobody can say before all of them are there, so that what lies here is never served.
 *
 * Invariants:
 * 1. A block is recorded as held only after its bytes were written and synced. What is recorded and wrong
 *    all the same shows when the whole is hashed, and costs time only.
 * 2. The file has no name that anybody looks for until it was hashed.
 */

import { constants } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { join } from 'node:path'
import { Bitfield } from '../../core/bitfield.ts'
import { MiB, KiB } from '../../core/units.ts'
import {
  asStorageError,
  openFolder,
  type OpenFolder,
  partialFolderName,
  removeFile,
} from '../../store/files.ts'

/** Small, so that a change of a few bytes costs few; a file of 16 TiB has 8 MiB of bits. */
export const blockBytes = 256 * KiB
/** Written between two records: what kill -9 and a power cut cost. */
const recordBytes = 32 * MiB

const magic = Buffer.from('cw-hub-1')
const headBytes = 16

export interface PartialPlace {
  /** Absolute: the model's folder. */
  readonly folder: string
  /** Tells apart what is fetched into one folder; the same after a restart. */
  readonly key: string
  readonly size: number
}

export class HubPartial implements AsyncDisposable {
  /** Where it lies until it is whole. */
  readonly path: string
  readonly size: number
  /** By blocks: what the hub sent. */
  readonly held: Bitfield
  readonly #folder: OpenFolder
  readonly #file: FileHandle
  readonly #record: FileHandle
  readonly #names: { readonly file: string; readonly record: string }
  #unrecorded = 0
  #recording: Promise<void> = Promise.resolve()

  private constructor(
    place: PartialPlace,
    opened: { folder: OpenFolder; file: FileHandle; record: FileHandle; held: Bitfield },
  ) {
    this.#names = namesOf(place)
    this.path = join(place.folder, partialFolderName, this.#names.file)
    this.size = place.size
    this.held = opened.held
    this.#folder = opened.folder
    this.#file = opened.file
    this.#record = opened.record
  }

  static async open(place: PartialPlace): Promise<HubPartial> {
    await using stack = new AsyncDisposableStack()
    const folder = stack.use(await openFolder(place.folder, [partialFolderName]))
    const names = namesOf(place)
    try {
      const file = stack.use(await openOnlyName(folder.at(names.file)))
      const record = stack.use(await open(folder.at(names.record), openFlags, 0o600))
      const held = await believe(place.size, file, record)
      const partial = new HubPartial(place, { folder, file, record, held })
      stack.move()
      return partial
    } catch (error) {
      throw asStorageError(`opening ${join(place.folder, partialFolderName, names.file)}`, error)
    }
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    try {
      for (let done = 0; done < bytes.length;) {
        const rest = bytes.length - done
        const { bytesWritten } = await this.#file.write(bytes, done, rest, offset + done)
        done += bytesWritten
      }
    } catch (error) {
      throw asStorageError(`writing ${this.path}`, error)
    }
  }

  /** The blocks that lie in these written bytes whole are held. */
  async wrote(start: number, end: number): Promise<void> {
    const first = Math.ceil(start / blockBytes)
    const last = end === this.size ? this.held.length : Math.floor(end / blockBytes)
    for (let block = first; block < last; block += 1) {
      if (this.held.add(block)) this.#unrecorded += blockBytes
    }
    if (this.#unrecorded >= recordBytes) await this.record()
  }

  /** Invariant 1; one after the other. */
  record(): Promise<void> {
    const recorded = this.#recording.then(() => this.#writeRecord())
    this.#recording = recorded.catch(() => undefined)
    return recorded
  }

  async read(offset: number, length: number): Promise<Buffer> {
    const bytes = Buffer.allocUnsafe(length)
    try {
      const { bytesRead } = await this.#file.read(bytes, 0, length, offset)
      return bytes.subarray(0, bytesRead)
    } catch (error) {
      throw asStorageError(`reading ${this.path}`, error)
    }
  }

  /** What is held is wrong, and nobody knows which of it. */
  async forgetAll(): Promise<void> {
    for (let block = 0; block < this.held.length; block += 1) this.held.delete(block)
    this.#unrecorded += 1
    await this.record()
  }

  /** It has its name now, or is not wanted: both of its files go. */
  async remove(): Promise<void> {
    await this.#recording
    await removeFile(this.#folder.at(this.#names.file))
    await removeFile(this.#folder.at(this.#names.record))
  }

  async sync(): Promise<void> {
    try {
      await this.#file.datasync()
    } catch (error) {
      throw asStorageError(`syncing ${this.path}`, error)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#recording
    await this.#file.close()
    await this.#record.close()
    await this.#folder[Symbol.asyncDispose]()
  }

  async #writeRecord(): Promise<void> {
    if (this.#unrecorded === 0) return
    this.#unrecorded = 0
    const bits = Uint8Array.from(this.held.bytes)
    await this.sync()
    try {
      await this.#record.write(bits, 0, bits.length, headBytes)
    } catch (error) {
      throw asStorageError(`writing ${this.path}`, error)
    }
  }
}

const openFlags = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW

/** A second name would be that of a published file, which nobody may write to. */
async function openOnlyName(path: string): Promise<FileHandle> {
  const file = await open(path, openFlags, 0o666)
  const stats = await file.stat()
  if (stats.isFile() && stats.nlink === 1) return file
  await file.close()
  await removeFile(path)
  return open(path, openFlags | constants.O_EXCL, 0o666)
}

function namesOf({ key }: PartialPlace): { file: string; record: string } {
  return { file: `${key}.hub`, record: `${key}.held` }
}

/** What an earlier run left is believed when its record is about a file of this size. */
async function believe(size: number, file: FileHandle, record: FileHandle): Promise<Bitfield> {
  const blocks = Math.ceil(size / blockBytes)
  const head = Buffer.alloc(headBytes)
  magic.copy(head)
  head.writeBigUInt64LE(BigInt(size), magic.length)
  const bits = new Bitfield(blocks)
  const known = Buffer.alloc(headBytes + bits.bytes.length)
  const { bytesRead } = await record.read(known, 0, known.length, 0)
  const isSame = bytesRead === known.length && known.subarray(0, headBytes).equals(head)
  if (isSame && (await file.stat()).size === size) {
    bits.bytes.set(known.subarray(headBytes))
    // Through runs, which end where the bits do, whatever a damaged record says of more.
    const held = new Bitfield(blocks)
    for (const [start, end] of bits.runs()) {
      for (let block = start; block < end; block += 1) held.add(block)
    }
    return held
  }
  await record.truncate(0)
  await record.write(Buffer.concat([head, bits.bytes]), 0, known.length, 0)
  await file.truncate(0)
  await file.truncate(size)
  return bits
}
