/**
 * Hashes a partial file from its start as far as it is there, while the rest is being fetched, so that
 * publishing does not have to read it all again. Only ever saves time: when anything is odd, the whole
 * file is hashed at the end.
 */

import type { Bitfield } from '../core/bitfield.ts'
import { MiB } from '../core/units.ts'
import type { ChunkTable } from '../dag/chunk-table.ts'

/** Somebody who hashes files while they grow: ingest/growing-hash.ts. */
export interface GrowingHashes {
  /** Of an open file, which stays open until it is free. */
  follow(fd: number): GrowingHash
}

export interface GrowingHash {
  /** The first `bytes` bytes are there and will not change. */
  reach(bytes: number): void
  /** Of all bytes reached; the file is free then. */
  digest(): Promise<Uint8Array>
  /** Resolves when the file is free. */
  forget(): Promise<void>
}

/** Told in steps of this; smaller files are hashed at the end. */
const stepBytes = 8 * MiB

export interface GrowingFile {
  readonly fd: number
  readonly table: ChunkTable
  /** Grows as the file does. */
  readonly held: Bitfield
}

export class PrefixHash {
  readonly #file: GrowingFile
  #hash: GrowingHash | undefined
  /** Chunks from the start that are all there. */
  #chunks = 0
  #reached = 0
  /** Resolved while nobody reads the file for us. */
  #free: Promise<void> = Promise.resolve()

  constructor(hashes: GrowingHashes | undefined, file: GrowingFile) {
    this.#file = file
    if (file.table.size >= stepBytes) this.#hash = hashes?.follow(file.fd)
    this.grow()
  }

  /** More may be there. */
  grow(): void {
    const { table, held } = this.#file
    if (this.#hash === undefined) return
    while (this.#chunks < table.count && held.has(this.#chunks)) this.#chunks += 1
    const bytes = table.offset(this.#chunks)
    if (bytes - this.#reached < stepBytes && bytes < table.size) return
    if (bytes === this.#reached) return
    this.#reached = bytes
    this.#hash.reach(bytes)
  }

  /** What was there is not any more: too late to tell what was hashed. */
  giveUp(): void {
    void this.end()
  }

  /** Undefined when it was given up; the file is free afterwards in any case. */
  async digest(): Promise<Uint8Array | undefined> {
    const hash = this.#hash
    this.#hash = undefined
    if (hash === undefined) return undefined
    if (this.#reached === this.#file.table.size) {
      const digest = hash.digest().catch(() => undefined)
      this.#free = digest.then(() => undefined)
      return digest
    }
    this.#free = hash.forget()
    await this.#free
    return undefined
  }

  /** Resolves when the file is free. */
  async end(): Promise<void> {
    if (this.#hash !== undefined) this.#free = this.#hash.forget()
    this.#hash = undefined
    await this.#free
  }
}
