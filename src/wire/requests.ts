/**
 * Our requests on one channel: their ids, what may be answered to each, the answers being put
 * together, and what was cancelled but not yet answered. Pure: frames in, frames out through `send`.
 *
 * Every request gets exactly one answer, cancelled or not, so an id is free again only when the
 * answer came; whatever answers an id that is not outstanding breaks the protocol.
 */

import { LimitError, ProtocolError, UnavailableError } from '../core/errors.ts'
import { KiB } from '../core/units.ts'
import { encodeFrame, flagMore, type FrameHeader, type FrameType, frameTypes } from './frames.ts'
import { type Reason, refusalCodes } from './messages.ts'

/** Callers waiting for their turn: a download asks for what is in flight, and little more. */
const waitingMax = 4096

/** What counts as an answer. */
export type AnswerShape =
  /** Exactly so many bytes: a chunk. */
  | { readonly shape: 'exact'; readonly bytes: number }
  /** At most so many bytes: a manifest or a chunk table. */
  | { readonly shape: 'upTo'; readonly bytes: number }
  /** One frame of another type: peers. */
  | { readonly shape: 'frame'; readonly type: FrameType }

/** Gives the memory for an answer of an exact size: at least so many bytes. */
export type Allocate = (bytes: number) => Uint8Array

interface Outstanding {
  readonly answer: AnswerShape
  readonly allocate: Allocate
  readonly frame: Uint8Array
  readonly settle: PromiseWithResolvers<Uint8Array>
  /** 0 until sent. */
  id: number
  cancelled: boolean
  buffer: Uint8Array | undefined
  received: number
}

export interface RequestSpec {
  readonly type: FrameType
  readonly payload: Uint8Array
  readonly answer: AnswerShape
  readonly signal: AbortSignal
  /**
   * Called when the first byte of an exact answer comes. Whoever gets the answer owns the memory; of a
   * request that fails or is cancelled it must not be used again, as the rest of a frame may still be
   * written there.
   */
  readonly allocate?: Allocate
}

/** Not zeroed: every byte handed out was written by a frame before. */
const fresh: Allocate = bytes => Buffer.allocUnsafeSlow(bytes)

/** First allocation for an answer of unknown size; doubles as bytes really arrive, whatever was said. */
const firstBytes = 64 * KiB

export class RequestTable {
  readonly #send: (frame: Uint8Array) => void
  readonly #outstanding = new Map<number, Outstanding>()
  #waiting: Outstanding[] = []
  #inFlightMax = 0
  #nextId = 1
  #error: Error | undefined

  constructor(send: (frame: Uint8Array) => void) {
    this.#send = send
  }

  get inFlight(): number {
    return this.#outstanding.size
  }

  /** The other side's limit, known from its hello; nothing is sent before. */
  open(inFlightMax: number): void {
    this.#inFlightMax = inFlightMax
    this.#sendWaiting()
  }

  /** Resolves with the answer's bytes; rejects with UnavailableError or LimitError when refused. */
  async request(spec: RequestSpec): Promise<Uint8Array> {
    spec.signal.throwIfAborted()
    if (this.#error !== undefined) throw this.#error
    if (this.#waiting.length >= waitingMax) throw new LimitError('too many requests wait')
    const entry: Outstanding = {
      answer: spec.answer,
      allocate: spec.allocate ?? fresh,
      frame: encodeFrame(spec.type, 1, spec.payload),
      settle: Promise.withResolvers<Uint8Array>(),
      id: 0,
      cancelled: false,
      buffer: undefined,
      received: 0,
    }
    this.#waiting.push(entry)
    this.#sendWaiting()
    const onAbort = (): void => this.#cancel(entry, spec.signal.reason as Error)
    spec.signal.addEventListener('abort', onAbort, { once: true })
    try {
      return await entry.settle.promise
    } finally {
      spec.signal.removeEventListener('abort', onAbort)
    }
  }

  /** Where the payload of a data frame goes; undefined when nobody wants it any more. */
  place(header: FrameHeader): Uint8Array | undefined {
    const entry = this.#expect(header.id)
    if (entry.answer.shape === 'frame') throw new ProtocolError('data answers a question for more')
    const end = entry.received + header.length
    if (end > entry.answer.bytes) {
      throw new ProtocolError(`an answer of ${end} bytes; ${entry.answer.bytes} were asked for`)
    }
    if (entry.cancelled) return undefined
    return room(entry, end).subarray(entry.received, end)
  }

  /** A data frame is complete. */
  data(header: FrameHeader): void {
    const entry = this.#expect(header.id)
    if (entry.answer.shape === 'frame') throw new ProtocolError('data answers a question for more')
    entry.received += header.length
    if ((header.flags & flagMore) !== 0) return
    const { answer, received } = entry
    if (answer.shape === 'exact' && received !== answer.bytes) {
      throw new ProtocolError(`an answer of ${received} bytes; ${answer.bytes} were asked for`)
    }
    this.#finish(entry).resolve(entry.buffer?.subarray(0, received) ?? new Uint8Array(0))
  }

  /** A frame that answers as a whole is complete. */
  whole(header: FrameHeader, payload: Uint8Array): void {
    const entry = this.#expect(header.id)
    if (entry.answer.shape !== 'frame' || entry.answer.type !== header.type) {
      throw new ProtocolError('an answer of another kind than was asked for')
    }
    this.#finish(entry).resolve(payload)
  }

  refuse(header: FrameHeader, reason: Reason): void {
    const entry = this.#expect(header.id)
    this.#finish(entry).reject(errorOf(reason))
  }

  /** The channel is gone: nothing will be answered. */
  fail(error: Error): void {
    if (this.#error !== undefined) return
    this.#error = error
    for (const entry of [...this.#outstanding.values(), ...this.#waiting]) {
      entry.settle.reject(error)
    }
    this.#outstanding.clear()
    this.#waiting = []
  }

  #cancel(entry: Outstanding, reason: Error): void {
    entry.settle.reject(reason)
    if (entry.cancelled) return
    entry.cancelled = true
    entry.buffer = undefined
    if (entry.id === 0) this.#waiting = this.#waiting.filter(other => other !== entry)
    else if (this.#outstanding.get(entry.id) === entry) {
      this.#send(encodeFrame(frameTypes.cancel, entry.id, new Uint8Array(0)))
    }
  }

  #sendWaiting(): void {
    while (this.#outstanding.size < this.#inFlightMax) {
      const entry = this.#waiting.shift()
      if (entry === undefined) return
      entry.id = this.#takeId()
      new DataView(entry.frame.buffer).setUint32(8, entry.id, true)
      this.#outstanding.set(entry.id, entry)
      this.#send(entry.frame)
    }
  }

  #takeId(): number {
    while (this.#nextId === 0 || this.#outstanding.has(this.#nextId)) {
      this.#nextId = (this.#nextId + 1) >>> 0
    }
    const id = this.#nextId
    this.#nextId = (id + 1) >>> 0
    return id
  }

  #expect(id: number): Outstanding {
    const entry = this.#outstanding.get(id)
    if (entry === undefined) throw new ProtocolError(`an answer to ${id}, which was not asked`)
    return entry
  }

  #finish(entry: Outstanding): PromiseWithResolvers<Uint8Array> {
    this.#outstanding.delete(entry.id)
    this.#sendWaiting()
    return entry.settle
  }
}

/** The entry's buffer, large enough for `end` bytes. */
function room(entry: Outstanding, end: number): Uint8Array {
  const buffer = entry.buffer
  if (buffer !== undefined && buffer.length >= end) return buffer
  const { answer } = entry
  if (answer.shape === 'frame') throw new ProtocolError('data answers a question for more')
  // A chunk gets its one buffer at once; it is not asked for before its size is known.
  const larger =
    answer.shape === 'exact'
      ? entry.allocate(answer.bytes)
      : fresh(Math.min(answer.bytes, Math.max(firstBytes, end, (buffer?.length ?? 0) * 2)))
  if (buffer !== undefined) larger.set(buffer.subarray(0, entry.received))
  entry.buffer = larger
  return larger
}

/** A busy peer can be asked again later; any other refusal is about what was asked for. */
function errorOf({ code, text }: Reason): Error {
  const more = text === '' ? '' : `: ${text}`
  if (code === refusalCodes.busy) return new LimitError(`refused, busy${more}`)
  if (code === refusalCodes.notHeld) return new UnavailableError(`refused, not held${more}`)
  return new UnavailableError(`refused, code ${code}${more}`)
}
