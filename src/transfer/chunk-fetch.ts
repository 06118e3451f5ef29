/**
 * One chunk from one source to the disk: through this thread, which checks and writes it, or past it,
 * when the source has threads that do.
 */

import type { BufferPool } from '../core/buffers.ts'
import { IntegrityError, ProtocolError, StorageError } from '../core/errors.ts'
import { verifyDigest } from '../dag/verify.ts'
import type { Partial } from '../store/partial.ts'
import { type Failure, failureOf } from './session-events.ts'
import type { BulkRequest, BulkSource, Source } from './source.ts'

export interface ChunkFetch {
  readonly source: Source
  readonly partial: Partial
  /** For bytes that come through this thread. */
  readonly buffers: BufferPool
  readonly chunk: BulkRequest
  /** Counts until the chunk has arrived. */
  readonly signal: AbortSignal
  /** All bytes came: they are checked and written, or found bad, whatever happens to the source. */
  readonly onArrived: () => void
  /** Around what keeps the disk of this machine busy. */
  locally(work: () => Promise<void>): Promise<void>
}

/** What the session is told of it in the end; undefined when it was cancelled and wants to know nothing. */
export type ChunkOutcome =
  | { readonly type: 'chunk-verified' }
  /** Cancelled too late, or written by somebody else meanwhile. */
  | { readonly type: 'chunk-found'; readonly isFetched: boolean }
  | { readonly type: 'chunk-bad'; readonly reason: Error }
  | { readonly type: 'chunk-lost' }
  | { readonly type: 'request-failed'; readonly failure: Failure; readonly reason: Error }
  | undefined

/** Rejects with what is not the source's doing. */
export async function fetchChunk(fetch: ChunkFetch): Promise<ChunkOutcome> {
  const { source, chunk, signal } = fetch
  let bulk: BulkSource | undefined
  try {
    bulk = await source.bulk?.(chunk.length, { signal })
  } catch (error) {
    return failed(fetch, error)
  }
  return bulk === undefined ? fetchHere(fetch) : fetchThere(fetch, bulk)
}

async function fetchHere(fetch: ChunkFetch): Promise<ChunkOutcome> {
  const { source, partial, buffers, chunk, signal } = fetch
  const { index, length, digest } = chunk
  let bytes: Uint8Array
  let buffer: Uint8Array | undefined
  const allocate = (size: number): Uint8Array => (buffer = buffers.take(size))
  try {
    bytes = await source.fetchChunk(chunk, { signal, allocate })
    if (bytes.length !== length) throw new ProtocolError(`${bytes.length} bytes, not ${length}`)
  } catch (error) {
    return failed(fetch, error)
  }
  if (signal.aborted) return undefined
  fetch.onArrived()
  try {
    const block = verifyDigest(digest, bytes)
    await fetch.locally(() => partial.write(index, block))
    // Only now: what a failed or cancelled request left may still be written to.
    if (buffer !== undefined) buffers.give(buffer)
    return { type: 'chunk-verified' }
  } catch (error) {
    if (error instanceof IntegrityError) return { type: 'chunk-bad', reason: error }
    throw error
  }
}

async function fetchThere(fetch: ChunkFetch, bulk: BulkSource): Promise<ChunkOutcome> {
  const { partial, chunk, signal } = fetch
  const seen = { isArrived: false, isFetched: false }
  const onChecked = (): void => {
    if (signal.aborted) return
    seen.isArrived = true
    fetch.onArrived()
  }
  try {
    await partial.writeThrough(chunk.index, async target => {
      await bulk.fetchChunkTo(chunk, target, { signal, onChecked })
      seen.isFetched = true
    })
  } catch (error) {
    if (error instanceof StorageError) throw error
    return seen.isArrived ? { type: 'chunk-lost' } : failed(fetch, error)
  }
  return seen.isArrived
    ? { type: 'chunk-verified' }
    : { type: 'chunk-found', isFetched: seen.isFetched }
}

function failed({ source, signal, onArrived }: ChunkFetch, error: unknown): ChunkOutcome {
  if (signal.aborted) return undefined
  if (error instanceof IntegrityError) {
    onArrived()
    return { type: 'chunk-bad', reason: error }
  }
  const failure = failureOf(error, source)
  if (failure === undefined) throw error
  return { type: 'request-failed', failure, reason: error as Error }
}
