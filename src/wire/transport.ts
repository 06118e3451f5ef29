/**
 * The seam between the swarm protocol and whatever carries its frames: a libp2p stream now, a TLS
 * lane owned by a worker thread later. Everything above speaks this interface only.
 */

import type { FrameReceiver } from './frames.ts'

export interface FrameTransport {
  /** Aborted, with the error, once nothing more will be sent or received. */
  readonly closed: AbortSignal
  readonly bytesReceived: number
  readonly bytesSent: number
  /**
   * Starts delivering; call it in the same turn the transport was opened, or bytes may be lost. Bytes
   * that break the rules end the delivery with `receiver.failed`.
   */
  start(receiver: FrameReceiver): void
  /**
   * Sends one frame, given in parts. The parts belong to the transport from now on. Never blocks
   * and never throws; false asks the caller to await `drained` before sending bulk data.
   */
  send(...parts: Uint8Array[]): boolean
  /** Resolves when bulk data may be sent again; rejects when closed, or with the signal's reason. */
  drained(signal?: AbortSignal): Promise<void>
  /**
   * Resolves when what was sent so far is out, and the memory it lay in may be used again. Not there
   * when the transport cannot tell; never settles once it is closed.
   */
  written?(): Promise<void>
  /** Ends both directions once what was sent has gone out, or after a short while. */
  close(reason: Error): Promise<void>
  /** Ends at once; the other side sees a reset. Does nothing while closing. */
  abort(reason: Error): void
}
