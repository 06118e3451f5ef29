/**
 * Is a folder this user's alone? Asked of the home, which holds the key, and of the folder of a
 * socket outside it, which another user could have made first to listen in.
 */

import { lstat, mkdir, stat } from 'node:fs/promises'
import type { Stats } from 'node:fs'
import { dirname } from 'node:path'
import { StorageError, systemCode } from '../core/errors.ts'

/** Any permission for group or others. */
const sharedModeBits = 0o077

/**
 * Makes a folder that only this user can enter, and the missing ones above it; one that is there stays as
 * it is. Level by level, because mkdir with `recursive` never ends where a parent that exists answers
 * ENOENT: below /proc, and on some automounts.
 */
export async function makePrivateFolder(path: string): Promise<void> {
  try {
    if (await makeOne(path)) return
    const above = dirname(path)
    if (above !== path) await makePrivateFolder(above)
    if (await makeOne(path)) return
  } catch (error) {
    if (error instanceof StorageError) throw error
    throw new StorageError(`making the folder ${path}`, { cause: error, hint: madeElsewhere })
  }
  throw new StorageError(`the folder ${path} cannot be made`, { hint: madeElsewhere })
}

const madeElsewhere = 'choose a folder you may write in with --home or COMMONWEIGHT_HOME'

/** False when the folder above it is missing, or says that it is. */
async function makeOne(path: string): Promise<boolean> {
  try {
    await mkdir(path, { mode: 0o700 })
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return false
    if (systemCode(error) !== 'EEXIST') throw error
    if ((await stat(path)).isDirectory()) return true
    throw new StorageError(`${path} is not a folder`, { hint: madeElsewhere })
  }
  return true
}

/**
 * Throws StorageError unless `path` is a folder that only this user can enter; the system's ENOENT when
 * there is none. A link is followed for a home, which the user chose, and refused elsewhere.
 */
export async function checkPrivate(path: string, options: { follow: boolean }): Promise<void> {
  const stats = await (options.follow ? stat(path) : lstat(path))
  if (!stats.isDirectory()) throw new StorageError(`${path} is not a folder`)
  // Windows has neither owner nor mode here; a profile's access list keeps others out.
  if (process.platform !== 'win32') refuseShared(path, stats)
}

function refuseShared(path: string, stats: Stats): void {
  const user = process.getuid?.()
  if (stats.uid !== user) {
    throw new StorageError(`${path} belongs to another user (uid ${stats.uid})`, {
      hint: `run as its owner, or give it to this one: chown -R ${user} ${path}`,
    })
  }
  if ((stats.mode & sharedModeBits) === 0) return
  const mode = (stats.mode & 0o777).toString(8)
  throw new StorageError(`${path} holds private keys and others can read it (mode ${mode})`, {
    hint: `chmod 700 ${path}`,
  })
}
