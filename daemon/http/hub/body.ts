/**
 * Sends a file: one piece is read while the one before leaves. Memory is two pieces a reader, taken
 * from a pool, and smaller ones when there are many; a reader that takes nothing for a while is cut off.
 * What is still being fetched is sent as it comes, never silent for long.
 */

import type { ServerResponse } from 'node:http'
import type { Clock } from '../../../src/core/clock.ts'
import { UnavailableError } from '../../../src/core/errors.ts'
import { KiB, minute, second } from '../../../src/core/units.ts'
import { type OpenedFile, readBytesMax, type Span } from '../../../src/node.ts'

/** Bodies under way: each holds two pieces of memory. More are told to come back. */
export const bodiesMax = 128
/** So many get the largest pieces, which a fast reader is served best with. */
const largePiecesMax = 8
/** With many readers each gets little at a time anyway, and their memory adds up. */
const smallPieceBytes = 256 * KiB
/** Buffers of 64 readers, 32 MiB: what is dropped stays in memory until the heap is collected, which is late. */
const smallKeptMax = 128
/** A reader that takes nothing for so long is gone, or wants to hold memory. */
const readerPatienceMs = 2 * minute
/** Nor may it be slower for longer than that: it has a place that others wait for. A line of 128 kbit/s. */
const readerBytesPerSecondMin = 16 * KiB
/** Clients of a hub give up after ten seconds without a byte. */
const beatMs = 4 * second
const firstByteMs = 8 * second
/** How often it is looked whether something waits too long: once for many pieces, which take far less. */
const lookMs = second / 2
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
  readonly #large = new Pool(readBytesMax, 2 * largePiecesMax)
  readonly #small = new Pool(smallPieceBytes, smallKeptMax)
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
    const pool = this.#running < largePiecesMax ? this.#large : this.#small
    const buffers = [pool.take(), pool.take()]
    const outlet = new Outlet({ response, clock, gone, patienceMs })
    let reading: Promise<Uint8Array> | undefined
    this.#running += 1
    try {
      for (let offset = span.offset, turn = 0; offset < span.end; turn ^= 1) {
        const into = buffers[turn] as Buffer
        reading = file.read({ offset, end: span.end }, into, gone)
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
      outlet[Symbol.dispose]()
      this.#running -= 1
      const hasLeft = !response.headersSent || response.writableEnded || gone.aborted
      // Once no read can write into them any more, and no write can read from them.
      const isRead = reading?.catch(() => undefined) ?? Promise.resolve()
      void Promise.all([isRead, hasLeft ? Promise.resolve() : closeOf(response)]).then(() =>
        pool.giveBack(buffers),
      )
    }
  }
}

/** Buffers of one size; so many are kept for the next bodies. */
class Pool {
  readonly #free: Buffer[] = []
  readonly #bytes: number
  readonly #keptMax: number

  constructor(bytes: number, keptMax: number) {
    this.#bytes = bytes
    this.#keptMax = keptMax
  }

  take(): Buffer {
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(this.#bytes)
  }

  giveBack(buffers: readonly Buffer[]): void {
    const room = Math.max(0, this.#keptMax - this.#free.length)
    this.#free.push(...buffers.slice(0, room))
  }
}

/** The socket is closed, and nothing is written any more. */
function closeOf(response: ServerResponse): Promise<void> {
  return new Promise(resolve => response.once('close', () => resolve()))
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
class Outlet implements Disposable {
  readonly #deps: OutletDeps
  readonly #done = new AbortController()
  /** The write of the piece before, whose memory is read into after it. */
  #leaving: PromiseWithResolvers<void> | undefined
  #heldBack = Buffer.alloc(0)
  /** Since when there has been nothing to write, or a write has not been taken. */
  #quietSinceMs: number
  #isReading = false
  /** How long the reader was waited for beyond what the least rate allows. */
  #owedMs = 0
  /** Rejects the wait for the first piece. */
  #giveUp: ((error: Error) => void) | undefined

  constructor(deps: OutletDeps) {
    this.#deps = deps
    this.#quietSinceMs = deps.clock.monotonic()
    deps.gone.addEventListener('abort', () => this.#leaving?.reject(readerLeft()), { once: true })
    void this.#look()
  }

  /** The next piece; meanwhile a byte is given now and then. UnavailableError when the first is late. */
  async waitFor(reading: Promise<Uint8Array>): Promise<Uint8Array> {
    this.#quiet(true)
    if (this.#deps.response.headersSent) return reading.finally(() => this.#quiet(false))
    // It may fail long after it was given up.
    reading.catch(() => undefined)
    const late = new Promise<never>((_, reject) => (this.#giveUp = reject))
    try {
      return await Promise.race([reading, late])
    } finally {
      this.#giveUp = undefined
      this.#quiet(false)
    }
  }

  /** Resolves when the piece before has left our memory. */
  async write(bytes: Uint8Array, { isRestHere }: { isRestHere: boolean }): Promise<void> {
    const kept = isRestHere ? 0 : Math.min(heldBackBytes, bytes.length)
    await this.#leaving?.promise
    if (this.#heldBack.length > 0) this.#send(this.#heldBack)
    // A copy: the memory of the piece is used for another one before these leave.
    this.#heldBack = Buffer.from(bytes.subarray(bytes.length - kept))
    this.#send(bytes.subarray(0, bytes.length - kept))
  }

  async end(): Promise<void> {
    if (this.#heldBack.length > 0) this.#send(this.#heldBack)
    await this.#leaving?.promise
    this.#deps.response.end()
  }

  [Symbol.dispose](): void {
    this.#done.abort()
  }

  /** What is written in order leaves in order: the last one is waited for. */
  #send(bytes: Uint8Array): void {
    const { gone, response } = this.#deps
    const left = Promise.withResolvers<void>()
    left.promise.catch(() => undefined)
    this.#leaving = left
    if (gone.aborted) left.reject(readerLeft())
    else
      response.write(bytes, error => {
        this.#taken(bytes.length)
        if (error) left.reject(readerLeft())
        else left.resolve()
      })
  }

  #taken(bytes: number): void {
    const waitedMs = this.#isReading ? 0 : this.#deps.clock.monotonic() - this.#quietSinceMs
    const allowedMs = (bytes / readerBytesPerSecondMin) * second
    this.#owedMs = Math.max(0, this.#owedMs + waitedMs - allowedMs)
    this.#quiet(this.#isReading)
  }

  #quiet(isReading: boolean): void {
    this.#isReading = isReading
    this.#quietSinceMs = this.#deps.clock.monotonic()
  }

  /** One timer for all pieces. */
  async #look(): Promise<void> {
    const { clock, patienceMs, response } = this.#deps
    for (;;) {
      try {
        await clock.sleep(lookMs, this.#done.signal)
      } catch {
        return
      }
      const quietMs = clock.monotonic() - this.#quietSinceMs
      if (!this.#isReading) {
        if (this.#owedMs + quietMs >= readerPatienceMs) response.destroy()
      } else if (response.headersSent) {
        if (quietMs >= beatMs) this.#beat()
      } else if (quietMs >= patienceMs) {
        this.#giveUp?.(new UnavailableError(noFirstByte))
      }
    }
  }

  #beat(): void {
    const byte = this.#heldBack.subarray(0, 1)
    this.#heldBack = this.#heldBack.subarray(1)
    this.#quiet(true)
    if (byte.length > 0) this.#send(byte)
  }
}
