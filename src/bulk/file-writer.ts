/**
 * Writes at an offset of a file that another thread opened, in the thread that calls it: this thread
 * exists for such work, and handing it to another one costs more than the copy itself.
 */

import { writeSync } from 'node:fs'
import { messageOf, StorageError } from '../core/errors.ts'
import { writePieceBytes } from '../core/limits.ts'

/** Returns when all is written; StorageError, with the system's error as its cause. */
export function writeAt(fd: number, bytes: Uint8Array, offset: number): void {
  try {
    for (let done = 0; done < bytes.length;) {
      const length = Math.min(writePieceBytes, bytes.length - done)
      done += writeSync(fd, bytes, done, length, offset + done)
    }
  } catch (error) {
    throw new StorageError(`writing: ${messageOf(error)}`, { cause: error })
  }
}
