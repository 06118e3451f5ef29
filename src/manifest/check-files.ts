/**
 * Whether a list of files can be a model: safe paths in order, no two that meet on any file system,
 * and sizes, SHA-256 and roots that can belong together. One check for what we make and what we read.
 */

import { equalBytes, toHex, viewOf } from '../core/bytes.ts'
import { type CID, codecs, digestOf, rawCid, sameCid } from '../core/cid.ts'
import { digestBytes, sha256 } from '../core/digest.ts'
import { InvalidInputError } from '../core/errors.ts'
import { chunkBytesMax, fileBytesMax } from '../core/limits.ts'
import { TiB } from '../core/units.ts'
import { collisionKey, comparePaths, parsePath } from './paths.ts'

/** Of a model: 300 times the largest of 2026. */
export const modelBytesMax = 256 * TiB

/** What is checked of a file; a ManifestFile is one. */
interface ListedFile {
  readonly path: string
  readonly size: number
  readonly sha256: Uint8Array
  readonly root: CID
}

/** Throws InvalidInputError with the reason and the path. */
export function checkFiles(files: readonly ListedFile[]): void {
  if (files.length === 0) throw new InvalidInputError('a model without files')
  const identities = new Identities()
  let total = 0
  for (const file of files) {
    parsePath(file.path)
    checkSize(file)
    identities.add(file)
    total += file.size
  }
  if (total > modelBytesMax) {
    throw new InvalidInputError(`a model of ${total} bytes; at most ${modelBytesMax} allowed`)
  }
  checkOrder(files)
  checkCollisions(files)
}

function checkOrder(files: readonly ListedFile[]): void {
  let last = ''
  for (const { path } of files) {
    const order = comparePaths(last, path)
    if (order === 0) throw new InvalidInputError(`${quoted(path)} is listed twice`)
    if (order > 0) throw new InvalidInputError(`${quoted(path)} is not in the order of its bytes`)
    last = path
  }
}

/** Files in order, by collision key: those that are their own key by a search, the others in a Map. */
class Keys {
  readonly #files: readonly ListedFile[]
  readonly #folded = new Map<string, string>()

  constructor(files: readonly ListedFile[]) {
    this.#files = files
    for (const { path } of files) {
      const key = collisionKey(path)
      if (key === path) continue
      const other = this.at(key)
      if (other !== undefined) {
        const [one = '', two = ''] = [other, path].toSorted(comparePaths)
        throw new InvalidInputError(
          `${quoted(one)} and ${quoted(two)} are one file on some systems`,
          { hint: 'rename one of them' },
        )
      }
      this.#folded.set(key, path)
    }
  }

  /** The path with this key. */
  at(key: string): string | undefined {
    return this.#folded.get(key) ?? this.#search(key)
  }

  #search(key: string): string | undefined {
    let low = 0
    let high = this.#files.length
    while (low < high) {
      const middle = (low + high) >>> 1
      const path = this.#files[middle]?.path ?? ''
      if (path === key) return path
      if (comparePaths(path, key) < 0) low = middle + 1
      else high = middle
    }
    return undefined
  }
}

function checkCollisions(files: readonly ListedFile[]): void {
  const keys = new Keys(files)
  let lastFolder = ''
  for (const { path } of files) {
    // Sorted: the files of a folder follow each other.
    if (path.startsWith(lastFolder) && path.lastIndexOf('/') < lastFolder.length) continue
    lastFolder = path.slice(0, path.lastIndexOf('/') + 1)
    checkFolders(path, keys)
  }
}

/** No folder that `path` lies in may be a file. */
function checkFolders(path: string, keys: Keys): void {
  for (let at = path.indexOf('/'); at !== -1; at = path.indexOf('/', at + 1)) {
    const file = keys.at(collisionKey(path.slice(0, at)))
    if (file !== undefined) {
      throw new InvalidInputError(`${quoted(file)} is a file, and a folder of ${quoted(path)}`)
    }
  }
}

const emptySha256 = sha256(new Uint8Array(0))
const emptyRoot = rawCid(emptySha256)

/** What follows from a root: raw is the one chunk that the file is, dag-pb is at least two chunks. */
function checkSize({ path, size, sha256: digest, root }: ListedFile): void {
  const refuse = (reason: string): InvalidInputError =>
    new InvalidInputError(`${quoted(path)} ${reason}`)
  if (!Number.isSafeInteger(size) || size < 0) throw refuse(`has no size (${size})`)
  if (size > fileBytesMax) throw refuse(`has ${size} bytes; at most ${fileBytesMax} allowed`)
  if (digest.length !== digestBytes) throw refuse('has no SHA-256')
  if (size === 0 && !(sameCid(root, emptyRoot) && equalBytes(digest, emptySha256))) {
    throw refuse('is empty, but has the SHA-256 or root of something else')
  }
  if (root.code === codecs.raw) {
    if (size > chunkBytesMax) throw refuse(`has ${size} bytes, too many for its one chunk`)
    if (!equalBytes(digestOf(root), digest)) throw refuse('has one chunk that is not the file')
    if (size > 0 && equalBytes(digest, emptySha256)) throw refuse('has bytes, but is empty')
  } else if (root.code === codecs.dagPb) {
    if (size < 2) throw refuse(`has ${size} bytes, too few for its chunks`)
  } else {
    throw refuse('has a root that is no file')
  }
}

/** The same bytes have one size and one root; the same root has one size and one SHA-256. */
class Identities {
  readonly #bySha256 = new Map<string, ListedFile>()
  readonly #byRoot = new Map<string, ListedFile>()

  add(file: ListedFile): void {
    const others = [
      remember(this.#bySha256, viewOf(file.sha256).toString('latin1'), file),
      // A raw root says what the SHA-256 says.
      file.root.code === codecs.raw
        ? file
        : remember(this.#byRoot, viewOf(digestOf(file.root)).toString('latin1'), file),
    ]
    for (const other of others) {
      const isSame =
        other.size === file.size &&
        sameCid(other.root, file.root) &&
        equalBytes(other.sha256, file.sha256)
      if (isSame) continue
      throw new InvalidInputError(
        `${quoted(other.path)} and ${quoted(file.path)} contradict each other ` +
          `(SHA-256 ${toHex(file.sha256)})`,
      )
    }
  }
}

/** The file first seen under this key. */
function remember(seen: Map<string, ListedFile>, key: string, file: ListedFile): ListedFile {
  const first = seen.get(key)
  if (first === undefined) seen.set(key, file)
  return first ?? file
}

function quoted(path: string): string {
  return JSON.stringify(path)
}
