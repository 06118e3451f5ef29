/**
 * What a gateway asks of a node: models by their names, and bytes of their files. The gateway speaks
 * HTTP and knows no store; this knows the store and no HTTP.
 */

import type { CID } from '../core/cid.ts'
import { IntegrityError, NotFoundError, UnavailableError } from '../core/errors.ts'
import { chunkBytesMax } from '../core/limits.ts'
import type { ChunkTable } from '../dag/chunk-table.ts'
import { decodeManifest, type Manifest, type ManifestFile } from '../manifest/manifest.ts'
import type { NamedModel, Store } from '../store/store.ts'

export type { NamedModel } from '../store/store.ts'

/** Bytes that one read gives at most, and what `into` must have room for. */
export const readBytesMax = chunkBytesMax

/** A file while somebody reads it. */
export interface OpenedFile extends Disposable {
  /** Every byte of it is here. */
  readonly isWhole: boolean
  /**
   * The bytes from `offset` on, at least one and none from `end` on, verified, in the memory of `into`.
   * UnavailableError when they are not here and nobody serves them.
   */
  read(span: Span, into: Uint8Array, signal: AbortSignal): Promise<Uint8Array>
}

export interface Span {
  readonly offset: number
  readonly end: number
}

export interface Gateway {
  /** Without regard to the case of ASCII letters. */
  find(name: string): NamedModel | undefined
  names(): readonly NamedModel[]
  /** UnavailableError when it is not here and nobody serves it. */
  manifest(model: NamedModel, signal: AbortSignal): Promise<Manifest>
  /** The file must be of this model's manifest. */
  open(model: NamedModel, file: ManifestFile): OpenedFile
}

export interface GatewayDeps {
  readonly store: Pick<
    Store,
    'chunkTable' | 'findName' | 'manifestBlock' | 'names' | 'present' | 'readRun'
  >
}

export function openGateway({ store }: GatewayDeps): Gateway {
  return {
    find: name => store.findName(name),
    names: () => store.names(),
    async manifest({ name, manifest }) {
      const block = store.manifestBlock(manifest)
      if (block === undefined) throw new UnavailableError(`${name} is known by name only`)
      return decodeManifest(block)
    },
    open: (_, { root }) => openHeld(store, root),
  }
}

/** A file of which what is here is read, and what is not is not waited for. */
function openHeld(store: GatewayDeps['store'], root: CID): OpenedFile {
  const table = store.chunkTable(root)
  return {
    get isWhole() {
      return store.present(root)?.isFull === true
    },
    async read(span, into, signal) {
      const chunk = table === undefined ? 0 : chunkAt(table, span.offset)
      const present = store.present(root)
      if (table === undefined || present?.has(chunk) !== true) {
        throw new UnavailableError(`byte ${span.offset} of ${root.toString()} is not here`)
      }
      const isHere = (index: number): boolean => present.has(index)
      const end = runEnd(table, chunk, { end: span.end, isHere })
      try {
        const bytes = await store.readRun(root, [chunk, end], into, { signal })
        const from = table.offset(chunk)
        return bytes.subarray(span.offset - from, Math.min(bytes.length, span.end - from))
      } catch (error) {
        const isWithdrawn = error instanceof NotFoundError || error instanceof IntegrityError
        if (!isWithdrawn) throw error
        throw new UnavailableError('the file on disk is not what it was', { cause: error })
      }
    },
    [Symbol.dispose]() {},
  }
}

/** The chunk with this byte. */
function chunkAt(table: ChunkTable, offset: number): number {
  let low = 0
  let high = table.count - 1
  while (low < high) {
    const middle = (low + high + 1) >>> 1
    if (table.offset(middle) <= offset) low = middle
    else high = middle - 1
  }
  return low
}

/** Small chunks are read together, as many as fit. */
function runEnd(
  table: ChunkTable,
  start: number,
  { end, isHere }: { end: number; isHere: (chunk: number) => boolean },
): number {
  const limit = table.offset(start) + readBytesMax
  let next = start + 1
  while (
    next < table.count &&
    table.offset(next) < end &&
    table.offset(next + 1) <= limit &&
    isHere(next)
  ) {
    next += 1
  }
  return next
}
