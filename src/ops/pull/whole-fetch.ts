/**
 * A file from a web server when nobody tells its chunks: fetched in ranges into a file without a name, hashed by the plan
 * that its own bytes give, and compared with the root of the manifest before it exists for anyone.
 */

import { createHash } from 'node:crypto'
import { mapLimit } from '../../core/async.ts'
import { sameCid } from '../../core/cid.ts'
import { IntegrityError, ProtocolError } from '../../core/errors.ts'
import { chunkBytesMax } from '../../core/limits.ts'
import type { HashedFile, HashPool } from '../../ingest/hash-file.ts'
import { type Allowance, takeFrom } from '../../transfer/allowance.ts'
import type { DownloadDeps, FetchWhole, WholeFetch } from '../../transfer/request.ts'
import { blockBytes, HubPartial } from '../mirror/hub-partial.ts'
import { publish } from '../mirror/file.ts'

/** What one request asks for, as of any source. */
const blocksPerRequest = chunkBytesMax / blockBytes

export interface WholeFetchDeps {
  readonly pool: Pick<HashPool, 'hashFile'>
  readonly store: Pick<DownloadDeps['store'], 'addFiles'>
}

export interface WholeFetchOptions {
  /** Absolute; every file lies below it. */
  readonly folder: string
  /** The node's limit on the speed of downloads. */
  readonly allowance?: Allowance | undefined
  /** Of this download alone. */
  readonly ownAllowance?: Allowance | undefined
}

export function openWholeFetch(deps: WholeFetchDeps, options: WholeFetchOptions): FetchWhole {
  return async job => {
    const { file, signal, unneeded } = job
    const key = createHash('sha256').update(`whole ${file.root.toString()}`).digest('hex')
    await using partial = await HubPartial.open({
      folder: options.folder,
      key: key.slice(0, 32),
      size: file.size,
    })
    try {
      const hashed = await fetchRight(deps, job, { partial, options })
      signal.throwIfAborted()
      const place = { folder: options.folder, place: file.place }
      return (await publish(deps, place, partial, hashed)).table
    } catch (error) {
      if (unneeded.aborted || error instanceof IntegrityError) await partial.remove()
      throw error
    }
  }
}

interface Parts {
  readonly partial: HubPartial
  readonly options: WholeFetchOptions
}

/** The server is to blame only for bytes that are all its own: an earlier run may have had them from another. */
async function fetchRight(
  { pool }: WholeFetchDeps,
  job: WholeFetch,
  { partial, options }: Parts,
): Promise<HashedFile> {
  const { file } = job
  for (;;) {
    const isMixed = partial.held.count > 0
    await fetchMissing(job, partial, options)
    const hashed = await pool.hashFile(partial.path, { signal: job.signal })
    if (sameCid(hashed.root, file.root)) return hashed
    if (!isMixed) {
      throw new IntegrityError(
        `${file.path}: its bytes make the root ${hashed.root.toString()}, not ${file.root.toString()}`,
      )
    }
    await partial.forgetAll()
  }
}

async function fetchMissing(
  { file, source, signal, unneeded, onBytes }: WholeFetch,
  partial: HubPartial,
  { allowance, ownAllowance }: WholeFetchOptions,
): Promise<void> {
  const { root } = file
  const until = AbortSignal.any([signal, unneeded, source.closed])
  const fetchOne = async (range: { start: number; end: number }, inner: AbortSignal) => {
    const length = range.end - range.start
    // Its own first: what is taken of the node's then is not kept from others.
    for (const limit of [ownAllowance, allowance]) {
      if (limit !== undefined) await takeFrom(limit, length, inner)
    }
    const ask = { root, index: 0, offset: range.start, length }
    const bytes = await source.fetchChunk(ask, { signal: inner })
    if (bytes.length !== length) throw new ProtocolError(`${bytes.length} bytes, not ${length}`)
    await partial.write(range.start, bytes)
    await partial.wrote(range.start, range.end)
    onBytes(length)
  }
  try {
    const ranges = missingRanges(partial)
    for await (const _ of mapLimit(ranges, source.requestsMax ?? 1, fetchOne, until)) continue
  } finally {
    await partial.record()
  }
}

function* missingRanges({ held, size }: HubPartial): Generator<{ start: number; end: number }> {
  for (let block = 0; block < held.length; block += 1) {
    if (held.has(block)) continue
    const first = block
    while (
      block + 1 < held.length &&
      !held.has(block + 1) &&
      block + 1 - first < blocksPerRequest
    ) {
      block += 1
    }
    yield { start: first * blockBytes, end: Math.min(size, (block + 1) * blockBytes) }
  }
}
