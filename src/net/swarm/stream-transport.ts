/**
 * FrameTransport over a libp2p stream.
 *
 * What libp2p 3 makes us do (each was reproduced): listeners are attached before anything is awaited,
 * since a stream without a listener is reset after 4 MiB; `for await` over a stream hangs when the
 * other side's FIN came first; a buffer given to `send` is queued by reference; and `onDrain()` keeps
 * its first promise for ever, so that it stops holding back after the first time: we listen to the
 * event ourselves.
 */

import type { Stream, StreamMessageEvent } from '@libp2p/interface'
import { Uint8ArrayList } from 'uint8arraylist'
import { raceSignal } from '../../core/async.ts'
import { LimitError, UnavailableError } from '../../core/errors.ts'
import { MiB, second } from '../../core/units.ts'
import { type FrameReceiver, pieceBytes } from '../../wire/frames.ts'
import { Inbox } from '../../wire/inbox.ts'
import { Outbox } from '../../wire/outbox.ts'
import type { FrameTransport } from '../../wire/transport.ts'

/** A peer that does not read lets control frames pile up; data waits for `drained` and does not. */
const queuedBytesMax = 4 * MiB

/** How long a closing stream may take to get its last bytes out and to see the other side's end. */
const closeMs = 2 * second

export function openStreamTransport(stream: Stream): FrameTransport {
  return new StreamTransport(stream)
}

class StreamTransport implements FrameTransport {
  readonly #stream: Stream
  readonly #out = new Outbox(parts => this.#write(parts))
  /** Resolves when libp2p is done with the stream. */
  readonly #gone = Promise.withResolvers<void>()
  readonly #in = new Inbox()
  bytesReceived = 0

  constructor(stream: Stream) {
    this.#stream = stream
  }

  get closed(): AbortSignal {
    return this.#out.closed
  }

  get bytesSent(): number {
    return this.#out.bytesSent
  }

  start(receiver: FrameReceiver): void {
    const stream = this.#stream
    this.#in.open(receiver)
    stream.addEventListener('message', this.#onMessage)
    stream.addEventListener('drain', this.#onDrain)
    stream.addEventListener('end', this.#onEnd)
    stream.addEventListener('close', event => {
      this.#gone.resolve()
      this.#finish(new UnavailableError('the stream was closed', { cause: event.error }))
    })
    // Ended before we listened, perhaps with bytes that wait for a listener: those come in a microtask
    // that was put in line by attaching ours.
    if (stream.readableEnded || stream.status !== 'open') queueMicrotask(this.#onEnd)
  }

  send(...parts: Uint8Array[]): boolean {
    return this.#out.send(parts)
  }

  drained(signal?: AbortSignal): Promise<void> {
    return this.#out.drained(signal)
  }

  async close(reason: Error): Promise<void> {
    if (this.closed.aborted) return
    this.#out.flush()
    this.#finish(reason)
    const signal = AbortSignal.timeout(closeMs)
    try {
      await this.#stream.close({ signal })
      // A connection that goes down with our last words unread takes them with it.
      if (this.#stream.status !== 'closed') await raceSignal(this.#gone.promise, signal)
    } catch {
      // The other side does not read: a reset is all that is left.
    }
    this.#stream.abort(reason)
  }

  abort(reason: Error): void {
    if (this.closed.aborted) return
    this.#finish(reason)
    this.#stream.abort(reason)
  }

  readonly #onMessage = (event: StreamMessageEvent): void => {
    this.bytesReceived += event.data.byteLength
    this.#in.take(event.data instanceof Uint8Array ? [event.data] : event.data)
  }

  /** The other side will send nothing more; half a channel is of no use to anybody. */
  readonly #onEnd = (): void => {
    // A process that is killed cuts its stream anywhere: that is no breach of the rules.
    const where = this.#in.isCut ? ' inside a frame' : ''
    void this.close(new UnavailableError(`the peer closed the stream${where}`))
  }

  readonly #onDrain = (): void => {
    // libp2p sends what it queued in a microtask of its own, which was put in line before this one;
    // only after it the stream can tell whether it takes more.
    queueMicrotask(() => {
      if (!this.#stream.writableNeedsDrain) this.#out.hasRoom = true
    })
  }

  #write(parts: Uint8Array[]): void {
    const [only] = parts
    const bytes = only !== undefined && parts.length === 1 ? only : new Uint8ArrayList(...parts)
    try {
      this.#out.hasRoom = this.#stream.send(bytes)
    } catch (error) {
      this.abort(new UnavailableError('the stream takes no more bytes', { cause: error }))
      return
    }
    if (!this.#out.hasRoom && this.#stream.writeBufferLength > queuedBytesMax + pieceBytes) {
      this.abort(new LimitError('the peer does not read what it asked for'))
    }
  }

  #finish(reason: Error): void {
    // The listener stays: what still comes is dropped, and would fill the stream's buffer otherwise.
    if (this.#out.end(reason)) this.#in.stop()
  }
}
