/**
 * Pinning what was adopted: each file gets a second name in our models folder, a hard link, so that the
 * program whose cache it is may delete its own. No bytes are copied.
 */

import { link, realpath, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { sameCid } from '../../core/cid.ts'
import { ConflictError, systemCode } from '../../core/errors.ts'
import { sameStamp, stampOf } from '../../core/file-stamp.ts'
import { asStorageError, openFolder, removeFile } from '../../store/files.ts'
import type { NewFile } from '../../store/new-file.ts'
import type { Store } from '../../store/store.ts'

/** No hard link from there to here: another file system, one without them, a file of another user. */
const noLinkCodes: ReadonlySet<string | undefined> = new Set([
  'EXDEV',
  'EPERM',
  'EACCES',
  'ENOTSUP',
  'EOPNOTSUPP',
  'ENOSYS',
  'EMLINK',
])

export type PinStore = Pick<Store, 'fileAt'>

/**
 * The files at their new places, by path; undefined when they cannot be linked. Throws ConflictError
 * when something else lies at a place. All or none: a link that nobody knows of would keep its bytes.
 */
export async function linkInto(
  store: PinStore,
  folder: string,
  files: ReadonlyMap<string, NewFile>,
): Promise<Map<string, NewFile> | undefined> {
  const linked = new Map<string, NewFile>()
  const made: string[] = []
  let isDone = false
  try {
    for (const [path, file] of files) {
      const place = join(folder, ...path.split('/'))
      const there = await linkOne(store, folder, { path, file, place })
      if (there === undefined) return undefined
      if (there.isMade) made.push(place)
      linked.set(path, there.file)
    }
    isDone = true
    return linked
  } finally {
    for (const place of isDone ? [] : made) await removeFile(place)
  }
}

function fileAt({ stamp, sha256, root, table }: NewFile, place: string): NewFile {
  return { place, stamp, sha256, root, table }
}

interface Wish {
  readonly path: string
  readonly file: NewFile
  readonly place: string
}

/** The file at its place, linked or there before; undefined when there can be no link. */
async function linkOne(
  store: PinStore,
  base: string,
  { path, file, place }: Wish,
): Promise<{ readonly file: NewFile; readonly isMade: boolean } | undefined> {
  const names = path.split('/')
  const name = names.pop() as string
  let isMade = true
  try {
    await using folder = await openFolder(base, names)
    try {
      // A link that is linked would be a second link.
      await link(await realpath(file.place), folder.at(name))
      await folder.sync()
    } catch (error) {
      if (noLinkCodes.has(systemCode(error))) return undefined
      if (systemCode(error) !== 'EEXIST') throw error
      isMade = false
    }
    const stamp = stampOf(await stat(folder.at(name), { bigint: true }))
    if (sameStamp(stamp, file.stamp)) return { file: fileAt(file, place), isMade }
    const there = store.fileAt(place, stamp)
    if (there !== undefined && sameCid(there.root, file.root)) return { file: there, isMade }
  } catch (error) {
    throw asStorageError(`linking ${place}`, error)
  }
  throw new ConflictError(`${place} is another file than ${file.place}`, {
    hint: 'move it away, then pin again',
  })
}
