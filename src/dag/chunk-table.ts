/**
 * The leaves of one file, in file order: 36 bytes each (digest, then length as u32 little endian).
 * This one byte string is the plan on disk, the table on the wire and the input of the DAG builder;
 * 812 GB of weights need 28 MB of it, where an object a leaf would need 280 MB.
 */

import { viewOf } from '../core/bytes.ts'
import { digestBytes } from '../core/digest.ts'
import { InvalidInputError } from '../core/errors.ts'
import { chunkBytesMax, fileBytesMax } from '../core/limits.ts'

export { chunkBytesMax, fileBytesMax } from '../core/limits.ts'

/** Bytes of one record. */
export const recordBytes = digestBytes + 4

export interface ChunkRef {
  /** 32 bytes. */
  readonly digest: Uint8Array
  /** Position in the file. */
  readonly offset: number
  /** 1 to chunkBytesMax. */
  readonly length: number
}

export class ChunkTable {
  /** `count` records of 36 bytes. Shared, not copied: treat as frozen. */
  readonly bytes: Uint8Array
  readonly count: number
  /** Bytes of the file. */
  readonly size: number
  readonly #view: Buffer
  /** Offset of every chunk, and the file size after the last. */
  readonly #offsets: Float64Array

  /** Throws InvalidInputError unless every length is 1 to chunkBytesMax and the sum fits a file. */
  constructor(bytes: Uint8Array) {
    if (bytes.length % recordBytes !== 0) {
      throw new InvalidInputError(`a chunk table of ${bytes.length} bytes is cut short`)
    }
    this.bytes = bytes
    this.count = bytes.length / recordBytes
    this.#view = viewOf(bytes)
    this.#offsets = new Float64Array(this.count + 1)
    let offset = 0
    for (let index = 0; index < this.count; index += 1) {
      const length = this.length(index)
      if (length < 1 || length > chunkBytesMax) {
        throw new InvalidInputError(
          `chunk ${index} has ${length} bytes; 1 to ${chunkBytesMax} allowed`,
        )
      }
      offset += length
      this.#offsets[index + 1] = offset
    }
    if (offset > fileBytesMax) throw new InvalidInputError(`a file of ${offset} bytes is too large`)
    this.size = offset
  }

  /** The table of a file that is one chunk (or empty): its digest is the file's SHA-256. */
  static ofOneChunk(sha256: Uint8Array, size: number): ChunkTable {
    if (size === 0) return new ChunkTable(new Uint8Array(0))
    const bytes = Buffer.alloc(recordBytes)
    bytes.set(sha256)
    bytes.writeUInt32LE(size, digestBytes)
    return new ChunkTable(bytes)
  }

  static fromRefs(refs: Iterable<{ digest: Uint8Array; length: number }>): ChunkTable {
    const records: Buffer[] = []
    for (const { digest, length } of refs) {
      const record = Buffer.alloc(recordBytes)
      record.set(digest)
      record.writeUInt32LE(length, digestBytes)
      records.push(record)
    }
    return new ChunkTable(Buffer.concat(records))
  }

  /** 32 bytes, a view into the table. */
  digest(index: number): Uint8Array {
    const start = index * recordBytes
    return this.bytes.subarray(start, start + digestBytes)
  }

  length(index: number): number {
    return this.#view.readUInt32LE(index * recordBytes + digestBytes)
  }

  offset(index: number): number {
    return this.#offsets[index] ?? this.size
  }

  /** The chunk with this byte of the file; the last one for what is behind the end. */
  at(offset: number): number {
    let low = 0
    let high = this.count - 1
    while (low < high) {
      const middle = (low + high + 1) >>> 1
      if (this.offset(middle) <= offset) low = middle
      else high = middle - 1
    }
    return low
  }

  ref(index: number): ChunkRef {
    return { digest: this.digest(index), offset: this.offset(index), length: this.length(index) }
  }
}
