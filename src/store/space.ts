/** Whether a download fits: asked before its first byte, so that a full disk is never found half way. */

import { statfs } from 'node:fs/promises'
import { dirname } from 'node:path'
import { StorageError } from '../core/errors.ts'
import { formatBytes } from '../core/units.ts'
import { asStorageError, isGone } from './files.ts'

/** What a download leaves free for everything else on the machine: the larger of the two. */
export interface Reserve {
  readonly reserveBytes: number
  /** Of the whole file system. */
  readonly reserveFraction: number
}

export interface Space {
  readonly freeBytes: number
  readonly reservedBytes: number
}

/** The space of the file system that `folder` is, or will be, on. */
export async function spaceOf(folder: string, reserve: Reserve): Promise<Space> {
  for (let path = folder; ; path = dirname(path)) {
    try {
      const { bavail, blocks, bsize } = await statfs(path)
      const fraction = Math.ceil(blocks * bsize * reserve.reserveFraction)
      return {
        freeBytes: bavail * bsize,
        reservedBytes: Math.max(reserve.reserveBytes, fraction),
      }
    } catch (error) {
      if (isGone(error) && dirname(path) !== path) continue
      throw asStorageError(`asking for the free space of ${path}`, error)
    }
  }
}

/** Throws StorageError unless `bytes` more fit above the reserve. */
export async function requireSpace(folder: string, bytes: number, reserve: Reserve): Promise<void> {
  const { freeBytes, reservedBytes } = await spaceOf(folder, reserve)
  if (bytes <= freeBytes - reservedBytes) return
  const missing = formatBytes(bytes - (freeBytes - reservedBytes))
  throw new StorageError(
    `${folder}: ${formatBytes(bytes)} do not fit; ${formatBytes(freeBytes)} are free and ` +
      `${formatBytes(reservedBytes)} stay reserved`,
    { hint: `free ${missing}, choose another folder, or lower storage.reserve_bytes` },
  )
}
