/**
 * FrameTransport over the TLS socket of a lane, in any thread.
 *
 * A part that was sent goes to OpenSSL where it lies and must not change until it is written. Received
 * bytes are handed to the decoder before the memory they came in is used again.
 */

import type { TLSSocket } from 'node:tls'
import { raceSignal } from '../core/async.ts'
import { LimitError, UnavailableError } from '../core/errors.ts'
import { MiB, second } from '../core/units.ts'
import type { FrameReceiver } from '../wire/frames.ts'
import { Inbox } from '../wire/inbox.ts'
import { Outbox } from '../wire/outbox.ts'
import type { FrameTransport } from '../wire/transport.ts'

/** Enough queued that the socket never waits for the next piece; bulk data waits beyond. */
const queuedBytesEnough = MiB
/** A peer that does not read lets control frames pile up; data waits for `drained` and does not. */
const queuedBytesMax = 6 * MiB
/** What may come before `start`: one read, as reading stops then; more breaks no memory but the rule. */
const earlyBytesMax = MiB
/** How long a closing lane may take to get its last bytes out and to see the other side's end. */
const closeMs = 2 * second

export class LaneTransport implements FrameTransport {
  readonly #socket: TLSSocket
  readonly #out = new Outbox((parts, bytes) => this.#write(parts, bytes))
  readonly #gone = Promise.withResolvers<void>()
  readonly #in = new Inbox()
  /** Copies of what came before anybody listened. */
  #early: Uint8Array[] = []
  /** Given to the socket and not yet with the kernel. */
  #queuedBytes = 0
  /** Who waits for the first so many bytes to be out; in order. */
  #unwritten: { readonly bytes: number; readonly resolve: () => void }[] = []
  bytesReceived = 0

  /** Of a socket whose peer is known; whoever reads from it calls `take`. */
  constructor(socket: TLSSocket) {
    this.#socket = socket
    socket.on('error', error => {
      this.#finish(new UnavailableError(`the lane broke: ${error.message}`, { cause: error }))
    })
    socket.on('close', () => {
      this.#gone.resolve()
      this.#finish(new UnavailableError('the lane was closed'))
    })
    socket.on('end', this.#onEnd)
  }

  get closed(): AbortSignal {
    return this.#out.closed
  }

  get bytesSent(): number {
    return this.#out.bytesSent
  }

  start(receiver: FrameReceiver): void {
    this.#in.open(receiver)
    // Not within the call: the caller is not ready before it returns.
    queueMicrotask(() => {
      const early = this.#early
      this.#early = []
      this.#in.take(early)
    })
  }

  /** Bytes came, in memory that is used again after this call. */
  take(bytes: Uint8Array): void {
    this.bytesReceived += bytes.length
    if (this.#in.isOpen && this.#early.length === 0) this.#in.take([bytes])
    else this.#keepEarly(bytes)
  }

  send(...parts: Uint8Array[]): boolean {
    return this.#out.send(parts)
  }

  drained(signal?: AbortSignal): Promise<void> {
    return this.#out.drained(signal)
  }

  written(): Promise<void> {
    this.#out.flush()
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#unwritten.push({ bytes: this.bytesSent, resolve })
    if (this.#queuedBytes === 0) this.#tellWritten()
    return promise
  }

  async close(reason: Error): Promise<void> {
    if (this.closed.aborted) return
    this.#out.flush()
    this.#finish(reason)
    this.#socket.end()
    try {
      await raceSignal(this.#gone.promise, AbortSignal.timeout(closeMs))
    } catch {
      // The other side does not read, or does not close.
    }
    this.#socket.destroy()
  }

  abort(reason: Error): void {
    if (this.closed.aborted) return
    this.#finish(reason)
    this.#socket.destroy()
  }

  #keepEarly(bytes: Uint8Array): void {
    const kept = this.#early.reduce((total, { length }) => total + length, 0)
    if (kept + bytes.length > earlyBytesMax) this.abort(new LimitError('too much before the start'))
    else this.#early.push(new Uint8Array(bytes))
  }

  /** The other side will send nothing more; half a lane is of no use to anybody. */
  readonly #onEnd = (): void => {
    const where = this.#in.isCut ? ' inside a frame' : ''
    void this.close(new UnavailableError(`the peer closed the lane${where}`))
  }

  #write(parts: Uint8Array[], bytes: number): void {
    this.#setQueued(this.#queuedBytes + bytes)
    const last = parts.pop() as Uint8Array
    this.#socket.cork()
    for (const part of parts) this.#socket.write(part)
    this.#socket.write(last, () => this.#onWritten(bytes))
    this.#socket.uncork()
    if (this.#queuedBytes > queuedBytesMax) {
      this.abort(new LimitError('the peer does not read what it asked for'))
    }
  }

  #onWritten(bytes: number): void {
    this.#setQueued(this.#queuedBytes - bytes)
    this.#tellWritten()
  }

  #setQueued(bytes: number): void {
    this.#queuedBytes = bytes
    this.#out.hasRoom = bytes < queuedBytesEnough
  }

  #tellWritten(): void {
    // After the end nobody can tell what still lies in the socket.
    if (this.closed.aborted) return
    const bytes = this.bytesSent - this.#queuedBytes
    while (this.#unwritten[0] !== undefined && this.#unwritten[0].bytes <= bytes) {
      this.#unwritten.shift()?.resolve()
    }
  }

  #finish(reason: Error): void {
    if (!this.#out.end(reason)) return
    // Reading goes on, or the other side's end would never be seen: what still comes is dropped.
    this.#in.stop()
    this.#early = []
    this.#unwritten = []
  }
}
