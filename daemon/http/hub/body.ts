/**
 * Sends a file: one piece is read while the one before leaves. Memory is two pieces a reader, taken
 * from a pool; a reader that takes nothing for a while is cut off.
 */

import type { ServerResponse } from 'node:http'
import { raceSignal } from '../../../src/core/async.ts'
import type { Clock } from '../../../src/core/clock.ts'
import { minute } from '../../../src/core/units.ts'
import { type OpenedFile, readBytesMax, type Span } from '../../../src/node.ts'

/** Bodies under way: each holds two pieces of memory. More are told to come back. */
export const bodiesMax = 128
/** Buffers kept for the next body: those of 16. */
const buffersKeptMax = 32
/** A reader that takes nothing for so long is gone, or wants to hold memory. */
const readerPatienceMs = 2 * minute

export interface Reader {
  readonly response: ServerResponse
  readonly clock: Clock
  readonly writeHead: () => void
}

export class Bodies {
  readonly #free: Buffer[] = []
  #running = 0

  get isFull(): boolean {
    return this.#running >= bodiesMax
  }

  /**
   * Writes the span; `writeHead` is called when the first bytes are here. Rejects when it cannot be
   * completed: with the response untouched before that call, and destroyed after it.
   */
  async send(file: OpenedFile, span: Span, { response, clock, writeHead }: Reader): Promise<void> {
    const gone = goneSignal(response)
    const buffers = [this.#take(), this.#take()]
    this.#running += 1
    let leaving = Promise.resolve()
    try {
      for (let offset = span.offset, turn = 0; offset < span.end; turn ^= 1) {
        const into = buffers[turn] as Buffer
        const bytes = await file.read({ offset, end: span.end }, into, gone)
        offset += bytes.length
        if (!response.headersSent) writeHead()
        // Its buffer is read into next.
        await leaving
        leaving = write(response, bytes, { clock, gone })
        leaving.catch(() => undefined)
      }
      await leaving
      response.end()
    } catch (error) {
      if (response.headersSent) response.destroy()
      throw error
    } finally {
      this.#running -= 1
      // A write that never ended may still read from its buffer: those are not used again.
      if (response.writableEnded) this.#giveBack(buffers)
    }
  }

  #take(): Buffer {
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(readBytesMax)
  }

  #giveBack(buffers: readonly Buffer[]): void {
    const room = buffersKeptMax - this.#free.length
    this.#free.push(...buffers.slice(0, Math.max(0, room)))
  }
}

/** Aborts when nobody reads the answer any more. */
export function goneSignal(response: ServerResponse): AbortSignal {
  const gone = new AbortController()
  if (response.destroyed) gone.abort()
  else response.once('close', () => gone.abort())
  return gone.signal
}

/** Resolves when the bytes have left our memory. */
async function write(
  response: ServerResponse,
  bytes: Uint8Array,
  { clock, gone }: { clock: Clock; gone: AbortSignal },
): Promise<void> {
  const left = new Promise<void>((resolve, reject) => {
    response.write(bytes, error => (error ? reject(error) : resolve()))
  })
  const done = new AbortController()
  const late = clock.sleep(readerPatienceMs, done.signal).then(
    () => response.destroy(),
    () => undefined,
  )
  try {
    await raceSignal(left, gone)
  } finally {
    done.abort()
    await late
  }
}
