/** The receiving half that all transports share: bytes become frames until the end, or until they break the rules. */

import { ProtocolError } from '../core/errors.ts'
import { FrameDecoder, type FrameReceiver } from './frames.ts'

export class Inbox {
  #receiver: FrameReceiver | undefined
  #decoder: FrameDecoder | undefined

  get isOpen(): boolean {
    return this.#decoder !== undefined
  }

  /** The last frame is not whole: whoever ends now was cut. */
  get isCut(): boolean {
    return this.#decoder?.isBetweenFrames === false
  }

  open(receiver: FrameReceiver): void {
    this.#receiver = receiver
    this.#decoder = new FrameDecoder(receiver)
  }

  /** Of any number of parts: a peer may have sent them one byte at a time. */
  take(parts: Iterable<Uint8Array>): void {
    try {
      for (const part of parts) this.#decoder?.push(part)
    } catch (error) {
      // A bug ends the transport too, and not the process, since a peer chose what was decoded.
      this.stop()
      this.#receiver?.failed(error instanceof Error ? error : new ProtocolError(String(error)))
    }
  }

  /** What still comes is dropped. */
  stop(): void {
    this.#decoder?.stop()
  }
}
