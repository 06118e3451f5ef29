/**
 * Which files a model on disk consists of: walks folders, leaves out what ignore-rules.ts lists, and
 * refuses before anything is hashed what could not be shared or could not be read.
 */

import { isUtf8 } from 'node:buffer'
import { type BigIntStats, constants, type Dirent, lstatSync, readdirSync } from 'node:fs'
import { access, lstat, readdir, realpath, stat } from 'node:fs/promises'
import { basename, join, resolve, sep } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { InvalidInputError, LimitError, systemCode } from '../core/errors.ts'
import { type FileStamp, stampOf } from '../core/file-stamp.ts'
import { fileBytesMax } from '../core/limits.ts'
import { formatBytes, formatCount } from '../core/units.ts'
import { manifestFilesMax } from '../manifest/manifest.ts'
import { collisionKey, parsePath } from '../manifest/paths.ts'
import { kindOf, readError, shown } from './file-errors.ts'
import { isIgnoredFile, isIgnoredFolder } from './ignore-rules.ts'

export interface FoundFile {
  /** In the manifest. */
  readonly path: string
  /** Absolute. */
  readonly place: string
  readonly size: number
  readonly stamp: FileStamp
  /** Equal for two names of the same bytes: a hard link, a symbolic link. */
  readonly identity: string
}

export interface FindOptions {
  readonly signal?: AbortSignal
  /** Files as they are found, each once: work on them may begin before the last one is known. */
  readonly onFiles?: (files: readonly FoundFile[]) => void
}

/** Deeper folders hold no path that a manifest may have, and a walk must end. */
const depthMax = 32

/** Files looked at in one go: less than a millisecond of a local disk. */
const sliceFiles = 256

/** A slice that took longer came from a slow disk. */
const slowSliceMs = 10

/**
 * The files below the given paths. One folder: paths relative to it, whatever it is called. One
 * file: its name. Several: each below its own name. A file that was named is taken even when its
 * name would be left out of a folder.
 */
export async function findFiles(
  paths: readonly string[],
  options: FindOptions = {},
): Promise<FoundFile[]> {
  const [only] = paths
  if (only === undefined) throw new InvalidInputError('no file or folder was named')
  const walk = new Walk(options)
  if (paths.length === 1) await walk.addTop(resolve(only), '')
  else await walk.addNamed(paths.map(path => resolve(path)))
  if (walk.files.length === 0) {
    throw new InvalidInputError(`no files in ${paths.map(shown).join(', ')}`, {
      hint: 'folders like .git and unfinished downloads do not count',
    })
  }
  return walk.files
}

/** A folder being walked. */
interface Folder {
  readonly place: string
  /** Its path in the manifest with a final slash, or nothing. */
  readonly prefix: string
  readonly name: string
  readonly depth: number
  /** The real path of the folder that was named: links must not leave it. */
  readonly root: string
}

/** A file by its names: in the manifest, on disk, and on disk without links. */
interface Named {
  readonly path: string
  readonly place: string
  readonly real: string
}

class Walk {
  readonly files: FoundFile[] = []
  readonly #signal: AbortSignal | undefined
  readonly #onFiles: (files: readonly FoundFile[]) => void
  /** Place of every path taken, by collision key. */
  readonly #taken = new Map<string, string>()
  /** Looks that go through node's I/O threads before the disk is tried again, and how many it were last. */
  #slowLeft = 0
  #slowCount = 0
  #breathMs = performance.now()

  constructor({ signal, onFiles = () => {} }: FindOptions) {
    this.#signal = signal
    this.#onFiles = onFiles
  }

  /** Several places, each below its own name. */
  async addNamed(places: readonly string[]): Promise<void> {
    const names = new Map<string, string>()
    for (const place of places) {
      const name = parsePath(basename(place))
      const other = names.get(collisionKey(name))
      if (other !== undefined) throw collision(other, place)
      names.set(collisionKey(name), place)
    }
    for (const place of places) await this.addTop(place, `${basename(place)}/`)
  }

  async addTop(place: string, prefix: string): Promise<void> {
    this.#signal?.throwIfAborted()
    const stats = await statTop(place)
    if (stats.isFile()) {
      await checkReadable(place)
      this.#addFile({ path: basename(place), place, real: place }, stats)
      this.#onFiles(this.files.slice(-1))
    } else if (stats.isDirectory()) {
      const root = await realPathOf(place)
      await this.#walkFolder({ place, prefix, name: basename(place), depth: 0, root })
    } else throw special(place, stats)
  }

  async #walkFolder(folder: Folder): Promise<void> {
    const { files, folders } = await this.#list(folder)
    for (let start = 0; start < files.length; start += sliceFiles) {
      await this.#addEntries(folder, files.slice(start, start + sliceFiles))
    }
    for (const name of folders) {
      const file = this.#taken.get(collisionKey(`${folder.prefix}${name}`))
      if (file !== undefined) throw collision(file, join(folder.place, name))
      await this.#walkFolder({
        place: join(folder.place, name),
        prefix: `${folder.prefix}${name}/`,
        name,
        depth: folder.depth + 1,
        root: folder.root,
      })
    }
  }

  /** Names by kind, sorted: disks read fastest about in the order in which files were written. */
  async #list(folder: Folder): Promise<{ files: string[]; folders: string[] }> {
    this.#signal?.throwIfAborted()
    const { place, depth } = folder
    if (depth > depthMax) {
      throw new LimitError(`${shown(place)} lies more than ${depthMax} folders deep`)
    }
    const files: string[] = []
    const folders: string[] = []
    for (const entry of await this.#entriesOf(place)) {
      const name = nameOf(place, entry)
      if (!entry.isDirectory()) {
        if (!isIgnoredFile(name)) files.push(name)
      } else if (!isIgnoredFolder(folder.name, name)) folders.push(name)
    }
    return { files: files.sort(), folders: folders.sort() }
  }

  /**
   * Like the looks at files below: not through node's I/O threads as long as the disk answers at once,
   * which takes 2 µs a file instead of 10. A slow disk must not hold up the main thread.
   */
  async #entriesOf(place: string): Promise<Dirent<Buffer>[]> {
    if (this.#isSlow()) return entriesOf(place)
    await this.#breathe()
    return this.#timed(() => entriesNow(place))
  }

  /**
   * Does what blocks, and notes when the disk was slow. Or the thread had to wait for a core, which looks the
   * same: so the disk is tried again, after twice as many looks each time.
   */
  #timed<T>(work: () => T): T {
    const startMs = performance.now()
    const result = work()
    if (performance.now() - startMs > slowSliceMs) {
      this.#slowCount = Math.max(1, 2 * this.#slowCount)
      this.#slowLeft = this.#slowCount
    }
    return result
  }

  #isSlow(): boolean {
    if (this.#slowLeft === 0) return false
    this.#slowLeft -= 1
    return true
  }

  /** Lets others have the thread now and then. */
  async #breathe(): Promise<void> {
    if (performance.now() - this.#breathMs < slowSliceMs) return
    await nextTurn()
    this.#breathMs = performance.now()
  }

  async #addEntries(folder: Folder, names: readonly string[]): Promise<void> {
    this.#signal?.throwIfAborted()
    const start = folder.place.endsWith(sep) ? folder.place : `${folder.place}${sep}`
    const places = names.map(name => `${start}${name}`)
    const found = await this.#statAll(places)
    const before = this.files.length
    for (const [index, name] of names.entries()) {
      const place = places[index] as string
      const stats = found[index] as BigIntStats
      const link = stats.isSymbolicLink() ? await followLink(place, folder.root) : undefined
      const target = link?.stats ?? stats
      if (!target.isFile()) throw special(place, target)
      // Asked of the system only when the mode leaves doubt: it would cost as much as the stat.
      if ((target.mode & readableByAll) !== readableByAll) await checkReadable(place)
      this.#addFile({ path: `${folder.prefix}${name}`, place, real: link?.target ?? place }, target)
    }
    this.#onFiles(this.files.slice(before))
  }

  async #statAll(places: readonly string[]): Promise<BigIntStats[]> {
    if (this.#isSlow()) return Promise.all(places.map(place => look(place, lstat)))
    await this.#breathe()
    return this.#timed(() => places.map(lookNow))
  }

  #addFile({ path, place, real }: Named, stats: BigIntStats): void {
    parsePath(path)
    const key = collisionKey(path)
    const other = this.#taken.get(key)
    if (other !== undefined) throw collision(other, place)
    this.#taken.set(key, place)
    if (this.#taken.size > manifestFilesMax) {
      throw new LimitError(`more than ${formatCount(manifestFilesMax)} files: too many for a model`)
    }
    const stamp = stampOf(stats)
    if (stamp.size > fileBytesMax) {
      throw new LimitError(`${shown(place)} is larger than ${formatBytes(fileBytesMax)}`)
    }
    this.files.push({ path, place, size: stamp.size, stamp, identity: identityOf(real, stats) })
  }
}

const readableByAll = 0o444n

/** Hard links by inode; its times too: some network file systems give a number to two files. */
export function identityOf(
  real: string,
  { nlink, dev, ino, mtimeNs, ctimeNs }: BigIntStats,
): string {
  return nlink === 1n ? real : `${dev}:${ino}:${mtimeNs}:${ctimeNs}`
}

async function statTop(place: string): Promise<BigIntStats> {
  try {
    return await stat(place, { bigint: true })
  } catch (error) {
    const code = systemCode(error)
    if (code !== 'ENOENT' && code !== 'ENOTDIR') throw readError(place, error)
    throw new InvalidInputError(`no such file or folder: ${shown(place)}`, {
      hint: 'check the spelling of the path',
      cause: error,
    })
  }
}

async function look(
  place: string,
  stats: (place: string, options: { bigint: true }) => Promise<BigIntStats>,
): Promise<BigIntStats> {
  try {
    return await stats(place, { bigint: true })
  } catch (error) {
    throw readError(place, error)
  }
}

function lookNow(place: string): BigIntStats {
  try {
    return lstatSync(place, { bigint: true })
  } catch (error) {
    throw readError(place, error)
  }
}

async function realPathOf(place: string): Promise<string> {
  try {
    return await realpath(place)
  } catch (error) {
    throw readError(place, error)
  }
}

async function entriesOf(place: string): Promise<Dirent<Buffer>[]> {
  try {
    return await readdir(place, { withFileTypes: true, encoding: 'buffer' })
  } catch (error) {
    throw readError(place, error)
  }
}

function entriesNow(place: string): Dirent<Buffer>[] {
  try {
    return readdirSync(place, { withFileTypes: true, encoding: 'buffer' })
  } catch (error) {
    throw readError(place, error)
  }
}

/** Names are bytes on disk and text in a manifest: what is no UTF-8 has no path there. */
function nameOf(folder: string, entry: Dirent<Buffer>): string {
  const name = entry.name.toString()
  if (isUtf8(entry.name)) return name
  throw new InvalidInputError(`a name in ${shown(folder)} is not valid UTF-8: ${shown(name)}`, {
    hint: 'rename the file',
  })
}

interface Link {
  /** The real path. */
  readonly target: string
  readonly stats: BigIntStats
}

/**
 * What a symbolic link in the folder leads to: a file inside the folder, or an error. Links to
 * folders are refused, which also bounds the walk: every folder is reached once.
 */
async function followLink(place: string, root: string): Promise<Link> {
  const target = await targetOf(place)
  const inside = root.endsWith(sep) ? root : `${root}${sep}`
  if (!target.startsWith(inside)) {
    throw new InvalidInputError(
      `${shown(place)} is a link out of the folder, to ${shown(target)}`,
      {
        hint: target.includes(`${sep}blobs${sep}`)
          ? 'a hub cache keeps files that way: commonweight adopt shares it where it lies'
          : 'replace the link by the file, or name the folder that holds both',
      },
    )
  }
  const stats = await look(target, stat)
  if (stats.isDirectory()) {
    throw new InvalidInputError(`${shown(place)} is a link to a folder, ${shown(target)}`, {
      hint: 'the folder is taken where it lies: remove the link',
    })
  }
  return { target, stats }
}

async function targetOf(place: string): Promise<string> {
  try {
    return await realpath(place)
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw readError(place, error)
    throw new InvalidInputError(`${shown(place)} is a link that leads nowhere`, {
      hint: 'remove it',
      cause: error,
    })
  }
}

async function checkReadable(place: string): Promise<void> {
  try {
    await access(place, constants.R_OK)
  } catch (error) {
    throw readError(place, error)
  }
}

function special(place: string, stats: BigIntStats): InvalidInputError {
  return new InvalidInputError(`${shown(place)} is ${kindOf(stats)}, not a file`, {
    hint: 'remove it, or name the files one by one',
  })
}

function collision(one: string, other: string): InvalidInputError {
  return new InvalidInputError(
    one === other
      ? `${shown(one)} was named twice`
      : `${shown(one)} and ${shown(other)} would get the same name in the model`,
    { hint: 'names that differ in case or form alone collide on some systems: rename one' },
  )
}
