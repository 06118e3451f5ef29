/**
 * Verify: re-hash what is held, now. A chunk whose bytes do not match is named by file and byte range,
 * and withdrawn from serving; a file found good again is served again.
 */

import { resolve, sep } from 'node:path'
import type { BadRange, VerifiedEvent, VerifyRequest } from '../api/contract.ts'
import { mapLimit } from '../core/async.ts'
import { equalBytes } from '../core/bytes.ts'
import type { Clock } from '../core/clock.ts'
import { digestBytes } from '../core/digest.ts'
import { isAbort, messageOf, NotFoundError } from '../core/errors.ts'
import type { ChunkTable } from '../dag/chunk-table.ts'
import type { HashPool } from '../ingest/hash-file.ts'
import type { HeldFile, Store } from '../store/store.ts'
import { isInside } from './home-guard.ts'
import { openMeter } from './meter.ts'
import { findModel } from './models.ts'
import type { OperationOptions } from './operation.ts'

export interface VerifyDeps {
  readonly store: Pick<
    Store,
    'chunkTable' | 'confirm' | 'filesOf' | 'model' | 'models' | 'quarantine'
  >
  readonly pool: HashPool
  readonly clock: Clock
}

/** Bad chunks named in one answer; a disk with more than this is not read to the end by anybody. */
const badRangesMax = 10_000
/** Keeps the threads of the pool busy over small files; a disk gains nothing from more. */
const filesInFlightMax = 4

export async function verify(
  deps: VerifyDeps,
  request: VerifyRequest,
  options: OperationOptions,
): Promise<VerifiedEvent> {
  const files = filesFor(deps.store, request.target)
  const meter = openMeter(deps.clock, options.onEvent)
  const bytesTotal = files.reduce((sum, { size }) => sum + size, 0)
  let filesDone = 0
  let bytesDone = 0
  const report = (file?: HeldFile): void =>
    meter.report({
      phase: 'verifying',
      filesDone,
      filesTotal: files.length,
      // Bytes that were read twice, because a file grew, are not more than all.
      bytesDone: Math.min(bytesDone, bytesTotal),
      bytesTotal,
      peers: 0,
      ...(file !== undefined && { file: file.path }),
    })
  const check = (file: HeldFile, signal: AbortSignal): Promise<BadRange[]> =>
    verifyFile(deps, file, signal, bytes => {
      bytesDone += bytes
      report(file)
    })

  const bad: BadRange[] = []
  report()
  for await (const found of mapLimit(files, filesInFlightMax, check, options.signal)) {
    filesDone += 1
    bad.push(...found.slice(0, badRangesMax - bad.length))
  }
  return { type: 'verified', files: files.length, bytes: bytesTotal, bad: bad.toSorted(byPlace) }
}

function byPlace(a: BadRange, b: BadRange): number {
  return a.place === b.place ? a.offset - b.offset : a.place < b.place ? -1 : 1
}

/** Whole files once each, whatever number of models they are in; what is still being fetched is left out. */
function filesFor(store: VerifyDeps['store'], target: string | undefined): HeldFile[] {
  const isPath = target !== undefined && (target.startsWith(sep) || target === resolve(target))
  const models = target === undefined || isPath ? store.models() : [findModel(store, target)]
  const places = new Map<string, HeldFile>()
  for (const { manifest } of models) {
    for (const file of store.filesOf(manifest)) {
      const isWanted = !isPath || isInside(file.place, target)
      const isWhole = file.state === 'held' || file.state === 'changed'
      if (isWanted && isWhole) places.set(file.place, file)
    }
  }
  if (isPath && places.size === 0) {
    throw new NotFoundError(`nothing at or below ${target} is held here`, {
      hint: 'commonweight seed PATH makes it part of the network first',
    })
  }
  return [...places.values()]
}

async function verifyFile(
  { store, pool }: VerifyDeps,
  file: HeldFile,
  signal: AbortSignal,
  onBytes: (bytes: number) => void,
): Promise<BadRange[]> {
  const table = store.chunkTable(file.root)
  if (table === undefined) return [unreadable(file, 'its chunk table is not known any more')]
  const lengths = Uint32Array.from({ length: table.count }, (_, index) => table.length(index))
  try {
    const hashed = await pool.hashChunks(file.place, lengths, { signal, onBytes })
    const bad = badChunks(table, hashed.digests)
    const isWhole = hashed.stamp.size === table.size
    if (isWhole) store.confirm(file.place, hashed.stamp, bad)
    else store.quarantine(file.place, bad)
    const ranges = bad.map(index => badRange(file, table, index))
    if (!isWhole && bad.length === 0) {
      ranges.push({
        path: file.path,
        place: file.place,
        offset: table.size,
        length: Math.max(0, hashed.stamp.size - table.size),
        reason: `the file has ${hashed.stamp.size} bytes, not ${table.size}`,
      })
    }
    return ranges
  } catch (error) {
    if (isAbort(error)) throw error
    store.quarantine(file.place, [...lengths.keys()])
    return [unreadable(file, messageOf(error))]
  }
}

/** Chunks that differ or could not be read. */
function badChunks(table: ChunkTable, digests: Uint8Array): number[] {
  const bad: number[] = []
  for (let index = 0; index < table.count; index += 1) {
    const start = index * digestBytes
    const actual = digests.subarray(start, start + digestBytes)
    if (!equalBytes(actual, table.digest(index))) bad.push(index)
  }
  return bad
}

function badRange(file: HeldFile, table: ChunkTable, index: number): BadRange {
  const { offset, length } = table.ref(index)
  const reason = 'the bytes do not match their digest'
  return { path: file.path, place: file.place, offset, length, reason }
}

function unreadable(file: HeldFile, reason: string): BadRange {
  return { path: file.path, place: file.place, offset: 0, length: 0, reason }
}
