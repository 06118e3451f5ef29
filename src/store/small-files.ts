/**
 * Downloads of files that are one small chunk. Such a file has nothing to resume, and its chunk's hash is
 * that of the whole: so there is no record of it before it is published, and many are published together,
 * with one sync of their folder and one transaction. Models with 10,000 of them are pulled in a third of the
 * time.
 *
 * Invariants:
 * 1. A file is indexed only after its name is durable, and a download is over only after its bytes are, by one
 *    sync for all. A power cut before that may leave a file without its bytes, and so without its size: it
 *    is known as changed by its stamp, and the pull that goes on replaces it.
 * 2. What is not published when the process ends is fetched again: at most `smallBytesMax` a file.
 */

import { constants } from 'node:fs'
import { type FileHandle, lstat, open } from 'node:fs/promises'
import { basename } from 'node:path'
import { Bitfield } from '../core/bitfield.ts'
import { equalBytes, toHex } from '../core/bytes.ts'
import { codecs, digestOf } from '../core/cid.ts'
import { IntegrityError, StorageError, systemCode } from '../core/errors.ts'
import { type FileStamp, stampOf } from '../core/file-stamp.ts'
import { KiB } from '../core/units.ts'
import type { VerifiedBlock } from '../dag/verify.ts'
import {
  asStorageError,
  moveIntoPlace,
  type OpenFolder,
  openFolder,
  partialFolderName,
  removeFile,
  splitPlace,
} from './files.ts'
import type { NewFile } from './new-file.ts'
import type { Partial, PublishedFile, WriteTarget } from './partial.ts'
import type { PartialSpec } from './store.ts'
import { syncFiles } from './sync-files.ts'
import { takeExisting } from './taken-place.ts'

/** Of a larger file more is lost by kill -9 than a bitmap costs. */
export const smallBytesMax = 64 * KiB
/** Published at once: each has a descriptor and waits for the slowest. */
const batchMax = 64

export interface SmallFileDeps {
  /** In one transaction, and tells who listens. */
  addFiles(files: readonly NewFile[]): void
  wholeSha256(place: string): Promise<Uint8Array>
}

export function isSmall({ root, table }: PartialSpec): boolean {
  return root.code === codecs.raw && table.size <= smallBytesMax
}

export class SmallFiles {
  readonly #deps: SmallFileDeps
  /** Folders of partial files, open as long as some file uses them. */
  readonly #folders = new Map<string, { readonly opened: Promise<OpenFolder>; users: number }>()
  /** Published and not known to be durable, by the folder of their model. */
  readonly #unsynced = new Map<string, string[]>()
  readonly #queue: Publishing[] = []
  #isPublishing = false

  constructor(deps: SmallFileDeps) {
    this.#deps = deps
  }

  /** `part` is the partial file, which does not exist before something is written. */
  async open(spec: PartialSpec, part: string): Promise<Partial> {
    const folder = await this.#enter(spec.folder)
    return new SmallFile({ spec, part, path: folder.at(basename(part)) }, this)
  }

  /** Resolves when the file is at its place and indexed. */
  publish(file: SmallFile): Promise<PublishedFile> {
    const { promise, resolve, reject } = Promise.withResolvers<PublishedFile>()
    this.#queue.push({ file, resolve, reject })
    void this.#publishAll()
    return promise
  }

  /** Returns when what was published into the folder survives a power cut. */
  async makeDurable(folder: string): Promise<void> {
    const places = this.#unsynced.get(folder)
    if (places === undefined) return
    this.#unsynced.delete(folder)
    await syncFiles(folder, places)
  }

  async leave(folder: string): Promise<void> {
    const shared = this.#folders.get(folder)
    if (shared === undefined) return
    shared.users -= 1
    if (shared.users > 0) return
    this.#folders.delete(folder)
    await (await shared.opened)[Symbol.asyncDispose]()
  }

  async #enter(folder: string): Promise<OpenFolder> {
    let shared = this.#folders.get(folder)
    if (shared === undefined) {
      shared = { opened: openFolder(folder, [partialFolderName]), users: 0 }
      this.#folders.set(folder, shared)
    }
    shared.users += 1
    try {
      return await shared.opened
    } catch (error) {
      this.#folders.delete(folder)
      throw error
    }
  }

  /** One batch after the other: what is finished meanwhile makes the next one larger. */
  async #publishAll(): Promise<void> {
    if (this.#isPublishing) return
    this.#isPublishing = true
    while (this.#queue.length > 0) await this.#publishBatch(this.#queue.splice(0, batchMax))
    this.#isPublishing = false
  }

  /** Invariant 1. Whatever is wrong with one file is told to who publishes that one. */
  async #publishBatch(batch: readonly Publishing[]): Promise<void> {
    const moved: Moved[] = []
    for (const group of groupByFolder(batch)) moved.push(...(await this.#moveGroup(group)))
    try {
      this.#deps.addFiles(moved.map(({ made }) => made))
      for (const { file, made, resolve } of moved) {
        this.#noteUnsynced(file.spec)
        resolve({ ...made, keptAs: undefined })
      }
    } catch (error) {
      for (const { reject } of moved) reject(error)
    }
  }

  #noteUnsynced({ folder, place }: PartialSpec): void {
    const places = this.#unsynced.get(folder)
    if (places === undefined) this.#unsynced.set(folder, [place])
    else places.push(place)
  }

  async #moveGroup(group: readonly Publishing[]): Promise<Moved[]> {
    const [first] = group
    if (first === undefined) return []
    const moved: Moved[] = []
    try {
      await using folder = await openFolder(first.file.spec.folder, first.file.names)
      const hash = (place: string): Promise<Uint8Array> => this.#deps.wholeSha256(place)
      await survivors(group, async publishing => {
        moved.push({ ...publishing, made: await publishing.file.move(folder, hash) })
      })
      await folder.sync()
      return moved
    } catch (error) {
      const failed = asStorageError(`publishing ${first.file.spec.place}`, error)
      for (const { reject } of group) reject(failed)
      return []
    }
  }
}

interface Publishing {
  readonly file: SmallFile
  readonly resolve: (file: PublishedFile) => void
  readonly reject: (reason: unknown) => void
}

interface Moved extends Publishing {
  readonly made: NewFile
}

/** Those for which `work` went well, the others rejected. */
async function survivors(
  all: readonly Publishing[],
  work: (publishing: Publishing) => Promise<void>,
): Promise<Publishing[]> {
  const outcomes = await Promise.allSettled(all.map(work))
  return all.filter((publishing, at) => {
    const outcome = outcomes[at]
    if (outcome?.status !== 'rejected') return true
    publishing.reject(outcome.reason)
    return false
  })
}

function groupByFolder(all: readonly Publishing[]): Publishing[][] {
  const groups = Map.groupBy(all, ({ file }) => JSON.stringify([file.spec.folder, ...file.names]))
  return [...groups.values()]
}

interface OpenedSmall {
  readonly spec: PartialSpec
  readonly part: string
  /** Of the partial file, for the system. */
  readonly path: string
}

class SmallFile implements Partial {
  readonly spec: PartialSpec
  readonly held: Bitfield
  /** Folders between the model's and the file. */
  readonly names: readonly string[]
  readonly #name: string
  readonly #part: string
  readonly #path: string
  readonly #files: SmallFiles
  readonly #writes = new Set<Promise<unknown>>()
  #handle: Promise<FileHandle> | undefined
  #isClosed = false

  constructor({ spec, part, path }: OpenedSmall, files: SmallFiles) {
    this.spec = spec
    this.held = new Bitfield(spec.table.count)
    const { names, name } = splitPlace(spec.folder, spec.place)
    this.names = names
    this.#name = name
    this.#part = part
    this.#path = path
    this.#files = files
  }

  write(index: number, block: VerifiedBlock): Promise<void> {
    const { digest, length } = this.spec.table.ref(index)
    if (block.bytes.length !== length || !equalBytes(block.digest, digest)) {
      const wrong = `that is not chunk ${index} of ${this.spec.root.toString()}`
      return Promise.reject(new IntegrityError(wrong))
    }
    return this.writeThrough(index, async () => {
      const handle = await this.#open()
      try {
        for (let done = 0; done < length;) {
          const { bytesWritten } = await handle.write(block.bytes, done, length - done, done)
          done += bytesWritten
        }
      } catch (error) {
        throw asStorageError(`writing ${this.#part}`, error)
      }
    })
  }

  writeThrough(index: number, write: (target: WriteTarget) => Promise<void>): Promise<void> {
    const written = this.#write(index, write)
    const settled = written.catch(() => undefined).finally(() => this.#writes.delete(settled))
    this.#writes.add(settled)
    return written
  }

  async publish(): Promise<PublishedFile> {
    await Promise.all(this.#writes)
    if (!this.held.isFull) throw new Error(`published before it is complete: ${this.spec.place}`)
    const { sha256: claimed, root } = this.spec
    const actual = digestOf(root)
    if (claimed !== undefined && !equalBytes(actual, claimed)) {
      throw new IntegrityError(
        `the manifest says SHA-256 ${toHex(claimed)} of ${root.toString()}, whose bytes have ${toHex(actual)}`,
        { hint: 'this manifest is wrong: do not use it' },
      )
    }
    return this.#files.publish(this)
  }

  /** Gives it its name in the folder, unless the same bytes have it already. */
  async move(
    folder: OpenFolder,
    wholeSha256: (place: string) => Promise<Uint8Array>,
  ): Promise<NewFile> {
    const { place, root, table } = this.spec
    const sha256 = digestOf(root)
    const target = folder.at(this.#name)
    try {
      // An empty file has had nothing written.
      const handle = await this.#open()
      const isMoved = await moveIntoPlace(this.#path, target)
      const file = { place, size: table.size, sha256 }
      const stamp = isMoved
        ? await this.#stampOf(handle, target)
        : await takeExisting(target, file, wholeSha256)
      return { place, stamp, sha256, root, table }
    } catch (error) {
      throw asStorageError(`publishing ${place}`, error)
    }
  }

  /** Whatever was not published is gone: it was one chunk. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    await Promise.all(this.#writes)
    const handle = await this.#handle?.catch(() => undefined)
    await handle?.close()
    if (handle !== undefined) await removeFile(this.#path)
    await this.#files.leave(this.spec.folder)
  }

  async #write(index: number, write: (target: WriteTarget) => Promise<void>): Promise<void> {
    if (this.#isClosed) throw new Error(`${this.#part} is closed`)
    if (this.held.has(index)) return
    const { fd } = await this.#open()
    try {
      await write({ fd, offset: 0, length: this.spec.table.size })
    } catch (error) {
      // The writer knows the descriptor only, and not the path that a person needs.
      const isWrite = error instanceof StorageError && error.cause !== undefined
      throw isWrite ? asStorageError(`writing ${this.#part}`, error.cause) : error
    }
    this.held.add(index)
  }

  /** A failure is for all who wait, and the next one tries again. */
  async #open(): Promise<FileHandle> {
    this.#handle ??= openNew(this.#path)
    try {
      return await this.#handle
    } catch (error) {
      this.#handle = undefined
      throw asStorageError(`opening ${this.#part}`, error)
    }
  }

  async #stampOf(handle: FileHandle, target: string): Promise<FileStamp> {
    const stamp = stampOf(await handle.stat({ bigint: true }))
    const { ino } = await lstat(target, { bigint: true })
    if (ino === stamp.ino) return stamp
    await removeFile(target)
    throw new StorageError(`${this.#part} was swapped while it was published`)
  }
}

const newFlags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW

/** Whatever lies there is left over from another time. */
async function openNew(path: string): Promise<FileHandle> {
  try {
    return await open(path, newFlags, 0o666)
  } catch (error) {
    if (systemCode(error) !== 'EEXIST') throw error
  }
  await removeFile(path)
  return open(path, newFlags, 0o666)
}
