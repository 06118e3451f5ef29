/**
 * Sends a file: one piece is read while the one before leaves. Memory is two pieces a reader, taken
 * from a pool; a reader that takes nothing for a while is cut off. What is still being fetched is sent
 * as it comes, never silent for long.
 */

import type { ServerResponse } from 'node:http'
import { raceSignal } from '../../../src/core/async.ts'
import type { Clock } from '../../../src/core/clock.ts'
import { UnavailableError } from '../../../src/core/errors.ts'
import { minute, second } from '../../../src/core/units.ts'
import { type OpenedFile, readBytesMax, type Span } from '../../../src/node.ts'

/** Bodies under way: each holds two pieces of memory. More are told to come back. */
export const bodiesMax = 128
/** Buffers kept for the next body: those of 16. */
const buffersKeptMax = 32
/** A reader that takes nothing for so long is gone, or wants to hold memory. */
const readerPatienceMs = 2 * minute
/** Clients of a hub give up after ten seconds without a byte. */
const beatMs = 4 * second
const firstByteMs = 8 * second
/** One every four seconds, for longer than a download waits for somebody to serve: five minutes. */
const heldBackBytes = 128
const noFirstByte = 'nobody has served the first byte yet'

export interface Reader {
  readonly response: ServerResponse
  readonly clock: Clock
  readonly writeHead: () => void
  /** How long the first byte is waited for. */
  readonly patienceMs?: number | undefined
  /** What the address of the reader may have. */
  readonly allowance: { allow(bytes: number, signal: AbortSignal): Promise<void> }
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
  async send(file: OpenedFile, span: Span, reader: Reader): Promise<void> {
    const { allowance, clock, patienceMs = firstByteMs, response, writeHead } = reader
    const gone = goneSignal(response)
    // Each write hears of it by itself; unheard here it would end the process.
    response.on('error', () => undefined)
    const buffers = [this.#take(), this.#take()]
    const outlet = new Outlet({ response, clock, gone, patienceMs })
    this.#running += 1
    try {
      for (let offset = span.offset, turn = 0; offset < span.end; turn ^= 1) {
        const into = buffers[turn] as Buffer
        const reading = file.read({ offset, end: span.end }, into, gone)
        const bytes = await outlet.waitFor(reading)
        offset += bytes.length
        await allowance.allow(bytes.length, gone)
        if (!response.headersSent) writeHead()
        await outlet.write(bytes, { isRestHere: offset === span.end || file.isWhole })
      }
      await outlet.end()
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

/** Whatever its socket says: that is no failure of ours. */
function readerLeft(): DOMException {
  return new DOMException('the reader left', 'AbortError')
}

interface OutletDeps {
  readonly response: ServerResponse
  readonly clock: Clock
  readonly gone: AbortSignal
  readonly patienceMs: number
}

/**
 * The writing side of one body. While the rest of a file is still being fetched some bytes are held
 * back, and given one by one when nothing else comes: clients take ten seconds of silence for the end.
 */
class Outlet {
  readonly #deps: OutletDeps
  /** The write of the piece before, whose memory is read into after it. */
  #leaving: Promise<void> = Promise.resolve()
  #heldBack = Buffer.alloc(0)

  constructor(deps: OutletDeps) {
    this.#deps = deps
  }

  /** The next piece; meanwhile a byte is given now and then. UnavailableError when the first is late. */
  async waitFor(reading: Promise<Uint8Array>): Promise<Uint8Array> {
    const { clock, patienceMs, response } = this.#deps
    // Its failure is heard when it is awaited below.
    reading.catch(() => undefined)
    const stop = new AbortController()
    try {
      for (let waits = 1; ; waits += 1) {
        const silence = clock.sleep(beatMs, stop.signal).then(() => undefined)
        silence.catch(() => undefined)
        const bytes = await Promise.race([reading, silence])
        if (bytes !== undefined) return bytes
        if (response.headersSent) await this.#beat()
        else if (waits * beatMs >= patienceMs) throw new UnavailableError(noFirstByte)
      }
    } finally {
      stop.abort()
    }
  }

  /** Resolves when the piece before has left our memory. */
  async write(bytes: Uint8Array, { isRestHere }: { isRestHere: boolean }): Promise<void> {
    const kept = isRestHere ? 0 : Math.min(heldBackBytes, bytes.length)
    await this.#flush()
    // A copy: the memory of the piece is used for another one before these leave.
    this.#heldBack = Buffer.from(bytes.subarray(bytes.length - kept))
    this.#leaving = write(this.#deps, bytes.subarray(0, bytes.length - kept))
    this.#leaving.catch(() => undefined)
  }

  async end(): Promise<void> {
    await this.#flush()
    await this.#leaving
    this.#deps.response.end()
  }

  async #flush(): Promise<void> {
    const bytes = this.#heldBack
    this.#heldBack = Buffer.alloc(0)
    await this.#leaving
    if (bytes.length > 0) await write(this.#deps, bytes)
  }

  async #beat(): Promise<void> {
    const byte = this.#heldBack.subarray(0, 1)
    this.#heldBack = this.#heldBack.subarray(1)
    await this.#leaving
    if (byte.length > 0) await write(this.#deps, byte)
  }
}

/** Resolves when the bytes have left our memory. */
async function write({ response, clock, gone }: OutletDeps, bytes: Uint8Array): Promise<void> {
  gone.throwIfAborted()
  const left = new Promise<void>((resolve, reject) => {
    response.write(bytes, error => (error ? reject(readerLeft()) : resolve()))
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
