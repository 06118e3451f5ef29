/** Bytes: text forms, comparison, and files as random-access sources. */

import { InvalidInputError } from './errors.ts'

/** Random access to bytes of known length: a file, a memory buffer, a range over the network. */
export interface ByteSource {
  readonly size: number
  /** Exactly `length` bytes from `offset`; rejects when the range is not inside the source. */
  readAt(offset: number, length: number): Promise<Uint8Array>
}

export function memorySource(bytes: Uint8Array): ByteSource {
  return {
    size: bytes.length,
    readAt(offset, length) {
      if (offset < 0 || length < 0 || offset + length > bytes.length) {
        return Promise.reject(new RangeError(`no bytes ${offset}+${length} of ${bytes.length}`))
      }
      return Promise.resolve(bytes.subarray(offset, offset + length))
    },
  }
}

export function toHex(bytes: Uint8Array): string {
  return viewOf(bytes).toString('hex')
}

const hexPattern = /^(?:[0-9a-f]{2})*$/

/** Lower-case hex → bytes; throws InvalidInputError. */
export function fromHex(text: string): Uint8Array {
  if (!hexPattern.test(text))
    throw new InvalidInputError(`not lower-case hex: ${text.slice(0, 80)}`)
  return Buffer.from(text, 'hex')
}

export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0
}

/** Orders byte strings as memcmp does; for sorting by the bytes of a path. */
export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  return Buffer.compare(a, b)
}

/** The same memory as a Buffer, for its integer and text methods. */
export function viewOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
