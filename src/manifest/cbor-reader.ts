/**
 * Reads the subset of dag-cbor that a manifest is made of, in its one canonical encoding: shortest
 * lengths, nothing indefinite. Each value is asked for by its type, so hostile bytes allocate
 * nothing that the schema does not ask for; a general decoder turns 10 MB of empty arrays into 1.5 GB.
 */

import { viewOf } from '../core/bytes.ts'
import { type CID, cidBytes, decodeCid } from '../core/cid.ts'
import { InvalidInputError } from '../core/errors.ts'

export const majors = { uint: 0, bytes: 2, text: 3, array: 4, map: 5, tag: 6 } as const
export type Major = keyof typeof majors

/** The tag of a CID. */
export const cidTag = 42
export const cborFalse = 0xf4
export const cborTrue = 0xf5
/** The byte before a CID: the multibase of binary. */
export const identityPrefix = 0x00

export class CborReader {
  readonly #bytes: Buffer
  readonly #text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
  #at = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = viewOf(bytes)
  }

  /** Number of entries. */
  map(): number {
    return this.#head('map')
  }

  /** Number of items. */
  array(): number {
    return this.#head('array')
  }

  uint(): number {
    return this.#head('uint')
  }

  bool(): boolean {
    const value = this.#take(1, 1)[0]
    if (value !== cborTrue && value !== cborFalse) throw this.#malformed('a boolean expected')
    return value === cborTrue
  }

  text(bytesMax: number): string {
    const bytes = this.#take(this.#head('text'), bytesMax)
    try {
      return this.#text.decode(bytes)
    } catch (error) {
      throw new InvalidInputError(`a text is not UTF-8 (byte ${this.#at})`, { cause: error })
    }
  }

  /** Reads the text `word` (at most 23 ASCII characters) if it is next. */
  accept(word: string): boolean {
    const start = this.#at + 1
    if (this.#bytes[this.#at] !== ((majors.text << 5) | word.length)) return false
    for (let index = 0; index < word.length; index += 1) {
      if (this.#bytes[start + index] !== word.charCodeAt(index)) return false
    }
    this.#at = start + word.length
    return true
  }

  /** A copy. */
  bytes(length: number): Uint8Array {
    const bytes = this.#take(this.#head('bytes'), length)
    if (bytes.length < length) throw this.#malformed(`${length} bytes expected`)
    return Uint8Array.from(bytes)
  }

  cid(): CID {
    if (this.#head('tag') !== cidTag) throw this.#malformed('a CID expected')
    const bytes = this.bytes(1 + cidBytes)
    if (bytes[0] !== identityPrefix) throw this.#malformed('a CID without its prefix')
    return decodeCid(bytes.subarray(1))
  }

  end(): void {
    if (this.#at < this.#bytes.length) throw this.#malformed('bytes after the end')
  }

  #take(length: number, lengthMax: number): Buffer {
    const start = this.#at
    if (length > lengthMax) throw this.#malformed(`${length} bytes; at most ${lengthMax} allowed`)
    if (length > this.#bytes.length - start) throw this.#malformed('it ends too early')
    this.#at += length
    return this.#bytes.subarray(start, this.#at)
  }

  /** The argument of the next item, which must be of type `major`. */
  #head(major: Major): number {
    const first = this.#take(1, 1)[0] ?? 0
    if (first >>> 5 !== majors[major]) throw this.#malformed(`a ${major} expected`)
    const info = first & 0x1f
    if (info < 24) return info
    if (info > 27) throw this.#malformed('a length that is not definite')
    const length = 2 ** (info - 24)
    const bytes = this.#take(length, 8)
    const value =
      length === 8
        ? bytes.readUInt32BE(0) * 2 ** 32 + bytes.readUInt32BE(4)
        : bytes.readUIntBE(0, length)
    // The largest value of the next shorter form.
    const shorterMax = length === 1 ? 23 : 2 ** (4 * length) - 1
    if (value <= shorterMax) throw this.#malformed('a number that is not in its shortest form')
    if (!Number.isSafeInteger(value)) throw this.#malformed('a number above 2^53 - 1')
    return value
  }

  #malformed(reason: string): InvalidInputError {
    return new InvalidInputError(`not canonical CBOR of a manifest: ${reason} (byte ${this.#at})`)
  }
}
