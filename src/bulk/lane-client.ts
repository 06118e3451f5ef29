/**
 * The fetching end of a lane: says hello, asks for chunks, puts the answers together in pooled
 * memory. The other end only answers. Runs in a thread of the data plane, over any FrameTransport.
 */

import { CommonweightError, LimitError, ProtocolError, UnavailableError } from '../core/errors.ts'
import { MiB, second } from '../core/units.ts'
import { encodeFrame, type FrameHeader, type FrameReceiver, frameTypes } from '../wire/frames.ts'
import {
  decodeHello,
  decodeReason,
  encodeHello,
  encodeReason,
  goodbyeCodes,
  revision,
} from '../wire/messages.ts'
import { RequestTable } from '../wire/requests.ts'
import type { FrameTransport } from '../wire/transport.ts'
import type { BufferPool } from '../core/buffers.ts'

/** A peer that is there says hello within a few round trips, also when its machine is busy. */
const helloTimeoutMs = 10 * second
/** Frames of later revisions, all together: we skip them, but not for ever. */
const skippedBytesMax = 16 * MiB

/** We answer nothing on a lane that we dialled: the least that a hello can say. */
const hello = { revision, requestsInFlightMax: 1, watchesMax: 0, agent: '', features: [] }

export interface FetchedChunk {
  /** Unverified. */
  readonly bytes: Uint8Array
  /** The memory they lie in: goes back to the pool when the bytes are not needed any more. */
  readonly buffer: Uint8Array
}

export class LaneClient implements FrameReceiver {
  readonly #transport: FrameTransport
  readonly #pool: BufferPool
  readonly #requests: RequestTable
  readonly #ready = Promise.withResolvers<number>()
  #isGreeted = false
  #skippedBytes = 0

  /** Says hello at once; call in the same turn the transport was opened. */
  constructor(transport: FrameTransport, pool: BufferPool) {
    this.#transport = transport
    this.#pool = pool
    this.#requests = new RequestTable(frame => transport.send(frame))
    const late = setTimeout(() => {
      transport.abort(new UnavailableError('no hello in time'))
    }, helloTimeoutMs)
    const onClosed = (): void => {
      clearTimeout(late)
      const reason = transport.closed.reason as Error
      this.#ready.reject(reason)
      this.#requests.fail(reason)
    }
    this.#ready.promise.then(
      () => clearTimeout(late),
      () => undefined,
    )
    transport.closed.addEventListener('abort', onClosed, { once: true })
    transport.start(this)
    transport.send(encodeFrame(frameTypes.hello, 0, encodeHello(hello)))
  }

  /** Requests that the peer takes at a time, once its hello came. */
  get ready(): Promise<number> {
    return this.#ready.promise
  }

  get closed(): AbortSignal {
    return this.#transport.closed
  }

  get bytesReceived(): number {
    return this.#transport.bytesReceived
  }

  /** `ask` is the payload of a get-chunk frame. */
  async fetch(ask: Uint8Array, length: number, signal: AbortSignal): Promise<FetchedChunk> {
    let buffer: Uint8Array = nothing
    const bytes = await this.#requests.request({
      type: frameTypes.getChunk,
      payload: ask,
      answer: { shape: 'exact', bytes: length },
      signal,
      allocate: size => (buffer = this.#pool.take(size)),
    })
    return { bytes, buffer }
  }

  async close(reason: Error): Promise<void> {
    const code = reason instanceof ProtocolError ? goodbyeCodes.protocol : goodbyeCodes.stopping
    // Of a bug the peer learns nothing.
    const text = reason instanceof CommonweightError ? reason.message : 'internal error'
    const payload = encodeReason({ code, text })
    this.#transport.send(encodeFrame(frameTypes.goodbye, 0, payload))
    await this.#transport.close(reason)
  }

  place(header: FrameHeader): Uint8Array | undefined {
    switch (header.type) {
      case frameTypes.data:
        return this.#requests.place(header)
      case frameTypes.hello:
      case frameTypes.goodbye:
      case frameTypes.refusal:
        return new Uint8Array(header.length)
      default:
        this.#skip(header)
        return undefined
    }
  }

  frame(header: FrameHeader, payload: Uint8Array = nothing): void {
    if (header.type === frameTypes.hello) return this.#onHello(payload)
    if (header.type === frameTypes.goodbye) {
      const { code, text } = decodeReason(payload)
      void this.#transport.close(new UnavailableError(`the peer said goodbye: ${text || code}`))
      return
    }
    if (!this.#isGreeted) throw new ProtocolError('the lane does not begin with a hello')
    if (header.type === frameTypes.data) this.#requests.data(header)
    else if (header.type === frameTypes.refusal)
      this.#requests.refuse(header, decodeReason(payload))
    else if (header.length === 0) this.#skip(header)
  }

  failed(error: Error): void {
    void this.close(error)
  }

  #onHello(payload: Uint8Array): void {
    if (this.#isGreeted) throw new ProtocolError('a second hello')
    const { requestsInFlightMax } = decodeHello(payload)
    this.#isGreeted = true
    this.#requests.open(requestsInFlightMax)
    this.#ready.resolve(requestsInFlightMax)
  }

  #skip({ type, length }: FrameHeader): void {
    if (knownTypes.has(type))
      throw new ProtocolError(`frame type 0x${type.toString(16)} on a lane we dialled`)
    this.#skippedBytes += length + 1
    if (this.#skippedBytes > skippedBytesMax) throw new LimitError('too much that we do not know')
  }
}

const nothing = new Uint8Array(0)
const knownTypes: ReadonlySet<number> = new Set(Object.values(frameTypes))
