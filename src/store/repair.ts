/**
 * Repairing a damaged file of ours: what is good of it is copied into a partial file, the rest is fetched,
 * and the whole file takes the place of the damaged one.
 *
 * Invariants:
 * 1. Only a file that a pull wrote is replaced, and only as it was when the repair began.
 * 2. At no moment is there no file, or half of one, at the place.
 * 3. Outside our own folder, where somebody may have edited it, the old file is kept under another name.
 */

import { constants } from 'node:fs'
import { chmod, copyFile, link, lstat, rename, truncate } from 'node:fs/promises'
import { sameCid } from '../core/cid.ts'
import { ConflictError, systemCode } from '../core/errors.ts'
import { type FileStamp, sameStamp, stampOf } from '../core/file-stamp.ts'
import type { ChunkIndex } from './chunk-index.ts'
import { asStorageError, removeFile } from './files.ts'
import type { PartialSpec } from './store.ts'
import { placeTaken } from './taken-place.ts'

/** Whose a file is: in our own folder; written by a pull where the user said; the user's own. */
export type Owner = 'home' | 'pull' | 'user'

export interface Repair {
  /** The damaged file as it was found. */
  readonly stamp: FileStamp
  /** Whether it is kept beside the whole one. */
  readonly keep: boolean
}

/** More copies set aside than this are not kept by anybody on purpose. */
const asideMax = 100

/** How the file at a place may be replaced; throws ConflictError when it may not. */
export async function repairOf(
  deps: { readonly index: ChunkIndex; ownerOf(place: string): Promise<Owner> },
  { place, root }: PartialSpec,
  stamp: FileStamp,
): Promise<Repair> {
  const file = deps.index.fileAt(place)
  if (file === undefined || !sameCid(file.content.root, root)) throw placeTaken(place)
  const owner = await deps.ownerOf(place)
  if (owner === 'user') throw notOurs(place)
  // A power cut left it so, or somebody: there is nothing in it to keep.
  if (stamp.size === 0) return { stamp, keep: false }
  if (owner === 'pull' && file.damaged === undefined) throw changedSince(place)
  return { stamp, keep: owner === 'pull' }
}

/** The damaged file as a partial file that nothing is known of: its chunks are hashed when it is opened. */
export async function copyDamaged(place: string, part: string, size: number): Promise<void> {
  await removeFile(part)
  try {
    await copyFile(place, part, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE)
    await chmod(part, 0o644)
    // One that lost its end, or grew, is good as far as it goes.
    await truncate(part, size)
  } catch (error) {
    throw asStorageError(`copying ${place}`, error)
  }
}

/** Puts the whole file at the place of the damaged one; returns the path that this has now, if it is kept. */
export async function replaceFile(
  part: string,
  target: string,
  { place, repair }: { readonly place: string; readonly repair: Repair },
): Promise<string | undefined> {
  const stats = await lstat(target, { bigint: true })
  if (!stats.isFile() || !sameStamp(stampOf(stats), repair.stamp)) throw placeTaken(place)
  const suffix = repair.keep ? await setAside(target) : undefined
  await rename(part, target)
  return suffix === undefined ? undefined : `${place}${suffix}`
}

/** A second name for the file; where there are no hard links it gets the other name for good. */
async function setAside(target: string): Promise<string> {
  for (let number = 1; number <= asideMax; number += 1) {
    const suffix = number === 1 ? '.damaged' : `.damaged-${number}`
    try {
      await link(target, `${target}${suffix}`)
      return suffix
    } catch (error) {
      if (systemCode(error) === 'EEXIST') continue
      await copyFile(target, `${target}${suffix}`, constants.COPYFILE_EXCL)
      return suffix
    }
  }
  throw new ConflictError(`${target} was damaged ${asideMax} times, and each copy is still there`, {
    hint: 'delete those you do not need',
  })
}

/** Its chunks were not hashed since: what differs may be somebody's work. */
function changedSince(place: string): ConflictError {
  return new ConflictError(`${place} was changed after it was pulled`, {
    hint:
      `commonweight verify ${place} tells what is wrong with it, and pull repairs that; or move it ` +
      'away and pull again',
  })
}

function notOurs(place: string): ConflictError {
  return new ConflictError(`${place} is damaged or was changed, and is not ours to overwrite`, {
    hint:
      'what was seeded, or copied with --to from a model kept elsewhere, is yours: move it away and ' +
      'pull again, or pull to another folder with --to',
  })
}
