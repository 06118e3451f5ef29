/**
 * Which model found files are, once they are hashed: a hub's commit when every file of it is here and is
 * what the cache says, else the files as they are. The rule is docs/spec/manifest.md section 5.
 */

import { createReadStream } from 'node:fs'
import { realpath, stat } from 'node:fs/promises'
import type { FileClaim, FoundModel } from '../../caches/found.ts'
import { toHex } from '../../core/bytes.ts'
import { IntegrityError, StorageError } from '../../core/errors.ts'
import { type FileStamp, sameStamp, stampOf } from '../../core/file-stamp.ts'
import { gitBlobOid } from '../../core/git.ts'
import { hubName } from '../../hub/ref.ts'
import { changedError } from '../../ingest/file-errors.ts'
import type { HashedFile } from '../../ingest/hash-file.ts'
import { commitOf } from '../../manifest/git-commit.ts'
import { type ManifestFile, sealManifest, type SealedManifest } from '../../manifest/manifest.ts'
import type { ManifestSource } from '../../manifest/source.ts'

export interface Identified extends SealedManifest {
  /** What git would have to be asked about: nothing, when it was found right before. */
  readonly unproven: readonly { readonly file: HashedFile; readonly gitOid: string }[]
}

/** Throws IntegrityError for a file that is not what the cache says, InvalidInputError for no model. */
export function identify(found: FoundModel, files: ReadonlyMap<string, HashedFile>): Identified {
  for (const [path, file] of files) checkSha256(found.claims.get(path), file, path)
  const plain = [...files].map(([path, { stamp, sha256, root }]) => {
    return { path, size: stamp.size, sha256, root }
  })
  const unproven = [...files].flatMap(([path, file]) => {
    const claim = found.claims.get(path)
    const isPlain = claim?.gitOid !== undefined && claim.sha256 === undefined
    return isPlain ? [{ file, gitOid: claim.gitOid }] : []
  })
  const { whole } = found
  if (whole?.type === undefined) return { ...sealManifest(plain), unproven }
  if (unproven.length === 0) {
    // Every file in LFS: the commit may be one that a gateway made up for a model without one.
    const sealed = sealManifest(plain)
    const { id } = commitOf(sealed.manifest.files, sealed.cid.toString())
    if (id === whole.commit) return { ...sealed, unproven }
  }
  const { commit, repo, type } = whole
  // Whatever it was fetched from: a mirror of the hub, or a gateway, has the same commits.
  const source: ManifestSource = { hub: hubName, repo, type, commit }
  return {
    ...sealManifest(
      plain.map(file => withFacts(file, found)),
      source,
    ),
    unproven,
  }
}

function withFacts(file: ManifestFile, { claims }: FoundModel): ManifestFile {
  const { gitOid, sha256 } = claims.get(file.path) as FileClaim
  return gitOid === undefined ? file : { ...file, gitOid, lfs: sha256 !== undefined }
}

function checkSha256(claim: FileClaim | undefined, file: HashedFile, path: string): void {
  if (claim?.sha256 === undefined || claim.sha256 === toHex(file.sha256)) return
  throw damaged(path, 'SHA-256')
}

function damaged(path: string, what: string): IntegrityError {
  return new IntegrityError(`${path} is damaged: it has another ${what} than its cache says`, {
    hint: 'delete it from the cache and download it again',
  })
}

/** Paths looked at together. */
const looksAtOnce = 64

/**
 * Whoever may write into the cache might have put a link in the place of a file after we looked: what
 * was hashed must be what lies there by itself. Throws ConflictError.
 */
export async function provePlaces(files: readonly HashedFile[]): Promise<void> {
  for (let start = 0; start < files.length; start += looksAtOnce) {
    const looks = files.slice(start, start + looksAtOnce).map(async ({ place, stamp }) => {
      const real = await realpath(place).catch(() => undefined)
      if (real !== place || !sameStamp(await stampAt(place), stamp)) throw changedError(place)
    })
    await Promise.all(looks)
  }
}

/** Reads what git names by its bytes. Throws IntegrityError, ConflictError or StorageError. */
export async function proveGitOids(
  { unproven }: Pick<Identified, 'unproven'>,
  signal: AbortSignal,
): Promise<void> {
  for (const { file, gitOid } of unproven) {
    const { place, stamp } = file
    const pieces = createReadStream(place, { signal, highWaterMark: 1024 * 1024 })
    if ((await gitBlobOid(stamp.size, reading(place, pieces))) !== gitOid) {
      throw damaged(place, 'git oid')
    }
    if (!sameStamp(await stampAt(place), stamp)) throw changedError(place)
  }
}

async function* reading(
  place: string,
  pieces: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  try {
    yield* pieces
  } catch (error) {
    if (Error.isError(error) && error.name === 'AbortError') throw error
    throw new StorageError(`reading ${place}`, { cause: error })
  }
}

async function stampAt(place: string): Promise<FileStamp> {
  try {
    return stampOf(await stat(place, { bigint: true }))
  } catch (error) {
    throw new StorageError(`looking at ${place}`, { cause: error })
  }
}
