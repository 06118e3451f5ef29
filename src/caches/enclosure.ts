/** A folder that nothing may lead out of: looks at its files through links, and reads small ones. */

import { type BigIntStats, constants, type Dirent } from 'node:fs'
import { open, readdir, realpath, stat } from 'node:fs/promises'
import { sep } from 'node:path'
import { InvalidInputError, systemCode } from '../core/errors.ts'
import { stampOf } from '../core/file-stamp.ts'
import { readError, shown } from '../ingest/file-errors.ts'
import { type FoundFile, identityOf } from '../ingest/folder.ts'

/** Entries of one folder: what has more was not made by a program that loads models. */
export const entriesMax = 100_000

export class Enclosure {
  /** Without links. */
  readonly root: string

  private constructor(root: string) {
    this.root = root
  }

  /** Undefined when there is no such folder. */
  static async open(folder: string): Promise<Enclosure | undefined> {
    const root = await realPathOf(folder)
    if (root === undefined || (await statOf(root))?.isDirectory() !== true) return undefined
    return new Enclosure(root)
  }

  /** The file that a path leads to; undefined when there is none. Throws InvalidInputError. */
  async file(path: string, place: string): Promise<FoundFile | undefined> {
    const real = await this.resolve(place)
    if (real === undefined) return undefined
    const stats = await statOf(real)
    if (stats === undefined) return undefined
    if (!stats.isFile()) throw new InvalidInputError(`${shown(place)} is not a file`)
    const stamp = stampOf(stats)
    return { path, place: real, size: stamp.size, stamp, identity: identityOf(real, stats) }
  }

  /** Where a path leads; undefined when nothing is there. Throws InvalidInputError when that is outside. */
  async resolve(place: string): Promise<string | undefined> {
    const real = await realPathOf(place)
    if (real === undefined || real === this.root || real.startsWith(this.#inside)) return real
    throw new InvalidInputError(`${shown(place)} is a link out of the cache, to ${shown(real)}`, {
      hint: 'replace the link by the file, or name the folder that holds both',
    })
  }

  get #inside(): string {
    return this.root.endsWith(sep) ? this.root : `${this.root}${sep}`
  }
}

/** Sorted by name; nothing when there is no such folder. Throws InvalidInputError for too many. */
export async function entriesOf(folder: string): Promise<Dirent[]> {
  try {
    const entries = await readdir(folder, { withFileTypes: true })
    if (entries.length <= entriesMax) return entries.toSorted(byName)
  } catch (error) {
    if (isNothing(error)) return []
    throw readError(folder, error)
  }
  throw new InvalidInputError(`${shown(folder)} has more than ${entriesMax} entries`)
}

function byName(a: Dirent, b: Dirent): number {
  return a.name < b.name ? -1 : 1
}

const readFlags = constants.O_RDONLY | ((constants.O_NONBLOCK as number | undefined) ?? 0)

/** A small file as text; undefined when there is none. Throws InvalidInputError when it is larger. */
export async function readSmall(place: string, bytesMax: number): Promise<string | undefined> {
  try {
    // A named pipe must not be waited for.
    await using file = await open(place, readFlags)
    const { size } = await file.stat()
    if (size > bytesMax) {
      throw new InvalidInputError(`${shown(place)} has ${size} bytes; at most ${bytesMax} allowed`)
    }
    const buffer = Buffer.alloc(size)
    const { bytesRead } = await file.read(buffer, 0, size, 0)
    return buffer.subarray(0, bytesRead).toString('utf8')
  } catch (error) {
    if (error instanceof InvalidInputError) throw error
    if (isNothing(error)) return undefined
    throw readError(place, error)
  }
}

/** The same, parsed; undefined for what is not there or no JSON. */
export async function readSmallJson(place: string, bytesMax: number): Promise<unknown> {
  const text = await readSmall(place, bytesMax)
  if (text === undefined) return undefined
  try {
    return JSON.parse(text) as unknown
  } catch {
    return undefined
  }
}

async function realPathOf(place: string): Promise<string | undefined> {
  try {
    return await realpath(place)
  } catch (error) {
    if (isNothing(error)) return undefined
    throw readError(place, error)
  }
}

async function statOf(place: string): Promise<BigIntStats | undefined> {
  try {
    return await stat(place, { bigint: true })
  } catch (error) {
    if (isNothing(error)) return undefined
    throw readError(place, error)
  }
}

/** A folder that is missing, a link that leads nowhere, a file where a folder would be. */
function isNothing(error: unknown): boolean {
  const code = systemCode(error)
  return code === 'ENOENT' || code === 'ENOTDIR'
}
