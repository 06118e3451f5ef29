/**
 * A model written into the cache of huggingface_hub, so that tools load it offline. Every step is one
 * that other writers of the cache see as a whole: a file gets its name when its bytes are there and
 * checked, and `main` points to a snapshot once it is complete. So no lock is taken.
 *
 * What lies in our own models folder is linked and takes no space. What lies where the user put it is
 * copied, as a reflink where there are some: whoever edits that must not change the cache.
 */

import { createReadStream } from 'node:fs'
import { constants, copyFile, link, open, readlink, rename, stat, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { etagOf, type HubLayout } from '../../caches/hub-layout.ts'
import { formatTree, type TreeFile } from '../../caches/hub-tree.ts'
import { equalBytes } from '../../core/bytes.ts'
import { type CID, sameCid } from '../../core/cid.ts'
import { ConflictError, IntegrityError, systemCode } from '../../core/errors.ts'
import { stampOf } from '../../core/file-stamp.ts'
import { gitBlobOid } from '../../core/git.ts'
import type { HashPool } from '../../ingest/hash-file.ts'
import {
  asStorageError,
  moveIntoPlace,
  type OpenFolder,
  openFolder,
  removeFile,
} from '../../store/files.ts'
import type { Store } from '../../store/store.ts'
import { isInside } from '../home-guard.ts'

export interface HubCacheDeps {
  readonly store: Pick<Store, 'fileAt'>
  readonly pool: Pick<HashPool, 'sha256'>
  readonly modelsFolder: string
}

export interface HubCacheOptions {
  readonly signal: AbortSignal
  /** After each file, with its bytes. */
  readonly onFile: (bytes: number) => void
  readonly onNotice: (message: string) => void
}

export interface HubCacheRequest {
  /** Absolute; made when it is not there. */
  readonly root: string
  readonly layout: HubLayout
  /** Whole, at their places. */
  readonly files: readonly PlacedFile[]
}

export interface PlacedFile {
  /** In the manifest. */
  readonly path: string
  /** Absolute. */
  readonly place: string
  readonly size: number
  readonly sha256: Uint8Array
  readonly root: CID
}

const branch = 'main'

/** Returns the folder of the snapshot. Throws ConflictError for what lies there and is something else. */
export async function fillHubCache(
  deps: HubCacheDeps,
  { root, layout, files }: HubCacheRequest,
  options: HubCacheOptions,
): Promise<string> {
  const { repoFolder, commit, tree } = layout
  const at = (...names: string[]): Promise<OpenFolder> => openFolder(root, names)
  for (const file of files) {
    options.signal.throwIfAborted()
    const entry = tree.get(file.path) as TreeFile
    const etag = etagOf(entry)
    await putBlob(deps, { base: root, names: [repoFolder, 'blobs'], entry, file }, options)
    await putLink({ root, repoFolder, commit, path: file.path, etag, size: file.size })
    options.onFile(file.size)
  }
  const trees = join(root, repoFolder, 'trees')
  const list = { name: `${commit}.json`, text: formatTree(tree) }
  await writeOnce(trees, await at(repoFolder, 'trees'), list)
  await pointMain(join(root, repoFolder, 'refs'), await at(repoFolder, 'refs'), commit, options)
  return join(root, repoFolder, 'snapshots', commit)
}

interface Blob {
  readonly base: string
  readonly names: readonly string[]
  readonly entry: TreeFile
  readonly file: PlacedFile
}

async function putBlob(
  deps: HubCacheDeps,
  { base, names, entry, file }: Blob,
  { signal }: HubCacheOptions,
): Promise<void> {
  const etag = etagOf(entry)
  const shown = join(base, ...names, etag)
  const { place, size } = file
  await using folder = await openFolder(base, names)
  const there = await sizeOf(folder.at(etag))
  if (there === size) return
  if (there !== undefined) throw inTheWay(shown, `has ${there} bytes, not ${size}`)
  // Other writers of the cache know this ending, and let it be.
  const temporary = folder.at(`${etag}.commonweight.incomplete`)
  try {
    await removeFile(temporary)
    await linkOrCopy(place, temporary, isInside(place, deps.modelsFolder))
    if (!(await isChecked(deps, temporary, file, signal))) {
      throw new IntegrityError(`${place} is not what it was`, {
        hint: 'commonweight verify says what is wrong with it',
      })
    }
    await checkGitOid(temporary, entry, file)
    if (!(await moveIntoPlace(temporary, folder.at(etag)))) {
      // Somebody else was faster, or a link leads to a shared blob that is gone.
      const now = await sizeOf(folder.at(etag))
      if (now !== size) throw inTheWay(shown, 'is there, and not the file')
    }
    await folder.sync()
  } catch (error) {
    throw asStorageError(`writing ${shown}`, error)
  } finally {
    await removeFile(temporary)
  }
}

/** Another name of a file that is as it was hashed need not be hashed again. */
async function isChecked(
  { store, pool }: HubCacheDeps,
  temporary: string,
  { place, root, sha256 }: PlacedFile,
  signal: AbortSignal,
): Promise<boolean> {
  const stamp = stampOf(await stat(temporary, { bigint: true }))
  const known = store.fileAt(place, stamp)
  if (known !== undefined) return sameCid(known.root, root)
  return equalBytes(await pool.sha256(temporary, { signal }), sha256)
}

/** A manifest only claims it, and clients keep a file by it for ever: other bytes must not get its name. */
async function checkGitOid(
  temporary: string,
  { sha256, gitOid }: TreeFile,
  { path, size }: PlacedFile,
): Promise<void> {
  if (sha256 !== undefined) return
  const pieces = createReadStream(temporary) as AsyncIterable<Buffer>
  if ((await gitBlobOid(size, pieces)) === gitOid) return
  throw new IntegrityError(`${path} is not the file that git calls ${gitOid}`, {
    hint: 'the manifest is wrong about where the model comes from: do not use it',
  })
}

async function linkOrCopy(from: string, to: string, mayLink: boolean): Promise<void> {
  if (mayLink) {
    try {
      await link(from, to)
      return
    } catch (error) {
      if (systemCode(error) === 'ENOENT') throw error
      // Another file system: there is no link from there.
    }
  }
  await copyFile(from, to, constants.COPYFILE_FICLONE | constants.COPYFILE_EXCL)
  await using file = await open(to, 'r+')
  await file.sync()
}

interface Link {
  readonly root: string
  readonly repoFolder: string
  readonly commit: string
  readonly path: string
  readonly etag: string
  readonly size: number
}

async function putLink({ root, repoFolder, commit, path, etag, size }: Link): Promise<void> {
  const names = path.split('/')
  const name = names.pop() as string
  const folders = [repoFolder, 'snapshots', commit, ...names]
  const shown = join(root, ...folders, name)
  // From the file's folder up to the repository's.
  const target = join(...names.map(() => '..'), '..', '..', 'blobs', etag)
  try {
    await using folder = await openFolder(root, folders)
    try {
      await symlink(target, folder.at(name))
    } catch (error) {
      if (systemCode(error) !== 'EEXIST') {
        // Where links take a privilege the file itself is what others write there.
        await link(join(root, repoFolder, 'blobs', etag), folder.at(name))
        return
      }
      const isSame = (await linkAt(folder.at(name))) === target
      if (!isSame && (await sizeOf(folder.at(name))) !== size)
        throw inTheWay(shown, 'is another file')
    }
  } catch (error) {
    throw asStorageError(`writing ${shown}`, error)
  }
}

/** Nothing is done when it is there: what these files say never changes. */
async function writeOnce(
  shown: string,
  opened: OpenFolder,
  { name, text }: { readonly name: string; readonly text: string },
): Promise<void> {
  await using folder = opened
  if ((await sizeOf(folder.at(name))) !== undefined) return
  await writeWhole(shown, folder, { name, text })
}

async function pointMain(
  shown: string,
  opened: OpenFolder,
  commit: string,
  { onNotice }: HubCacheOptions,
): Promise<void> {
  await using folder = opened
  const before = await textAt(folder.at(branch))
  if (before === commit) return
  await writeWhole(shown, folder, { name: branch, text: commit })
  if (before === undefined) return
  onNotice(`${join(shown, branch)} pointed to ${before.slice(0, 40)} and points to ${commit} now`)
}

async function writeWhole(
  shown: string,
  folder: OpenFolder,
  { name, text }: { readonly name: string; readonly text: string },
): Promise<void> {
  const temporary = folder.at(`${name}.commonweight.tmp`)
  try {
    {
      await using file = await open(temporary, 'w')
      await file.writeFile(text)
      await file.sync()
    }
    await rename(temporary, folder.at(name))
    await folder.sync()
  } catch (error) {
    throw asStorageError(`writing ${join(shown, name)}`, error)
  }
}

/** Of what a path leads to; undefined when that is nothing. */
async function sizeOf(place: string): Promise<number | undefined> {
  return stat(place).then(
    ({ size }) => size,
    () => undefined,
  )
}

async function linkAt(place: string): Promise<string | undefined> {
  return readlink(place).catch(() => undefined)
}

/** The first of it, which is all that a commit takes. */
async function textAt(place: string): Promise<string | undefined> {
  try {
    await using file = await open(place, constants.O_RDONLY | constants.O_NONBLOCK)
    const { buffer, bytesRead } = await file.read(Buffer.alloc(256), 0, 256, 0)
    return buffer.subarray(0, bytesRead).toString('utf8').trim()
  } catch {
    return undefined
  }
}

function inTheWay(place: string, what: string): ConflictError {
  return new ConflictError(`${place} ${what}`, {
    hint: 'delete it from the cache, then pull again: what is here is not fetched a second time',
  })
}
