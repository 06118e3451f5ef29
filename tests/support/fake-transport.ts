/** A FrameTransport under a test's control: shows what was sent, and holds back or closes when told. */

import { FrameDecoder, type FrameHeader, type FrameReceiver } from '../../src/wire/frames.ts'
import type { FrameTransport } from '../../src/wire/transport.ts'

export interface SentFrame extends FrameHeader {
  readonly payload: Uint8Array
}

export class FakeTransport implements FrameTransport {
  readonly #closing = new AbortController()
  #receiver: FrameReceiver | undefined
  #decoder: FrameDecoder | undefined
  #drain: PromiseWithResolvers<void> | undefined
  readonly sent: SentFrame[] = []
  bytesReceived = 0
  bytesSent = 0
  readonly #sentDecoder = new FrameDecoder({
    place: header => new Uint8Array(header.length),
    frame: (header, payload = new Uint8Array(0)) => this.sent.push({ ...header, payload }),
    failed: () => undefined,
  })

  get closed(): AbortSignal {
    return this.#closing.signal
  }

  start(receiver: FrameReceiver): void {
    this.#receiver = receiver
    this.#decoder = new FrameDecoder(receiver)
  }

  /** Bytes from the other side. */
  receive(...parts: Uint8Array[]): void {
    try {
      for (const part of parts) this.#decoder?.push(part)
    } catch (error) {
      this.#decoder?.stop()
      this.#receiver?.failed(error as Error)
    }
  }

  send(...parts: Uint8Array[]): boolean {
    if (this.closed.aborted) return false
    for (const part of parts) {
      this.bytesSent += part.length
      this.#sentDecoder.push(part)
    }
    return this.#drain === undefined
  }

  async drained(signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted()
    this.closed.throwIfAborted()
    await this.#drain?.promise
  }

  /** Asks everybody to wait before sending more. */
  holdBack(): void {
    this.#drain ??= Promise.withResolvers<void>()
    this.#drain.promise.catch(() => undefined)
  }

  letGo(): void {
    this.#drain?.resolve()
    this.#drain = undefined
  }

  ofType(type: number): SentFrame[] {
    return this.sent.filter(frame => frame.type === type)
  }

  async close(reason: Error): Promise<void> {
    this.abort(reason)
  }

  abort(reason: Error): void {
    if (this.closed.aborted) return
    this.#decoder?.stop()
    this.#closing.abort(reason)
    this.#drain?.reject(reason)
  }
}
