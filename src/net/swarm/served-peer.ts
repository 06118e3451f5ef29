/**
 * Answers one peer on one channel: its requests in the order asked, one being sent and the next one
 * read ahead, while it has an upload slot, at the rate that is allowed, within byte budgets shared by
 * all peers. A peer that does not read what it asked for stops its own queue and nobody else's.
 */

import type { CID } from '../../core/cid.ts'
import { LimitError, ProtocolError } from '../../core/errors.ts'
import type { RateLimit } from '../../core/rate-limit.ts'
import { MiB } from '../../core/units.ts'
import {
  encodeFrame,
  encodeHeader,
  flagMore,
  type FrameHeader,
  frameTypes,
  headerBytes,
  moreBytesMin,
  pieceBytes,
} from '../../wire/frames.ts'
import {
  decodeChunkAsk,
  decodeKey,
  decodeKeys,
  decodeUnwatch,
  decodeWatch,
  encodeReason,
  type RefusalCode,
  refusalCodes,
} from '../../wire/messages.ts'
import type { UploadSlot, UploadSlots } from '../upload/upload-slots.ts'
import { type HaveFeed, keyOf, openHaveFeed } from './have-feed.ts'
import {
  AnswerReader,
  type Ask,
  type ReadAnswer,
  type Refusal,
  type ServedBudgets,
  type ServerDeps,
} from './served-answers.ts'
import type { Serving, ServingPort } from './swarm-channel.ts'

/** Requests a peer may have open: 64 MiB ahead of what it has read, twice 300 ms at 100 MB/s. */
export const requestsInFlightMax = 64
/** All files of the largest manifest. */
export const watchesMax = 100_000
/** The manifests a peer asked for last, by which others find it in the peer exchange. */
const interestsMax = 64
/** A turn ends after this, if others wait for the slot: one large chunk, or many small ones. */
const turnBytes = MiB
/** What a limit lets pass in this part of a second goes out at once: small enough to be even. */
const piecesPerSecond = 50
/** Work units of a peer-exchange question: it looks at every connected peer. */
const askPeersUnits = 50

/** How fast a peer is served, and when it is its turn: shared with the peers it competes with. */
export interface ServedPace {
  readonly limit: RateLimit | undefined
  readonly slots: UploadSlots
}

export class ServedPeer implements Serving {
  readonly port: ServingPort
  readonly feed: HaveFeed
  readonly #deps: ServerDeps
  readonly #budgets: ServedBudgets
  readonly #pace: ServedPace
  readonly #answers: AnswerReader
  readonly #interests = new Set<string>()
  /** By id, from the question until the last byte of the answer was sent. */
  readonly #asks = new Map<number, Ask>()
  /** Those not begun, in the order asked. */
  readonly #queue: Ask[] = []
  /** Of what the limit has given, bytes not sent yet. */
  #paid = 0
  #watches = 0
  #isPumping = false
  bytesPending = 0
  /** When the peer last took a piece, or got its first one to take. */
  progressAtMs: number

  constructor(port: ServingPort, deps: ServerDeps, budgets: ServedBudgets, pace: ServedPace) {
    this.port = port
    this.#deps = deps
    this.#budgets = budgets
    this.#pace = pace
    this.feed = openHaveFeed(deps.reader, port.transport)
    this.#answers = new AnswerReader(deps, budgets, port, this.feed)
    this.progressAtMs = deps.clock.monotonic()
  }

  wants(key: string): boolean {
    return this.#interests.has(key) || this.feed.isWatching(key)
  }

  frame({ type, id }: FrameHeader, payload: Uint8Array): void {
    switch (type) {
      case frameTypes.watch:
        return this.#watch(payload)
      case frameTypes.unwatch:
        return this.#unwatch(payload)
      case frameTypes.cancel:
        return this.#cancel(id)
      case frameTypes.getChunk: {
        const { root, index } = decodeChunkAsk(payload)
        return this.#ask({ id, kind: 'chunk', keys: [root], index, isCancelled: false })
      }
      case frameTypes.getManifest: {
        const key = decodeKey(payload)
        this.#interested(keyOf(key))
        return this.#ask(askFor(id, 'manifest', [key]))
      }
      case frameTypes.getTable:
        return this.#ask(askFor(id, 'table', [decodeKey(payload)]))
      case frameTypes.getPeers:
        this.port.spend(askPeersUnits)
        return this.#ask(askFor(id, 'peers', decodeKeys(payload)))
      default:
        throw new ProtocolError(`frame type 0x${type.toString(16)} asks nothing`)
    }
  }

  banned(): void {
    this.#budgets.recheck()
  }

  closed(): void {
    this.#budgets.watchesLeft += this.#watches
    this.#watches = 0
    this.#queue.length = 0
  }

  #watch(payload: Uint8Array): void {
    const entries = decodeWatch(payload)
    this.port.spend(entries.length)
    if (this.#watches + entries.length > watchesMax) {
      throw new ProtocolError(`watch: more than ${watchesMax} files`)
    }
    if (entries.length > this.#budgets.watchesLeft) {
      throw new LimitError('all peers together watch too many files')
    }
    this.#watches += entries.length
    this.#budgets.watchesLeft -= entries.length
    this.feed.watch(entries)
  }

  #unwatch(payload: Uint8Array): void {
    const refs = decodeUnwatch(payload)
    this.port.spend(refs.length)
    const count = this.feed.unwatch(refs)
    this.#watches -= count
    this.#budgets.watchesLeft += count
  }

  #cancel(id: number): void {
    this.port.spend(1)
    const ask = this.#asks.get(id)
    // Unknown: our answer crossed the cancel on the way.
    if (ask === undefined) return
    ask.isCancelled = true
    const at = this.#queue.indexOf(ask)
    if (at === -1) return
    // It may be long until its turn: the peer need not count it until then.
    this.#queue.splice(at, 1)
    this.#asks.delete(id)
    this.#refuse(id, refusalCodes.cancelled, '')
  }

  #interested(key: string): void {
    this.#interests.delete(key)
    this.#interests.add(key)
    const oldest = this.#interests.values().next().value
    if (this.#interests.size > interestsMax && oldest !== undefined) this.#interests.delete(oldest)
  }

  #ask(ask: Ask): void {
    if (this.#asks.has(ask.id)) throw new ProtocolError(`request id ${ask.id} is in use`)
    if (this.#asks.size >= requestsInFlightMax) {
      this.port.spend(1)
      this.#refuse(ask.id, refusalCodes.busy, `at most ${requestsInFlightMax} requests`)
      return
    }
    this.#asks.set(ask.id, ask)
    if (ask.kind === 'peers') {
      // Small, and what tells a peer that waits for its turn who else it could ask.
      void this.#read(ask).then(answer => this.#send(answer))
      return
    }
    this.#queue.push(ask)
    if (!this.#isPumping) void this.#pump()
  }

  async #pump(): Promise<void> {
    this.#isPumping = true
    const { peer, transport } = this.port
    try {
      while (this.#queue.length > 0) {
        using slot = await this.#pace.slots.take(peer, transport.closed)
        await this.#takeTurn(slot)
      }
    } catch (error) {
      transport.abort(error as Error)
    } finally {
      this.#isPumping = false
    }
  }

  /** Answers until there is nothing to answer, or it was enough and others wait. */
  async #takeTurn(slot: UploadSlot): Promise<void> {
    let bytesLeft = turnBytes
    const goesOn = (): boolean => bytesLeft > 0 || !slot.isWanted
    let next = this.#readNext()
    try {
      while (next !== undefined) {
        const answer = await next
        if ('bytes' in answer) bytesLeft -= answer.bytes.length
        // The disk works on the next one while the network takes this one. With many peers that luxury
        // has to go: slow readers could take the whole budget.
        next = goesOn() && this.#isBudgetAmple() ? this.#readNext() : undefined
        await this.#send(answer, slot)
        if (goesOn()) next ??= this.#readNext()
      }
    } finally {
      const unsent = await next
      if (unsent !== undefined && 'share' in unsent) unsent.share?.release()
    }
  }

  #isBudgetAmple(): boolean {
    const { bytesTaken, bytesMax } = this.#budgets.chunks
    return bytesTaken <= bytesMax / 2
  }

  #readNext(): Promise<ReadAnswer | Refusal> | undefined {
    const ask = this.#queue.shift()
    return ask === undefined ? undefined : this.#read(ask)
  }

  async #read(ask: Ask): Promise<ReadAnswer | Refusal> {
    const answer = await this.#answers.read(ask)
    if ('refusal' in answer) return answer
    if (this.bytesPending === 0) this.progressAtMs = this.#deps.clock.monotonic()
    this.bytesPending += answer.bytes.length
    return answer
  }

  async #send(answer: ReadAnswer | Refusal, slot?: UploadSlot): Promise<void> {
    const { ask } = answer
    if ('refusal' in answer) {
      this.#asks.delete(ask.id)
      // Refusing costs the peer nothing but this.
      this.port.spend(1)
      this.#refuse(ask.id, answer.refusal, answer.text)
      return
    }
    const { bytes } = answer
    try {
      if (slot === undefined) this.#sendWhole(ask.id, bytes)
      else await this.#sendData(ask, bytes, slot)
    } finally {
      this.#asks.delete(ask.id)
      answer.share?.release()
      if (answer.buffer !== undefined) void this.#giveBack(answer.buffer)
      this.bytesPending -= bytes.length
    }
  }

  async #giveBack(buffer: Uint8Array): Promise<void> {
    await this.port.transport.written?.()
    this.#budgets.buffers.give(buffer)
  }

  #sendWhole(id: number, bytes: Uint8Array): void {
    this.port.transport.send(encodeFrame(frameTypes.peers, id, bytes))
  }

  async #sendData(ask: Ask, bytes: Uint8Array, slot: UploadSlot): Promise<void> {
    const { transport } = this.port
    let start = 0
    do {
      // Before each piece, so that at most one piece too many is queued in the stream.
      await transport.drained()
      this.progressAtMs = this.#deps.clock.monotonic()
      slot.progressed()
      const piece = pieceBytesAt(this.#pace.limit?.bytesPerSecond)
      const end = Math.min(start + piece, bytes.length)
      await this.#pay(headerBytes + end - start, piece)
      if (ask.isCancelled) {
        this.#refuse(ask.id, refusalCodes.cancelled, '')
        return
      }
      const flags = end < bytes.length ? flagMore : 0
      const header = { length: end - start, type: frameTypes.data, flags, id: ask.id }
      // A view: nobody writes to it before it is out.
      transport.send(encodeHeader(header), bytes.subarray(start, end))
      start = end
    } while (start < bytes.length)
  }

  /** Waits for the limit. Everybody takes the same at a time, also for small chunks: turns are equal. */
  async #pay(bytes: number, atATime: number): Promise<void> {
    const { limit } = this.#pace
    if (limit?.bytesPerSecond === undefined) return
    if (this.#paid < bytes) {
      const more = Math.max(bytes - this.#paid, atATime)
      await limit.take(more, this.port.transport.closed)
      this.#paid += more
    }
    this.#paid -= bytes
  }

  #refuse(id: number, code: RefusalCode, text: string): void {
    const payload = encodeReason({ code, text })
    this.port.transport.send(encodeFrame(frameTypes.refusal, id, payload))
  }
}

function pieceBytesAt(bytesPerSecond = Infinity): number {
  return Math.min(pieceBytes, Math.max(moreBytesMin, Math.floor(bytesPerSecond / piecesPerSecond)))
}

function askFor(id: number, kind: Ask['kind'], keys: readonly CID[]): Ask {
  return { id, kind, keys, index: 0, isCancelled: false }
}
