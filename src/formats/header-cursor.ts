/**
 * Reads a binary header from front to back through a small window, so that what is only skipped is
 * not read. Calls come in pairs: `await load(n)` when `has(n)` is false, then reads of at most n
 * bytes without waiting; a vocabulary of 10^6 strings must not cost 10^6 promises.
 */

import { type ByteSource, viewOf } from '../core/bytes.ts'
import { KiB } from '../core/units.ts'
import { malformed } from './tensors.ts'

/** One read of the source: large enough that a 16 MB header takes 60, small enough to waste. */
const windowBytes = 256 * KiB

export class HeaderCursor {
  readonly #source: ByteSource
  /** No byte at or after this offset is part of the header. */
  readonly #end: number
  #window: Buffer = Buffer.alloc(0)
  #windowStart = 0
  #at = 0

  constructor(source: ByteSource, bytesMax: number) {
    this.#source = source
    this.#end = Math.min(source.size, bytesMax)
  }

  /** Offset of the next byte. */
  get at(): number {
    return this.#at
  }

  /** True when the next `length` bytes are in the window. */
  has(length: number): boolean {
    return this.#at + length <= this.#windowStart + this.#window.length
  }

  /** Brings the next `length` bytes into the window, `length` being less than a window. */
  async load(length: number): Promise<void> {
    if (this.#at + length > this.#end) throw malformed('it ends too early')
    const read = Math.min(windowBytes, this.#end - this.#at)
    this.#window = viewOf(await this.#source.readAt(this.#at, read))
    this.#windowStart = this.#at
  }

  u32(): number {
    const value = this.#window.readUInt32LE(this.#at - this.#windowStart)
    this.#at += 4
    return value
  }

  /** Not exact from 2^53 on, which is past the end of every file. */
  u64(): number {
    return this.u32() + this.u32() * 2 ** 32
  }

  bytes(length: number): Buffer {
    const start = this.#at - this.#windowStart
    this.#at += length
    return this.#window.subarray(start, start + length)
  }

  /** Any length, whether in the window or not. */
  skip(length: number): void {
    this.#at += length
    if (this.#at > this.#end) throw malformed('it ends too early')
  }

  /** Skips `count` strings, each a u64 length and its bytes. */
  async skipStrings(count: number): Promise<void> {
    for (let left = count; left > 0; left -= 1) {
      if (!this.has(8)) await this.load(8)
      this.skip(this.u64())
    }
  }
}
