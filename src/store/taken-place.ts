/** What lies where a finished file should go. */

import { lstat } from 'node:fs/promises'
import { equalBytes } from '../core/bytes.ts'
import { ConflictError } from '../core/errors.ts'
import { type FileStamp, sameStamp, stampOf } from '../core/file-stamp.ts'

/** Another file got the name first: the same bytes are as good, other bytes are the user's. */
export async function takeExisting(
  target: string,
  file: { readonly place: string; readonly size: number; readonly sha256: Uint8Array },
  wholeSha256: (place: string) => Promise<Uint8Array>,
): Promise<FileStamp> {
  const stats = await lstat(target, { bigint: true })
  if (stats.isFile() && Number(stats.size) === file.size) {
    const actual = await wholeSha256(file.place)
    const now = stampOf(await lstat(target, { bigint: true }))
    if (equalBytes(actual, file.sha256) && sameStamp(now, stampOf(stats))) return now
  }
  throw placeTaken(file.place)
}

export function placeTaken(place: string): ConflictError {
  return new ConflictError(`${place}: another file is there`, {
    hint: 'it is left untouched: move it away, or pull to another folder with --to',
  })
}
