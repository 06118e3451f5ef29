/**
 * Little-endian fields in a byte string: the reader refuses to run past the end or to leave a rest,
 * so that every message has exactly one encoding. Pure.
 */

import { type CID, cidBytes, decodeCid } from '../core/cid.ts'
import { messageOf, ProtocolError } from '../core/errors.ts'

/** What text is made of: it ends up on terminals, where anything else could deceive or do harm. */
const printableMin = 0x20
const printableMax = 0x7e
const questionMark = 0x3f

export class FieldReader {
  readonly #bytes: Uint8Array
  readonly #view: DataView
  readonly #what: string
  #at = 0

  /** `what` names the message in errors. */
  constructor(bytes: Uint8Array, what: string) {
    this.#bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#what = what
  }

  get rest(): number {
    return this.#bytes.length - this.#at
  }

  u8(): number {
    return this.#view.getUint8(this.#take(1))
  }

  u16(): number {
    return this.#view.getUint16(this.#take(2), true)
  }

  u32(): number {
    return this.#view.getUint32(this.#take(4), true)
  }

  /** A view, valid as long as the message is. */
  bytes(length: number): Uint8Array {
    const start = this.#take(length)
    return this.#bytes.subarray(start, start + length)
  }

  /** A CID that owns its bytes: kept CIDs must not keep a whole frame alive. */
  cid(): CID {
    const bytes = new Uint8Array(this.bytes(cidBytes))
    try {
      return decodeCid(bytes)
    } catch (error) {
      throw new ProtocolError(`${this.#what}: ${messageOf(error)}`, { cause: error })
    }
  }

  /** `length` printable ASCII characters. */
  text(length: number): string {
    const bytes = this.bytes(length)
    if (!bytes.every(byte => byte >= printableMin && byte <= printableMax)) {
      throw new ProtocolError(`${this.#what}: text is not printable ASCII`)
    }
    return String.fromCharCode(...bytes)
  }

  /** Throws unless everything was read. */
  end(): void {
    if (this.rest > 0) throw new ProtocolError(`${this.#what}: ${this.rest} bytes too many`)
  }

  #take(length: number): number {
    const start = this.#at
    if (length > this.rest) throw new ProtocolError(`${this.#what}: cut short`)
    this.#at += length
    return start
  }
}

/** Grows by doubling; `finish` gives a view of what was written. */
export class FieldWriter {
  #bytes: Uint8Array
  #view: DataView
  #at = 0

  constructor(sizeHint = 64) {
    this.#bytes = new Uint8Array(sizeHint)
    this.#view = new DataView(this.#bytes.buffer)
  }

  get length(): number {
    return this.#at
  }

  u8(value: number): this {
    const at = this.#grow(1)
    this.#view.setUint8(at, value)
    return this
  }

  u16(value: number): this {
    const at = this.#grow(2)
    this.#view.setUint16(at, value, true)
    return this
  }

  u32(value: number): this {
    const at = this.#grow(4)
    this.#view.setUint32(at, value, true)
    return this
  }

  bytes(bytes: Uint8Array): this {
    const at = this.#grow(bytes.length)
    this.#bytes.set(bytes, at)
    return this
  }

  cid(cid: CID): this {
    return this.bytes(cid.bytes)
  }

  finish(): Uint8Array {
    return this.#bytes.subarray(0, this.#at)
  }

  /** Where `length` bytes go. Call it before naming #bytes or #view: it may replace both. */
  #grow(length: number): number {
    const start = this.#at
    const needed = start + length
    if (needed > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(needed, this.#bytes.length * 2))
      larger.set(this.#bytes)
      this.#bytes = larger
      this.#view = new DataView(larger.buffer)
    }
    this.#at = needed
    return start
  }
}

/** The first `bytesMax` characters of `text`, with a question mark for what is not printable ASCII. */
export function encodeText(text: string, bytesMax: number): Uint8Array {
  return Uint8Array.from(text.slice(0, bytesMax), character => {
    const code = character.charCodeAt(0)
    return code >= printableMin && code <= printableMax ? code : questionMark
  })
}
