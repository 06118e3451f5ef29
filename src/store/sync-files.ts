/**
 * Makes many small files durable at once. An fdatasync for each flushes the disk for each, which takes
 * longer than to fetch them; Linux can sync a whole file system, and Node cannot ask for it: coreutils can.
 */

import { execFile } from 'node:child_process'
import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { promisify } from 'node:util'
import { mapLimit } from '../core/async.ts'
import { asStorageError, isGone } from './files.ts'

/** Fewer are synced one by one sooner than a program is started. */
const fewFiles = 32
/** The threads of Node's pool: more only wait there. */
const syncsInFlightMax = 4

/** Returns when the bytes of these files, all on the file system of `folder`, survive a power cut. */
export async function syncFiles(folder: string, places: readonly string[]): Promise<void> {
  if (places.length >= fewFiles && (await syncFileSystem(folder))) return
  for await (const _ of mapLimit(places, syncsInFlightMax, syncFile)) continue
}

/** False where there is no such command, or it failed. */
async function syncFileSystem(folder: string): Promise<boolean> {
  if (process.platform !== 'linux') return false
  try {
    await promisify(execFile)('sync', ['-f', '--', folder])
    return true
  } catch {
    // What it did not do is done file by file.
    return false
  }
}

async function syncFile(place: string): Promise<void> {
  try {
    await using file = await open(place, constants.O_RDONLY | constants.O_NOFOLLOW)
    await file.datasync()
  } catch (error) {
    // Deleted since: there is nothing to keep.
    if (!isGone(error)) throw asStorageError(`syncing ${place}`, error)
  }
}
