/**
 * Folders and files touched so that nothing outside the target folder is ever written, nothing of
 * the user's is ever overwritten, and what was published survives a power cut.
 *
 * Invariants:
 * 1. Below the folder that the user chose no symbolic link is followed: each level is opened by its
 *    parent's descriptor, so a folder swapped for a link in the middle of a download changes nothing.
 * 2. A file gets its final name by link or by a rename over an empty file that we just created: a file
 *    that was there stays.
 */

import { constants, type BigIntStats } from 'node:fs'
import {
  type FileHandle,
  link,
  lstat,
  mkdir,
  open,
  realpath,
  rename,
  rmdir,
  stat,
  unlink,
} from 'node:fs/promises'
import { basename, dirname, isAbsolute, join, relative, sep } from 'node:path'
import { type FileStamp, stampOf } from '../core/file-stamp.ts'
import { InvalidInputError, messageOf, StorageError, systemCode } from '../core/errors.ts'

/** Descriptors as folders are how Node gets openat; elsewhere paths are checked before use. */
const hasProcFd = process.platform === 'linux'

/** The folder inside a model's folder that holds its partial files. */
export const partialFolderName = '.commonweight'

/** A folder inside the base, held so that it cannot be swapped for another. */
export interface OpenFolder extends AsyncDisposable {
  /** The path to use in system calls for an entry of the folder. */
  at(name: string): string
  /** Makes its entries survive a power cut. */
  sync(): Promise<void>
}

/** Opens `base` and the folders below it, creating those that are missing. */
export async function openFolder(base: string, names: readonly string[]): Promise<OpenFolder> {
  const shown = join(base, ...names)
  try {
    await makeFolders(base)
    const real = await realpath(base)
    return hasProcFd ? await openByDescriptor(real, names) : await openByPath(real, names)
  } catch (error) {
    throw asStorageError(`opening the folder ${shown}`, error)
  }
}

/** The base and those above it. Node's recursive mkdir says ENOENT of a read-only file system. */
async function makeFolders(path: string): Promise<void> {
  try {
    const stats = await stat(path)
    if (stats.isDirectory()) return
    throw new StorageError(`${path} is not a folder`, { hint: fileHint })
  } catch (error) {
    const code = systemCode(error)
    if (code === 'ENOTDIR') {
      throw new StorageError(`${path} would lie below a file`, { hint: fileHint, cause: error })
    }
    if (code !== 'ENOENT' || dirname(path) === path) throw error
  }
  await makeFolders(dirname(path))
  try {
    await makeFolder(path)
  } catch (error) {
    // Its parent is there: /proc and some mounts say so of whatever is made in them.
    if (systemCode(error) !== 'ENOENT') throw error
    throw new StorageError(`no folder can be made in ${dirname(path)}`, {
      hint: 'choose another folder with --to',
      cause: error,
    })
  }
}

const fileHint = 'choose another folder, or move the file that is in the way'

const folderFlags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW

async function openByDescriptor(base: string, names: readonly string[]): Promise<OpenFolder> {
  let folder = await open(base, folderFlags)
  try {
    for (const name of names) {
      const inner = await openOrMake(folder, `/proc/self/fd/${folder.fd}/${name}`)
      await folder.close()
      folder = inner
    }
  } catch (error) {
    await folder.close()
    throw error
  }
  return {
    at: name => `/proc/self/fd/${folder.fd}/${name}`,
    sync: () => folder.sync(),
    [Symbol.asyncDispose]: () => folder.close(),
  }
}

async function openOrMake(parent: FileHandle, path: string): Promise<FileHandle> {
  try {
    return await open(path, folderFlags)
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error
  }
  await makeFolder(path)
  await parent.sync()
  return open(path, folderFlags)
}

async function makeFolder(path: string): Promise<void> {
  try {
    await mkdir(path)
  } catch (error) {
    // Two files of one folder are published at the same time.
    if (systemCode(error) !== 'EEXIST') throw error
  }
}

async function openByPath(base: string, names: readonly string[]): Promise<OpenFolder> {
  let path = base
  for (const name of names) {
    path = join(path, name)
    await makeFolder(path)
    const stats = await lstat(path)
    if (!stats.isDirectory()) throw new StorageError(`${path} is not a folder`, { hint: linkHint })
  }
  return {
    at: name => join(path, name),
    async sync() {
      // Windows cannot sync a folder, and does not need to.
      if (process.platform === 'win32') return
      await using folder = await open(path, constants.O_RDONLY)
      await folder.sync()
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  }
}

const linkHint = 'symbolic links below the target folder are not followed: use a real folder there'

/** `place` as folder names and a file name below `folder`; InvalidInputError when it is not below. */
export function splitPlace(folder: string, place: string): { names: string[]; name: string } {
  const inside = relative(folder, place)
  const isBelow = inside !== '' && !isAbsolute(inside) && inside.split(sep)[0] !== '..'
  if (!isAbsolute(folder) || !isAbsolute(place) || !isBelow) {
    throw new InvalidInputError(`${place} is not inside the folder ${folder}`)
  }
  const names = dirname(inside).split(sep)
  return { names: names[0] === '.' ? [] : names, name: basename(inside) }
}

/** True when `path` lies below `folder`, links resolved; false when either is gone. */
export async function isInside(folder: string, path: string): Promise<boolean> {
  try {
    const inside = relative(await realpath(folder), await realpath(path))
    return inside !== '' && !isAbsolute(inside) && inside.split(sep)[0] !== '..'
  } catch (error) {
    if (isGone(error)) return false
    throw asStorageError(`resolving ${path}`, error)
  }
}

/** The link itself, or undefined when nothing is there. */
export async function statLink(path: string): Promise<BigIntStats | undefined> {
  try {
    return await lstat(path, { bigint: true })
  } catch (error) {
    if (isGone(error)) return undefined
    throw asStorageError(`looking at ${path}`, error)
  }
}

/** The stamp of a regular file; undefined when there is none to be read. */
export async function regularStamp(place: string): Promise<FileStamp | undefined> {
  try {
    const stats = await stat(place, { bigint: true })
    return stats.isFile() ? stampOf(stats) : undefined
  } catch (error) {
    if (Error.isError(error) && 'code' in error) return undefined
    throw error
  }
}

export function isGone(error: unknown): boolean {
  const code = systemCode(error)
  return code === 'ENOENT' || code === 'ENOTDIR'
}

/** File systems that have no hard links, or not for this file. */
const noLinkCodes: ReadonlySet<string | undefined> = new Set([
  'EPERM',
  'ENOTSUP',
  'EOPNOTSUPP',
  'ENOSYS',
  'EMLINK',
  'EXDEV',
])

/**
 * Gives a file its final name; false, and nothing done, when that name is taken. The old name may
 * stay as a second one: remove it once the new one is recorded.
 */
export async function moveIntoPlace(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to)
    return true
  } catch (error) {
    if (systemCode(error) === 'EEXIST') return false
    if (!noLinkCodes.has(systemCode(error))) throw error
  }
  return renameIntoPlace(from, to)
}

async function renameIntoPlace(from: string, to: string): Promise<boolean> {
  try {
    await using _claim = await open(to, 'wx')
  } catch (error) {
    if (systemCode(error) === 'EEXIST') return false
    throw error
  }
  await rename(from, to)
  return true
}

/** Deletes a file; true when it was there. */
export async function removeFile(path: string): Promise<boolean> {
  try {
    await unlink(path)
    return true
  } catch (error) {
    if (isGone(error)) return false
    throw asStorageError(`deleting ${path}`, error)
  }
}

/** Deletes a folder unless something is in it. */
export async function removeIfEmpty(folder: string): Promise<void> {
  try {
    await rmdir(folder)
  } catch (error) {
    if (isInUse(error) || isGone(error)) return
    throw asStorageError(`removing the empty folder ${folder}`, error)
  }
}

function isInUse(error: unknown): boolean {
  const code = systemCode(error)
  return code === 'ENOTEMPTY' || code === 'EEXIST'
}

const hints: Readonly<Record<string, string>> = {
  ENOSPC: 'free some space on this disk; what was fetched so far is kept',
  EDQUOT: 'your quota on this disk is used up; what was fetched so far is kept',
  EACCES: 'check who may read and write there',
  EPERM: 'check who may read and write there',
  EROFS: 'the file system is mounted read-only',
  EMFILE: 'too many open files: raise the limit (ulimit -n)',
  EFBIG: 'the file system cannot hold a file of this size',
  ELOOP: linkHint,
  ENOTDIR: linkHint,
}

/** A system error as StorageError with what to do about it; anything else as it is. */
export function asStorageError(doing: string, error: unknown): Error {
  const code = systemCode(error)
  const isSystem = code !== undefined && /^E[A-Z0-9]+$/.test(code)
  if (!isSystem) return Error.isError(error) ? error : new Error(messageOf(error))
  const hint = hints[code]
  const details = hint === undefined ? { cause: error } : { cause: error, hint }
  // Node's own message would show the descriptor's path in /proc; the code says enough.
  return new StorageError(`${doing}: ${reasonOf(code, error)}`, details)
}

function reasonOf(code: string, error: unknown): string {
  const text = messageOf(error)
  const end = text.indexOf(', ')
  return end === -1 ? code : text.slice(0, end)
}
