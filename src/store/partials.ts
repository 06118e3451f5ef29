/**
 * Opens the partial file of a place, new or left by an earlier run, and decides which of its chunks
 * are believed.
 *
 * Invariants:
 * 1. Believed without reading: what this boot recorded, and what an earlier boot made durable, of the
 *    same inode, root and size. Everything else that may be there is hashed first.
 * 2. A partial file is a regular file with one name: writing to it changes no other file.
 * 3. One writer a place.
 */

import { createHash } from 'node:crypto'
import { constants } from 'node:fs'
import { type FileHandle, open, stat } from 'node:fs/promises'
import { basename, dirname, join, relative } from 'node:path'
import { Bitfield } from '../core/bitfield.ts'
import { equalBytes } from '../core/bytes.ts'
import { sameCid } from '../core/cid.ts'
import { ConflictError } from '../core/errors.ts'
import { type FileStamp, sameStamp, stampOf } from '../core/file-stamp.ts'
import type { IndexedPartial } from './chunk-index.ts'
import {
  asStorageError,
  openFolder,
  partialFolderName,
  removeFile,
  removeIfEmpty,
  splitPlace,
  statLink,
} from './files.ts'
import { indexFiles } from './index-files.ts'
import { type PartialDeps, PartialFile, wrongChunks } from './partial-file.ts'
import type { Partial, PublishedFile } from './partial.ts'
import { copyDamaged, type Repair, repairOf } from './repair.ts'
import { isSmall, SmallFiles } from './small-files.ts'
import type { PartialSpec } from './store.ts'
import { placeTaken } from './taken-place.ts'

export class Partials {
  readonly #deps: PartialDeps
  /** Places being opened or open, and their partial files. */
  readonly #taken = new Map<string, string>()
  readonly #small: SmallFiles

  constructor(deps: PartialDeps) {
    this.#deps = deps
    const { index, holdings, forgetReads } = deps
    this.#small = new SmallFiles({
      addFiles: files =>
        holdings.change([], change => indexFiles({ index, forgetReads }, files, change)),
      wholeSha256: place => deps.wholeSha256(place),
    })
  }

  isOpen(place: string): boolean {
    return this.#taken.has(place)
  }

  isWriting(part: string): boolean {
    return [...this.#taken.values()].includes(part)
  }

  /** Makes durable what is not yet, and removes the folder's partial folder once nothing is in it, nor about to be. */
  async tidy(folder: string): Promise<void> {
    await this.#small.makeDurable(folder)
    const partials = join(folder, partialFolderName)
    const isUsed = [...this.#taken.values()].some(part => dirname(part) === partials)
    if (!isUsed) await removeIfEmpty(partials)
  }

  async open(spec: PartialSpec): Promise<Partial> {
    const { place } = spec
    splitPlace(spec.folder, place)
    if (this.#taken.has(place)) {
      throw new ConflictError(`${place} is being fetched already`, {
        hint: 'wait for the other pull, or pull to another folder with --to',
      })
    }
    this.#taken.set(place, partOf(spec))
    try {
      const there = await this.#lookAt(spec)
      const partial = there?.whole ?? (await this.#openNew(spec, there?.repair))
      return releasing(partial, () => this.#taken.delete(place))
    } catch (error) {
      this.#taken.delete(place)
      throw error
    }
  }

  /** What lies at the place already: the wanted file, or one of ours that is damaged. */
  async #lookAt(
    spec: PartialSpec,
  ): Promise<{ whole?: Partial | undefined; repair?: Repair | undefined } | undefined> {
    const stats = await statLink(spec.place)
    if (stats === undefined) return undefined
    if (!stats.isFile()) throw placeTaken(spec.place)
    const whole = Number(stats.size) === spec.table.size ? await this.#adopt(spec) : undefined
    if (whole !== undefined) return { whole }
    return { repair: await repairOf(this.#deps, spec, stampOf(stats)) }
  }

  /** Undefined when it is not the wanted file. */
  async #adopt(spec: PartialSpec): Promise<Partial | undefined> {
    const { place, table, sha256 } = spec
    const actual = await this.#deps.wholeSha256(place)
    if (sha256 !== undefined && !equalBytes(actual, sha256)) return undefined
    const full = Bitfield.full(table.count)
    const stamp = await hashExisting(spec, full)
    if (stamp === undefined) return undefined
    return {
      held: full,
      write: () => Promise.resolve(),
      writeThrough: () => Promise.resolve(),
      publish: () => this.#publishExisting(spec, actual, stamp),
      [Symbol.asyncDispose]: () => Promise.resolve(),
    }
  }

  async #publishExisting(
    { place, root, table }: PartialSpec,
    sha256: Uint8Array,
    stamp: FileStamp,
  ): Promise<PublishedFile> {
    const { index, holdings } = this.#deps
    const old = index.partialAt(place)
    const content = index.putContent(root, table, sha256)
    holdings.change([content.root], () => {
      index.transaction(() => {
        index.putFile(place, content, stamp)
        index.indexChunks(content, { table })
        index.deletePartial(place)
      })
    })
    if (old !== undefined) await removeFile(old.part)
    this.#deps.forgetReads(place)
    return { place, stamp, sha256, root, table, keptAs: undefined }
  }

  /** One that was begun otherwise, or is damaged, goes on so. */
  #openNew(spec: PartialSpec, repair: Repair | undefined): Promise<Partial> {
    const isNew = repair === undefined && this.#deps.index.partialAt(spec.place) === undefined
    if (isNew && isSmall(spec)) return this.#small.open(spec, partOf(spec))
    return this.#open(spec, repair)
  }

  async #open(spec: PartialSpec, repair: Repair | undefined): Promise<Partial> {
    const { index, holdings, boot } = this.#deps
    // A damaged file is known until another one has its place: what is good of it goes on being served.
    if (repair === undefined) this.#forgetFile(spec.place)
    const known = await this.#knownOf(spec)
    const part = partOf(spec)
    const name = basename(part)
    await using folder = await openFolder(spec.folder, [partialFolderName])
    if (repair !== undefined && known === undefined) {
      await copyDamaged(spec.place, folder.at(name), spec.table.size)
    }
    const handle = await openPart(folder.at(name), part)
    try {
      const stats = await handle.stat({ bigint: true })
      const content = index.putContent(spec.root, spec.table, undefined)
      const bits = await this.#believe({ spec, known, handle, stats })
      const row = {
        place: spec.place,
        content,
        folder: spec.folder,
        part,
        ino: stats.ino,
        ...bits,
        boot,
      }
      holdings.change([content.root], () => index.putPartial(row))
      const partial = new PartialFile(this.#deps, { ...row, spec, handle, repair })
      holdings.live.set(spec.place, partial)
      return partial
    } catch (error) {
      await handle.close()
      throw asStorageError(`opening ${part}`, error)
    }
  }

  /** Nothing lies at the place any more: what was known of it is over. */
  #forgetFile(place: string): void {
    const { index, holdings } = this.#deps
    const file = index.fileAt(place)
    if (file === undefined) return
    holdings.change([file.content.root], () => index.deleteFile(file))
    holdings.forgetSeen(place)
  }

  /** What the index knows of a partial for this file; one of another root is given up. */
  async #knownOf({ place, root }: PartialSpec): Promise<IndexedPartial | undefined> {
    const { index, holdings } = this.#deps
    const known = index.partialAt(place)
    if (known === undefined || sameCid(known.content.root, root)) return known
    holdings.change([known.content.root], () => index.deletePartial(place))
    await removeFile(known.part)
    return undefined
  }

  /** Invariant 1. Sizes a new file, which is sparse: nothing is allocated before it is written. */
  async #believe(found: FoundPart): Promise<{ held: Bitfield; durable: Bitfield }> {
    const { spec, known, handle, stats } = found
    const { table } = spec
    if (Number(stats.size) !== table.size) {
      await handle.truncate(0)
      await handle.truncate(table.size)
      return { held: new Bitfield(table.count), durable: new Bitfield(table.count) }
    }
    const isSame = known?.ino === stats.ino
    const durable = isSame ? known.durable : new Bitfield(table.count)
    if (isSame && known.boot === this.#deps.boot) return { held: known.held, durable }
    // After a power cut anything may have reached the disk; without a record anything may be there.
    const held = isSame ? known.held.clone() : Bitfield.full(table.count)
    for (const chunk of await wrongChunks(handle, table, without(held, durable))) held.delete(chunk)
    return { held, durable }
  }
}

/** The bits of `a` that are not in `b`. */
function without(a: Bitfield, b: Bitfield): Bitfield {
  const left = a.clone()
  for (const [start, end] of b.runs()) {
    for (let chunk = start; chunk < end; chunk += 1) left.delete(chunk)
  }
  return left
}

interface FoundPart {
  readonly spec: PartialSpec
  readonly known: IndexedPartial | undefined
  readonly handle: FileHandle
  readonly stats: { readonly size: bigint; readonly ino: bigint }
}

/** The same for the same file of the same folder, so that it is found again when the index is lost. */
export function partOf({
  folder,
  place,
  root,
}: Pick<PartialSpec, 'folder' | 'place' | 'root'>): string {
  const inside = createHash('sha256').update(relative(folder, place)).digest('hex').slice(0, 8)
  return join(folder, partialFolderName, `${root.toString()}-${inside}.part`)
}

const partFlags = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW

/** Invariant 2. `path` goes to the system, `shown` to people. */
async function openPart(path: string, shown: string): Promise<FileHandle> {
  try {
    const handle = await open(path, partFlags | constants.O_NONBLOCK, 0o666)
    const stats = await handle.stat()
    if (stats.isFile() && stats.nlink === 1) return handle
    await handle.close()
    await removeFile(path)
    return await open(path, partFlags | constants.O_EXCL, 0o666)
  } catch (error) {
    throw asStorageError(`opening ${shown}`, error)
  }
}

/** The chunks of an existing file against the table; undefined when they differ. */
async function hashExisting(
  { place, table }: PartialSpec,
  all: Bitfield,
): Promise<FileStamp | undefined> {
  try {
    await using handle = await open(place, constants.O_RDONLY | constants.O_NOFOLLOW)
    const stamp = stampOf(await handle.stat({ bigint: true }))
    const wrong = await wrongChunks(handle, table, all)
    const now = stampOf(await stat(place, { bigint: true }))
    if (!sameStamp(stamp, now)) throw placeTaken(place)
    return wrong.length > 0 ? undefined : stamp
  } catch (error) {
    throw asStorageError(`reading ${place}`, error)
  }
}

/** The same partial, which calls back once when it is closed. */
function releasing(partial: Partial, release: () => void): Partial {
  return {
    held: partial.held,
    write: (index, block) => partial.write(index, block),
    writeThrough: (index, write) => partial.writeThrough(index, write),
    publish: () => partial.publish(),
    async [Symbol.asyncDispose]() {
      try {
        await partial[Symbol.asyncDispose]()
      } finally {
        release()
      }
    },
  }
}
