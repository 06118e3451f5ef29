/** A BlockReader in memory: what a node would hold, with no disk, and switches to hold less or lie. */

import { randomBytes } from 'node:crypto'
import { Bitfield } from '../../src/core/bitfield.ts'
import { type CID, codecs, makeCid, rawCid } from '../../src/core/cid.ts'
import { sha256 } from '../../src/core/digest.ts'
import { NotFoundError } from '../../src/core/errors.ts'
import { MiB } from '../../src/core/units.ts'
import { ChunkTable } from '../../src/dag/chunk-table.ts'
import { rootOf } from '../../src/dag/unixfs.ts'
import type { BlockReader, HeldChange } from '../../src/store/store.ts'

export interface SampleFile {
  readonly bytes: Uint8Array
  readonly root: CID
  /** The raw CID of the whole file's SHA-256. */
  readonly whole: CID
  readonly table: ChunkTable
}

/** A file of random bytes, cut every `chunkBytes`. */
export function sampleFile(size: number, chunkBytes = MiB): SampleFile {
  const bytes = randomBytes(size)
  const refs = Array.from({ length: Math.ceil(size / chunkBytes) }, (_, index) => {
    const chunk = bytes.subarray(index * chunkBytes, (index + 1) * chunkBytes)
    return { digest: sha256(chunk), length: chunk.length }
  })
  const table = ChunkTable.fromRefs(refs)
  return { bytes, root: rootOf(table), whole: rawCid(sha256(bytes)), table }
}

export interface SampleManifest {
  readonly cid: CID
  readonly bytes: Uint8Array
}

/** Bytes with the CID of a manifest; the swarm does not look inside. */
export function sampleManifest(size = 1000): SampleManifest {
  const bytes = randomBytes(size)
  return { cid: makeCid(codecs.dagCbor, sha256(bytes)), bytes }
}

interface Held {
  readonly file: SampleFile
  readonly held: Bitfield
}

export class MemoryReader implements BlockReader {
  readonly #files = new Map<string, Held>()
  readonly #manifests = new Map<string, Uint8Array>()
  readonly #listeners = new Set<(change: HeldChange) => void>()
  /** Called before each chunk is read: to wait, to count, to throw. */
  beforeRead: (index: number) => Promise<void> | void = () => undefined
  /** What is given out for a chunk: a liar changes it. */
  alter: (bytes: Uint8Array) => Uint8Array = bytes => bytes
  /** What is given out for a table. */
  alterTable: (table: ChunkTable) => ChunkTable = table => table
  reads = 0
  rechecks = 0

  addManifest({ cid, bytes }: SampleManifest): this {
    this.#manifests.set(cid.toString(), bytes)
    return this
  }

  /** Holds the given chunks of the file, or all. */
  addFile(file: SampleFile, indexes: Iterable<number> = file.table.bytes.keys()): this {
    const held = new Bitfield(file.table.count)
    for (const index of indexes) if (index < file.table.count) held.add(index)
    for (const key of [file.root, file.whole]) this.#files.set(key.toString(), { file, held })
    return this
  }

  gain(file: SampleFile, ...indexes: number[]): void {
    const { held } = this.#held(file.root)
    for (const index of indexes) held.add(index)
    this.#tell({ root: file.root, gained: indexes.map(index => [index, index + 1]), lost: [] })
  }

  lose(file: SampleFile, ...indexes: number[]): void {
    const { held } = this.#held(file.root)
    for (const index of indexes) held.delete(index)
    this.#tell({ root: file.root, gained: [], lost: indexes.map(index => [index, index + 1]) })
  }

  /** Stops holding chunks without saying so. */
  loseSilently(file: SampleFile, ...indexes: number[]): void {
    const { held } = this.#held(file.root)
    for (const index of indexes) held.delete(index)
  }

  manifestBlock(manifest: CID): Uint8Array | undefined {
    return this.#manifests.get(manifest.toString())
  }

  chunkTable(root: CID): ChunkTable | undefined {
    const file = this.#files.get(root.toString())?.file
    return file === undefined ? undefined : this.alterTable(file.table)
  }

  held(root: CID): Bitfield | undefined {
    return this.#files.get(root.toString())?.held
  }

  async readChunk(root: CID, index: number): Promise<Uint8Array> {
    await this.beforeRead(index)
    const { file, held } = this.#held(root)
    if (!held.has(index)) throw new NotFoundError(`chunk ${index} is not held`)
    this.reads += 1
    const { offset, length } = file.table.ref(index)
    return this.alter(file.bytes.slice(offset, offset + length))
  }

  recheck(): void {
    this.rechecks += 1
  }

  onHeldChange(listener: (change: HeldChange) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  #held(root: CID): Held {
    const found = this.#files.get(root.toString())
    if (found === undefined) throw new NotFoundError(`${root.toString()} is not held`)
    return found
  }

  #tell(change: HeldChange): void {
    for (const listener of this.#listeners) listener(change)
  }
}
