/** Writes what cbor-reader.ts reads: the subset of dag-cbor of a manifest, in its canonical encoding. */

import { type CID, cidBytes } from '../core/cid.ts'
import { cborFalse, cborTrue, cidTag, identityPrefix, type Major, majors } from './cbor-reader.ts'

/** The most that the head of an item takes. */
export const headBytesMax = 9
/** A CID with its tag, its head and its prefix. */
export const cidItemBytes = 2 + 2 + 1 + cidBytes

export class CborWriter {
  readonly #bytes: Buffer
  #at = 0

  /** `bytesMax` is what will be written, or a little more. */
  constructor(bytesMax: number) {
    this.#bytes = Buffer.allocUnsafeSlow(bytesMax)
  }

  /** What was written. */
  get bytes(): Uint8Array {
    return Uint8Array.from(this.#bytes.subarray(0, this.#at))
  }

  /** The caller writes the entries: keys in the order of their length, then of their bytes. */
  map(entries: number): void {
    this.#head('map', entries)
  }

  array(items: number): void {
    this.#head('array', items)
  }

  uint(value: number): void {
    this.#head('uint', value)
  }

  bool(value: boolean): void {
    this.#bytes[this.#at] = value ? cborTrue : cborFalse
    this.#at += 1
  }

  text(text: string): void {
    this.#head('text', Buffer.byteLength(text))
    this.#at += this.#bytes.write(text, this.#at)
  }

  byteString(bytes: Uint8Array): void {
    this.#head('bytes', bytes.length)
    this.#raw(bytes)
  }

  cid(cid: CID): void {
    this.#head('tag', cidTag)
    this.#head('bytes', 1 + cid.bytes.length)
    this.#bytes[this.#at] = identityPrefix
    this.#at += 1
    this.#raw(cid.bytes)
  }

  #raw(bytes: Uint8Array): void {
    this.#bytes.set(bytes, this.#at)
    this.#at += bytes.length
  }

  /** The type and its argument, in the shortest form. */
  #head(major: Major, value: number): void {
    const bytes = this.#bytes
    const at = this.#at
    const type = majors[major] << 5
    if (value < 24) {
      bytes[at] = type | value
      this.#at = at + 1
    } else if (value < 2 ** 8) {
      bytes[at] = type | 24
      this.#at = bytes.writeUInt8(value, at + 1)
    } else if (value < 2 ** 16) {
      bytes[at] = type | 25
      this.#at = bytes.writeUInt16BE(value, at + 1)
    } else if (value < 2 ** 32) {
      bytes[at] = type | 26
      this.#at = bytes.writeUInt32BE(value, at + 1)
    } else {
      bytes[at] = type | 27
      bytes.writeUInt32BE(Math.floor(value / 2 ** 32), at + 1)
      this.#at = bytes.writeUInt32BE(value % 2 ** 32, at + 5)
    }
  }
}
