/**
 * The little of protobuf that dag-pb and UnixFS need, for whole numbers up to 2^53. Written here
 * because the runtime that js-ipfs uses encodes every number from 2^31 to 2^32 wrongly, and model
 * shards have just these sizes.
 */

import { InvalidInputError } from '../core/errors.ts'

/** Bytes that `value` takes as a varint. */
export function varintBytes(value: number): number {
  let length = 1
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 0x80)) length += 1
  return length
}

/** Writes into a buffer of exactly the right size, from front to back. */
export class ProtobufWriter {
  readonly bytes: Uint8Array
  #at = 0

  constructor(size: number) {
    this.bytes = new Uint8Array(size)
  }

  varint(value: number): void {
    let rest = value
    while (rest >= 0x80) {
      this.bytes[this.#at] = (rest % 0x80) | 0x80
      this.#at += 1
      rest = Math.floor(rest / 0x80)
    }
    this.bytes[this.#at] = rest
    this.#at += 1
  }

  raw(bytes: Uint8Array): void {
    this.bytes.set(bytes, this.#at)
    this.#at += bytes.length
  }
}

/** Reads the one encoding that ProtobufWriter makes; throws InvalidInputError for every other. */
export class ProtobufReader {
  readonly #bytes: Uint8Array
  #at = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  get isDone(): boolean {
    return this.#at === this.#bytes.length
  }

  /** The next byte, or undefined at the end: which field comes. */
  peek(): number | undefined {
    return this.#bytes[this.#at]
  }

  /** Throws unless the next byte is `byte`. */
  expect(byte: number): void {
    if (this.peek() !== byte) throw this.#malformed(`0x${byte.toString(16)} expected`)
    this.#at += 1
  }

  varint(): number {
    let value = 0
    for (let factor = 1; factor <= 2 ** 49; factor *= 0x80) {
      const byte = this.#bytes[this.#at]
      if (byte === undefined) throw this.#malformed('it ends within a number')
      this.#at += 1
      value += (byte & 0x7f) * factor
      if (byte >= 0x80) continue
      if (byte === 0 && factor > 1) throw this.#malformed('a number is padded')
      if (!Number.isSafeInteger(value)) break
      return value
    }
    throw this.#malformed('a number is too large')
  }

  /** A view of the next `length` bytes. */
  raw(length: number): Uint8Array {
    const start = this.#at
    if (length > this.#bytes.length - start) throw this.#malformed('it ends within a field')
    this.#at += length
    return this.#bytes.subarray(start, this.#at)
  }

  #malformed(reason: string): InvalidInputError {
    return new InvalidInputError(`a bad DAG node: ${reason} (byte ${this.#at})`)
  }
}
