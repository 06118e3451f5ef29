/** Which chunks of a file are held: one bit a chunk, least significant bit first. */

import { InvalidInputError } from './errors.ts'

export class Bitfield {
  readonly length: number
  /** ceil(length / 8) bytes; bits past `length` are zero. */
  readonly bytes: Uint8Array
  #count: number

  constructor(length: number, bytes = new Uint8Array(Math.ceil(length / 8))) {
    if (bytes.length !== Math.ceil(length / 8)) {
      throw new InvalidInputError(`a bitfield of ${length} bits has ${bytes.length} bytes`)
    }
    const spare = bytes.length * 8 - length
    if (spare > 0 && (bytes[bytes.length - 1] ?? 0) >>> (8 - spare) !== 0) {
      throw new InvalidInputError(`a bitfield of ${length} bits has bits set past its end`)
    }
    this.length = length
    this.bytes = bytes
    this.#count = countBits(bytes)
  }

  static full(length: number): Bitfield {
    const bytes = new Uint8Array(Math.ceil(length / 8)).fill(0xff)
    const spare = bytes.length * 8 - length
    if (spare > 0) bytes[bytes.length - 1] = 0xff >>> spare
    return new Bitfield(length, bytes)
  }

  /** How many bits are set. */
  get count(): number {
    return this.#count
  }

  get isFull(): boolean {
    return this.#count === this.length
  }

  has(index: number): boolean {
    return ((this.bytes[index >>> 3] ?? 0) & (1 << (index & 7))) !== 0
  }

  /** Sets a bit; false when it was set already. */
  add(index: number): boolean {
    if (index < 0 || index >= this.length) throw new RangeError(`no bit ${index} of ${this.length}`)
    if (this.has(index)) return false
    this.bytes[index >>> 3] = (this.bytes[index >>> 3] ?? 0) | (1 << (index & 7))
    this.#count += 1
    return true
  }

  /** Clears a bit; false when it was clear already. */
  delete(index: number): boolean {
    if (!this.has(index)) return false
    this.bytes[index >>> 3] = (this.bytes[index >>> 3] ?? 0) & ~(1 << (index & 7))
    this.#count -= 1
    return true
  }

  /** The set bits as half-open runs `[start, end)`, in order: how haves travel on the wire. */
  *runs(): Generator<readonly [start: number, end: number]> {
    let index = 0
    while (index < this.length) {
      if (!this.has(index)) {
        // Whole empty bytes are skipped: a fresh download of 10^6 chunks is nearly all zeros.
        index = (index & 7) === 0 && this.bytes[index >>> 3] === 0 ? index + 8 : index + 1
        continue
      }
      const start = index
      while (index < this.length && this.has(index)) index += 1
      yield [start, index]
    }
  }

  clone(): Bitfield {
    return new Bitfield(this.length, this.bytes.slice())
  }
}

function countBits(bytes: Uint8Array): number {
  let count = 0
  for (const byte of bytes) {
    let rest = byte
    while (rest !== 0) {
      rest &= rest - 1
      count += 1
    }
  }
  return count
}
