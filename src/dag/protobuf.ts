/**
 * The little of protobuf that dag-pb and UnixFS need, for whole numbers up to 2^53. Written here
 * because the runtime that js-ipfs uses encodes every number from 2^31 to 2^32 wrongly, and model
 * shards have just these sizes.
 */

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
