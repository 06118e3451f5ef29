/** One regular file, open for one read, with the proof that it did not change meanwhile. */

import { closeSync, constants, fstatSync, openSync, readSync, statSync } from 'node:fs'
import { formatBytes } from '../core/units.ts'
import { LimitError, StorageError, systemCode } from '../core/errors.ts'
import { type FileStamp, sameStamp, stampOf } from '../core/file-stamp.ts'
import { fileBytesMax } from '../dag/chunk-table.ts'
import { changedError, kindOf, readError, shown } from './file-errors.ts'

/** Without O_NONBLOCK the open of a named pipe waits for a writer. Windows has neither. */
const openFlags = constants.O_RDONLY | ((constants.O_NONBLOCK as number | undefined) ?? 0)

export interface OpenFile extends Disposable {
  readonly fd: number
  readonly stamp: FileStamp
  /** Throws ConflictError when the file, or what its path leads to, is no longer what was opened. */
  checkUnchanged(): void
}

/** Throws StorageError unless `place` leads to a regular file that can be read. */
export function openFile(place: string): OpenFile {
  const fd = openDescriptor(place)
  try {
    const stats = fstatSync(fd, { bigint: true })
    if (!stats.isFile()) throw new StorageError(`${shown(place)} is ${kindOf(stats)}, not a file`)
    const stamp = stampOf(stats)
    if (stamp.size > fileBytesMax) {
      throw new LimitError(
        `${shown(place)} is larger than ${formatBytes(fileBytesMax)}, the most a file may have`,
      )
    }
    return {
      fd,
      stamp,
      checkUnchanged: () => checkUnchanged(place, stamp),
      [Symbol.dispose]: () => closeSync(fd),
    }
  } catch (error) {
    closeSync(fd)
    throw error
  }
}

/**
 * What a file holds that fits into `buffer`, with a stamp from after the read: whoever has the same one
 * from before knows that nothing changed in between. Undefined when it does not fit.
 */
export function readAtOnce(
  place: string,
  buffer: Buffer,
): { bytes: Uint8Array; stamp: FileStamp } | undefined {
  const fd = openDescriptor(place)
  try {
    const got = readSync(fd, buffer, 0, buffer.length, 0)
    const stats = fstatSync(fd, { bigint: true })
    if (!stats.isFile() || Number(stats.size) !== got) return undefined
    return { bytes: buffer.subarray(0, got), stamp: stampOf(stats) }
  } finally {
    closeSync(fd)
  }
}

function openDescriptor(place: string): number {
  try {
    return openSync(place, openFlags)
  } catch (error) {
    throw readError(place, error)
  }
}

/** By path and not by descriptor: a file that another one replaced must not pass for it. */
function checkUnchanged(place: string, stamp: FileStamp): void {
  try {
    if (sameStamp(stampOf(statSync(place, { bigint: true })), stamp)) return
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw readError(place, error)
  }
  throw changedError(place)
}
