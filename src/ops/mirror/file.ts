/**
 * One file of a hub's commit, at its place: it may be there already, or elsewhere on this machine; else it
 * is fetched in ranges over several connections, and has no name before its hash is the hub's.
 */

import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { mapLimit } from '../../core/async.ts'
import { toHex } from '../../core/bytes.ts'
import type { Clock } from '../../core/clock.ts'
import { ConflictError, IntegrityError, UnavailableError } from '../../core/errors.ts'
import { sameStamp, stampOf } from '../../core/file-stamp.ts'
import { gitBlobOid } from '../../core/git.ts'
import type { Logger } from '../../core/log.ts'
import { MiB } from '../../core/units.ts'
import type { HubFile } from '../../hub/answers.ts'
import type { FilePlace } from '../../hub/file-answers.ts'
import type { Hub } from '../../hub/hub.ts'
import { backoffMs } from '../../hub/patience.ts'
import type { HashedFile, HashPool } from '../../ingest/hash-file.ts'
import { moveIntoPlace, openFolder, splitPlace, statLink, regularStamp } from '../../store/files.ts'
import type { NewFile } from '../../store/new-file.ts'
import type { DownloadDeps } from '../../transfer/request.ts'
import { reuseWhole } from '../../transfer/reuse.ts'
import { blockBytes, HubPartial } from './hub-partial.ts'
import type { Guess, ReadRange } from './guess.ts'

export interface MirrorFileDeps {
  readonly hub: Hub
  readonly pool: HashPool
  readonly store: DownloadDeps['store']
  readonly clock: Clock
  readonly log: Logger
  /** Waits until so many bytes may be taken from the network. */
  take(bytes: number, signal: AbortSignal): Promise<void>
  /** Requests for one file at a time: a connection that waits for its turn too long is closed. */
  readonly requestsAtOnce: number
}

export interface MirrorJob {
  readonly from: FilePlace & { readonly file: HubFile }
  /** SHA-256 of what has this oid elsewhere here: for files that lie in git and not in LFS. */
  readonly sha256: string | undefined
  /** Absolute; the place lies below it. */
  readonly folder: string
  readonly place: string
  /** Our own models folder. */
  readonly ownFolder: string
  /** What of the bytes may lie in other files here. */
  guess?(read: ReadRange, partial: HubPartial): Promise<Guess | undefined>
  /** Came from the hub. */
  onBytes(bytes: number): void
  readonly signal: AbortSignal
}

/** One request: long enough for a CDN, short enough to be asked again. */
const requestBytes = 16 * MiB
/** Failures of one range in a row without a byte. */
const failuresMax = 6

/** IntegrityError when the hub's bytes are not what it says; ConflictError when another file is at the place. */
export async function obtainFile(deps: MirrorFileDeps, job: MirrorJob): Promise<NewFile> {
  return (await localFile(deps, job)) ?? (await fetchFile(deps, job))
}

/** What needs no network: the file is at its place, or can be copied there. */
export async function localFile(
  deps: MirrorFileDeps,
  job: MirrorJob,
): Promise<NewFile | undefined> {
  return (await takeExisting(deps, job)) ?? (await copyLocal(deps, job))
}

/** What lies at the place, when it is the file. */
async function takeExisting(deps: MirrorFileDeps, job: MirrorJob): Promise<NewFile | undefined> {
  const { place, signal } = job
  const stats = await statLink(place)
  if (stats === undefined) return undefined
  if (!stats.isFile()) throw placeTaken(place)
  const known = deps.store.fileAt(place, stampOf(stats))
  const file = known ?? (await deps.pool.hashFile(place, { signal }))
  if (!(await isWanted(job, file, place))) throw placeTaken(place)
  if (known === undefined) deps.store.addFiles([file])
  return file
}

function placeTaken(place: string): ConflictError {
  return new ConflictError(`${place}: another file is there`, {
    hint: 'it is left untouched: move it away, or mirror to another folder with --to',
  })
}

/** Linked, reflinked or copied from another model, and hashed on the way. */
async function copyLocal(deps: MirrorFileDeps, job: MirrorJob): Promise<NewFile | undefined> {
  const { from, folder, place, ownFolder, signal } = job
  const wanted = job.from.file.sha256 ?? job.sha256
  if (wanted === undefined) return undefined
  const sha256 = Buffer.from(wanted, 'hex')
  for (const path of await deps.store.findFile(sha256)) {
    const stamp = await regularStamp(path)
    const known = stamp === undefined ? undefined : deps.store.fileAt(path, stamp)
    if (known === undefined) continue
    const { root } = known
    const file = { path: from.file.path, size: from.file.size, sha256, root, place }
    const request = { keys: [], folder, files: [file], ownFolder }
    if (!(await reuseWhole(deps, request, file, { signal }))) continue
    return deps.store.fileAt(place, stampOf(await stat(place, { bigint: true })))
  }
  return undefined
}

async function fetchFile(deps: MirrorFileDeps, job: MirrorJob): Promise<NewFile> {
  const { signal } = job
  await using partial = await openPartial(job)
  const read: ReadRange = async (start, end) => {
    const bytes = Buffer.alloc(end - start)
    let at = 0
    await readRange(deps, job, { start, end }, async part => {
      bytes.set(part, at)
      at += part.length
      await Promise.resolve()
    })
    return bytes
  }
  // Of a file that is half here nothing has to be guessed.
  const isNew = partial.held.count < partial.held.length / 2
  const guess = isNew ? await job.guess?.(read, partial) : undefined
  const hashed = await completeFile(deps, job, { partial, guess })
  signal.throwIfAborted()
  return await publish(deps, job, partial, hashed)
}

/** Of this file in this folder; what an earlier run left is in it. */
export function openPartial({
  from,
  folder,
}: Pick<MirrorJob, 'folder' | 'from'>): Promise<HubPartial> {
  const { gitOid, path, size } = from.file
  const key = createHash('sha256').update(`${gitOid} ${path}`).digest('hex').slice(0, 32)
  return HubPartial.open({ folder, key, size })
}

interface Parts {
  readonly partial: HubPartial
  readonly guess: Guess | undefined
}

/** Until the whole is right. What was guessed is doubted first, then what was fetched, once. */
async function completeFile(
  deps: MirrorFileDeps,
  job: MirrorJob,
  { partial, guess }: Parts,
): Promise<HashedFile> {
  const { signal, from } = job
  for (let isRepeated = false; ;) {
    await fetchMissing(deps, job, { partial, guess })
    const hashed = await deps.pool.hashFile(partial.path, { signal })
    if (await isWanted(job, hashed, partial.path)) return hashed
    if (guess !== undefined && guess.blocks.count > 0) {
      await guess.doubt()
      continue
    }
    if (isRepeated) {
      await partial.remove()
      throw new IntegrityError(`${from.file.path}: the hub's bytes are not what it says they are`, {
        hint: 'the hub or something between is broken: try again later, or another --upstream',
      })
    }
    deps.log.warn('fetched again: the bytes are not what the hub lists', { path: from.file.path })
    isRepeated = true
    await partial.forgetAll()
  }
}

/** The hub's SHA-256, or git's oid over the bytes. */
export async function isWanted(
  { from }: Pick<MirrorJob, 'from'>,
  hashed: Pick<NewFile, 'sha256' | 'stamp'>,
  path: string,
): Promise<boolean> {
  const { sha256, gitOid, size } = from.file
  if (hashed.stamp.size !== size) return false
  if (sha256 !== undefined) return toHex(hashed.sha256) === sha256
  return (await blobOidOf(path, size)) === gitOid
}

async function blobOidOf(path: string, size: number): Promise<string> {
  return gitBlobOid(size, createReadStream(path) as AsyncIterable<Buffer>)
}

async function fetchMissing(
  deps: MirrorFileDeps,
  job: MirrorJob,
  { partial, guess }: Parts,
): Promise<void> {
  const ranges = missingRanges(partial, guess)
  const fetchOne = async (range: { start: number; end: number }, signal: AbortSignal) => {
    let at = range.start
    await readRange(deps, { ...job, signal }, range, async bytes => {
      await partial.write(at, bytes)
      at += bytes.length
      await partial.wrote(range.start, at)
    })
  }
  try {
    for await (const _ of mapLimit(ranges, deps.requestsAtOnce, fetchOne, job.signal)) continue
  } finally {
    await partial.record()
  }
}

/** What is neither here nor guessed, in requests. */
function* missingRanges(
  { held, size }: HubPartial,
  guess: Guess | undefined,
): Generator<{ start: number; end: number }> {
  const isMissing = (block: number): boolean =>
    !held.has(block) && guess?.blocks.has(block) !== true
  for (let block = 0; block < held.length; block += 1) {
    if (!isMissing(block)) continue
    const first = block
    while (block + 1 < held.length && isMissing(block + 1)) {
      if ((block + 1 - first) * blockBytes >= requestBytes) break
      block += 1
    }
    yield { start: first * blockBytes, end: Math.min(size, (block + 1) * blockBytes) }
  }
}

/** Every byte of the range, in order; what breaks off is asked for from where it was. */
export async function readRange(
  deps: Pick<MirrorFileDeps, 'clock' | 'hub' | 'log' | 'take'>,
  { from, signal, onBytes }: Pick<MirrorJob, 'from' | 'signal' | 'onBytes'>,
  { start, end }: { start: number; end: number },
  onPart: (bytes: Uint8Array) => Promise<void>,
): Promise<void> {
  let failures = 0
  for (let at = start; at < end;) {
    const before = at
    try {
      for await (const bytes of deps.hub.read(from, { start: at, end }, signal)) {
        await deps.take(bytes.length, signal)
        await onPart(bytes)
        at += bytes.length
        onBytes(bytes.length)
      }
    } catch (error) {
      signal.throwIfAborted()
      if (!(error instanceof UnavailableError)) throw error
      failures = at > before ? 1 : failures + 1
      if (failures > failuresMax) throw error
      deps.log.info('a transfer from a hub broke off', { path: from.file.path, at })
      await deps.clock.sleep(backoffMs(failures - 1), signal)
    }
  }
}

/** Durable, under its name, indexed: in this order. */
export async function publish(
  deps: { readonly store: Pick<MirrorFileDeps['store'], 'addFiles'> },
  { folder, place }: Pick<MirrorJob, 'folder' | 'place'>,
  partial: HubPartial,
  { stamp, sha256, root, table }: HashedFile,
): Promise<NewFile> {
  await partial.sync()
  const { names, name } = splitPlace(folder, place)
  await using target = await openFolder(folder, names)
  if (!(await moveIntoPlace(partial.path, target.at(name)))) throw placeTaken(place)
  await target.sync()
  const moved = stampOf(await stat(place, { bigint: true }))
  if (!sameStamp(moved, stamp)) {
    throw new ConflictError(`${place} changed while it was published`, {
      hint: 'do the same again, when nothing else writes there',
    })
  }
  const file = { place, stamp: moved, sha256, root, table }
  deps.store.addFiles([file])
  await partial.remove()
  return file
}
