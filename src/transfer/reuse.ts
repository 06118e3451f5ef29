/**
 * What this machine has already is not fetched: whole files are linked, reflinked or copied, single
 * chunks are copied from wherever they lie. All of it is read and hashed again on the way.
 */

import { constants, copyFile, link, type FileHandle, open, stat } from 'node:fs/promises'
import { toHex } from '../core/bytes.ts'
import { sha256 as digestOf } from '../core/digest.ts'
import { isAbort, IntegrityError, messageOf, systemCode } from '../core/errors.ts'
import { type FileStamp, sameStamp, stampOf } from '../core/file-stamp.ts'
import type { ChunkTable } from '../dag/chunk-table.ts'
import { type VerifiedBlock, verifyDigest } from '../dag/verify.ts'
import {
  asStorageError,
  isInside,
  moveIntoPlace,
  type OpenFolder,
  openFolder,
  partialFolderName,
  removeFile,
  splitPlace,
  statLink,
} from '../store/files.ts'
import type { Place } from '../store/store.ts'
import type { DownloadDeps, DownloadRequest, WantedFile } from './request.ts'

type ReuseDeps = Pick<DownloadDeps, 'store' | 'log'>

export interface ReuseOptions {
  readonly signal: AbortSignal
  /** Of this file and all that follow: what is copied one by one must fit together. Its own size when left out. */
  readonly bytesToCome?: () => Promise<number>
}

/** True when the file lies at its place now, whole, checked and indexed. */
export async function reuseWhole(
  deps: ReuseDeps,
  request: DownloadRequest,
  file: WantedFile,
  options: ReuseOptions,
): Promise<boolean> {
  const { store, log } = deps
  const { signal, bytesToCome = (): Promise<number> => Promise.resolve(file.size) } = options
  const there = await statLink(file.place)
  // What lies there and is not indexed is for openPartial to judge.
  if (there !== undefined) return isIndexed(deps, file, stampOf(there))
  const table = store.chunkTable(file.root)
  const { sha256 } = file
  if (table === undefined || sha256 === undefined) return false
  for (const from of await store.findFile(sha256)) {
    try {
      if (await copyOne(deps, { request, file, table, sha256, from, signal, bytesToCome }))
        return true
    } catch (error) {
      signal.throwIfAborted()
      if (isAbort(error) || !(error instanceof IntegrityError)) throw error
      log.warn('a local file is not what it was', { file: from, error: messageOf(error) })
    }
  }
  return false
}

function isIndexed({ store }: ReuseDeps, file: WantedFile, stamp: FileStamp): boolean {
  return store.fileAt(file.place, stamp)?.root.equals(file.root) ?? false
}

interface Copy {
  readonly request: DownloadRequest
  readonly file: WantedFile
  readonly table: ChunkTable
  readonly sha256: Uint8Array
  readonly from: string
  readonly signal: AbortSignal
  readonly bytesToCome: () => Promise<number>
}

/** False when another file took the place meanwhile. */
async function copyOne(deps: ReuseDeps, copy: Copy): Promise<boolean> {
  const { request, file, table, sha256, from, signal } = copy
  const { names, name } = splitPlace(request.folder, file.place)
  await using work = await openFolder(request.folder, [partialFolderName])
  await using target = await openFolder(request.folder, names)
  // A model may have the same bytes under two names, copied at the same time.
  const temporary = `${toHex(digestOf(Buffer.from(file.path))).slice(0, 16)}-${toHex(sha256)}.copy`
  await removeFile(work.at(temporary))
  try {
    await cloneFile(deps, copy, work.at(temporary))
    const stamp = await verifyFile(work.at(temporary), table, signal)
    if (!(await place(work.at(temporary), target, name))) return false
    const moved = stampOf(await stat(file.place, { bigint: true }))
    if (!sameStamp(stamp, moved)) throw new IntegrityError(`${file.place} changed while copied`)
    deps.store.addFiles([{ place: file.place, stamp: moved, sha256, root: file.root, table }])
    deps.log.debug('reused a local file', { from, to: file.place })
    return true
  } finally {
    await removeFile(work.at(temporary))
  }
}

async function place(from: string, folder: OpenFolder, name: string): Promise<boolean> {
  const isPlaced = await moveIntoPlace(from, folder.at(name))
  if (isPlaced) await folder.sync()
  return isPlaced
}

/**
 * A second name inside our own folder, where nobody edits files; else a reflink, which costs no
 * space; else a copy.
 */
async function cloneFile(deps: ReuseDeps, copy: Copy, to: string): Promise<void> {
  const { request, from } = copy
  if (request.ownFolder !== undefined && (await areInside(request.ownFolder, request, from))) {
    if (await tried(() => link(from, to))) return
  }
  if (await tried(() => copyFile(from, to, constants.COPYFILE_FICLONE_FORCE))) return
  await deps.store.checkSpace(request.folder, await copy.bytesToCome())
  try {
    await copyFile(from, to, constants.COPYFILE_EXCL)
  } catch (error) {
    throw asStorageError(`copying ${from}`, error)
  }
}

async function areInside(own: string, request: DownloadRequest, from: string): Promise<boolean> {
  return (await isInside(own, request.folder)) && isInside(own, from)
}

/** False when the file system cannot do it. */
async function tried(work: () => Promise<void>): Promise<boolean> {
  try {
    await work()
    return true
  } catch (error) {
    if (systemCode(error) === undefined) throw error
    return false
  }
}

/**
 * Reads the whole file and makes it durable; IntegrityError when a chunk is not what the table says.
 * Only Windows wants to write what it syncs, and a copy of a read-only file is read-only.
 */
async function verifyFile(
  path: string,
  table: ChunkTable,
  signal: AbortSignal,
): Promise<FileStamp> {
  await using file = await open(path, process.platform === 'win32' ? 'r+' : 'r')
  for (let index = 0; index < table.count; index += 1) {
    signal.throwIfAborted()
    const { digest, offset, length } = table.ref(index)
    verifyDigest(digest, await readAt(file, offset, length))
  }
  const stamp = stampOf(await file.stat({ bigint: true }))
  if (stamp.size !== table.size) throw new IntegrityError(`${path} has ${stamp.size} bytes`)
  await file.sync()
  return stamp
}

/** One chunk from this machine, checked, or undefined when no place has it (any more). */
export async function readLocalChunk(
  deps: Pick<DownloadDeps, 'log'>,
  digest: Uint8Array,
  places: readonly Place[],
): Promise<VerifiedBlock | undefined> {
  for (const { place: path, offset, length } of places) {
    try {
      await using file = await open(path, 'r')
      return verifyDigest(digest, await readAt(file, offset, length))
    } catch (error) {
      if (!(error instanceof IntegrityError) && systemCode(error) === undefined) throw error
      deps.log.debug('a local chunk is gone', { path, error: messageOf(error) })
    }
  }
  return undefined
}

/** Throws IntegrityError when the file ends before. */
async function readAt(file: FileHandle, offset: number, length: number): Promise<Uint8Array> {
  const buffer = Buffer.allocUnsafeSlow(length)
  for (let done = 0; done < length;) {
    const { bytesRead } = await file.read(buffer, done, length - done, offset + done)
    if (bytesRead === 0) throw new IntegrityError(`the file ends before byte ${offset + length}`)
    done += bytesRead
  }
  return buffer
}
