/**
 * Bytes ⇄ frames, with every bound of docs/spec/wire.md. A frame is a header of 12 bytes and a
 * payload; the decoder takes bytes as they come and copies each payload once, into memory that the
 * receiver chose when it saw the header. Pure: knows no stream, socket or message.
 */

import { ProtocolError } from '../core/errors.ts'
import { KiB, MiB } from '../core/units.ts'

/** length u32, type u8, flags u8, reserved u16, id u32; little endian. */
export const headerBytes = 12

/** One chunk: the largest answer that comes in one frame. Equals chunkBytesMax of dag/. */
export const dataBytesMax = MiB
/** A have frame with 131 000 ranges; no other control message comes near. */
const controlBytesMax = MiB

/** What we send at once: larger sends would let a chunk hold up DHT queries on the same connection. */
export const pieceBytes = 256 * KiB

export const frameTypes = {
  hello: 0x01,
  goodbye: 0x02,
  watch: 0x10,
  unwatch: 0x11,
  have: 0x12,
  getManifest: 0x20,
  getTable: 0x21,
  getChunk: 0x22,
  getPeers: 0x23,
  cancel: 0x2f,
  data: 0x30,
  refusal: 0x31,
  peers: 0x32,
  dialLane: 0x80,
} as const
export type FrameType = (typeof frameTypes)[keyof typeof frameTypes]

/** Types from here on may be unknown to the receiver, who then skips the frame. */
const optionalTypeMin = 0x80

/** Data: the answer goes on in another frame. */
export const flagMore = 0x01
/** Each frame costs the receiver the same work, so an answer must not come in crumbs. */
export const moreBytesMin = KiB

export interface FrameHeader {
  /** Bytes of payload. */
  readonly length: number
  /** A FrameType, or an optional type that this version does not know. */
  readonly type: number
  readonly flags: number
  /** Of the request: what asks, answers or cancels has one; anything else has 0. */
  readonly id: number
}

interface TypeRule {
  readonly bytesMin: number
  readonly bytesMax: number
  /** Flags that may be set. */
  readonly flags: number
  readonly hasId: boolean
}

function rule(bytesMin: number, bytesMax: number, hasId: boolean, flags = 0): TypeRule {
  return { bytesMin, bytesMax, flags, hasId }
}

/** The fixed sizes follow from messages.ts; tests/unit/wire/messages.test.ts holds them together. */
const typeRules: ReadonlyMap<number, TypeRule> = new Map([
  [frameTypes.hello, rule(10, 2 * KiB, false)],
  [frameTypes.goodbye, rule(2, 258, false)],
  [frameTypes.watch, rule(44, 1024 * 44, false)],
  [frameTypes.unwatch, rule(4, 1024 * 4, false)],
  [frameTypes.have, rule(5, controlBytesMax, false)],
  [frameTypes.getManifest, rule(36, 36, true)],
  [frameTypes.getTable, rule(36, 36, true)],
  [frameTypes.getChunk, rule(40, 40, true)],
  [frameTypes.getPeers, rule(36, 16 * 36, true)],
  [frameTypes.cancel, rule(0, 0, true)],
  [frameTypes.data, rule(0, dataBytesMax, true, flagMore)],
  [frameTypes.refusal, rule(2, 258, true)],
  [frameTypes.peers, rule(0, 256 * KiB, true)],
  [frameTypes.dialLane, rule(0, 0, false)],
])

/** Checks what a header alone can tell; throws ProtocolError. */
export function checkHeader(header: FrameHeader, reserved: number): void {
  const { length, type, flags, id } = header
  const known = typeRules.get(type)
  const name = `frame type 0x${type.toString(16)}`
  if (known === undefined) {
    if (type < optionalTypeMin) throw new ProtocolError(`${name} is not known`)
    if (length > controlBytesMax) throw new ProtocolError(`${name}: ${length} bytes`)
    return
  }
  if (length < known.bytesMin || length > known.bytesMax) {
    throw new ProtocolError(
      `${name}: ${length} bytes; ${known.bytesMin} to ${known.bytesMax} allowed`,
    )
  }
  if ((flags & ~known.flags) !== 0 || reserved !== 0) {
    throw new ProtocolError(`${name}: reserved bits are set`)
  }
  if (known.hasId !== (id !== 0)) throw new ProtocolError(`${name}: id ${id}`)
  if ((flags & flagMore) !== 0 && length < moreBytesMin) {
    throw new ProtocolError(`${name}: ${length} bytes and more to follow`)
  }
}

/** The 12 bytes before a payload. */
export function encodeHeader(header: FrameHeader): Uint8Array {
  const bytes = new Uint8Array(headerBytes)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, header.length, true)
  view.setUint8(4, header.type)
  view.setUint8(5, header.flags)
  view.setUint32(8, header.id, true)
  return bytes
}

/** A whole control frame in one piece. */
export function encodeFrame(type: FrameType, id: number, payload: Uint8Array): Uint8Array {
  const frame = new Uint8Array(headerBytes + payload.length)
  frame.set(encodeHeader({ length: payload.length, type, flags: 0, id }))
  frame.set(payload, headerBytes)
  return frame
}

/** Who gets the frames. */
export interface FrameReceiver {
  /**
   * Where the payload of a frame that begins goes: `header.length` bytes, written bit by bit as they
   * arrive. Undefined drops the payload. Not called for empty payloads.
   */
  place(header: FrameHeader): Uint8Array | undefined
  /** The frame is complete; `payload` is what `place` returned, or empty. */
  frame(header: FrameHeader, payload: Uint8Array | undefined): void
  /**
   * The bytes broke the rules, or `place` or `frame` threw: nothing more will be decoded, and it is
   * for the receiver to close the transport.
   */
  failed(error: Error): void
}

const nothing = new Uint8Array(0)

/** Takes bytes in any cut and hands over frames. Holds one header and one position, no queue. */
export class FrameDecoder {
  readonly #receiver: FrameReceiver
  readonly #head = new Uint8Array(headerBytes)
  readonly #view = new DataView(this.#head.buffer)
  #headLength = 0
  #header: FrameHeader | undefined
  #payload: Uint8Array | undefined
  #received = 0
  #stopped = false

  constructor(receiver: FrameReceiver) {
    this.#receiver = receiver
  }

  /** True between frames: a stream that ends here was not cut. */
  get isBetweenFrames(): boolean {
    return this.#header === undefined && this.#headLength === 0
  }

  /** Ignores everything from now on, also what is left of the current push. Safe to call from within. */
  stop(): void {
    this.#stopped = true
    this.#payload = undefined
  }

  /** Throws what the receiver throws, or ProtocolError; is of no use after that. */
  push(bytes: Uint8Array): void {
    let at = 0
    while (at < bytes.length && !this.#stopped) {
      at += this.#header === undefined ? this.#takeHead(bytes, at) : this.#takePayload(bytes, at)
    }
  }

  #takeHead(bytes: Uint8Array, at: number): number {
    const take = Math.min(headerBytes - this.#headLength, bytes.length - at)
    this.#head.set(bytes.subarray(at, at + take), this.#headLength)
    this.#headLength += take
    if (this.#headLength < headerBytes) return take
    this.#headLength = 0
    const header: FrameHeader = {
      length: this.#view.getUint32(0, true),
      type: this.#view.getUint8(4),
      flags: this.#view.getUint8(5),
      id: this.#view.getUint32(8, true),
    }
    checkHeader(header, this.#view.getUint16(6, true))
    if (header.length === 0) {
      this.#receiver.frame(header, nothing)
    } else {
      this.#payload = this.#receiver.place(header)
      this.#received = 0
      this.#header = header
    }
    return take
  }

  #takePayload(bytes: Uint8Array, at: number): number {
    const header = this.#header
    if (header === undefined) return 0
    const take = Math.min(header.length - this.#received, bytes.length - at)
    this.#payload?.set(
      at === 0 && take === bytes.length ? bytes : bytes.subarray(at, at + take),
      this.#received,
    )
    this.#received += take
    if (this.#received < header.length) return take
    const payload = this.#payload
    this.#header = undefined
    this.#payload = undefined
    this.#receiver.frame(header, payload)
    return take
  }
}
