/**
 * The state machine of one channel, over any FrameTransport: hello both ways, our requests and
 * watches, and the frames of the peer's own requests handed to what serves them. Symmetric: who
 * opened the channel makes no difference to what may be said on it. Deadlines of requests are the
 * download's business; only the hello has one here.
 */

import type { Clock } from '../../core/clock.ts'
import {
  CommonweightError,
  LimitError,
  ProtocolError,
  UnavailableError,
} from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import { KiB, second } from '../../core/units.ts'
import type { HaveUpdate, WatchedFile } from '../../transfer/source.ts'
import {
  encodeFrame,
  type FrameHeader,
  type FrameReceiver,
  frameTypes,
  type FrameType,
} from '../../wire/frames.ts'
import {
  decodeHave,
  decodeHello,
  decodeReason,
  encodeHello,
  encodeReason,
  encodeUnwatch,
  encodeWatch,
  type GoodbyeCode,
  goodbyeCodes,
  type Hello,
  watchesPerFrameMax,
} from '../../wire/messages.ts'
import { type AnswerShape, RequestTable } from '../../wire/requests.ts'
import type { FrameTransport } from '../../wire/transport.ts'
import { openWatchList, type WatchList } from './watch-list.ts'

/** A peer that is there says hello within a few round trips, also when its machine is busy. */
export const helloTimeoutMs = 10 * second

/**
 * What costs us work but is not slowed down by answers (watching, cancelling, being refused, telling
 * haves) is paid in units: a model of 100 000 files can be watched and let go at once, and a flood
 * runs dry. An honest download at 1 GB/s of 4 KiB files stays far below.
 */
const unitsMax = 250_000
const unitsPerSecond = 5_000

/** A have frame costs a unit for each entry, and one for so many bytes of it: 32 ranges. */
const haveBytesPerUnit = 256
/** Of a frame that we skip. */
const skippedBytesPerUnit = KiB

/** It may cost a connection, and has a limit of its own: docs/spec/lane.md. */
const askForLaneUnits = 50

/** Manifests of one peer that we remember for the peer exchange; its chunks say the rest. */
const manifestsMax = 256

/** Answers the peer's requests on one channel. */
export interface Serving {
  /** Bytes of chunks, manifests and tables being sent now; 0 when idle. */
  readonly bytesPending: number
  /** A frame that asks something of us; throws ProtocolError or LimitError. */
  frame(header: FrameHeader, payload: Uint8Array): void
  /** Whether the peer watches this file or asked for this manifest: it has it or wants it. */
  wants(key: string): boolean
  /** The peer bans us: it may have got wrong bytes. */
  banned(): void
}

export interface ServingPort {
  readonly peer: string
  readonly transport: FrameTransport
  /** The bandwidth limits hold for this peer. */
  readonly isLimited: boolean
  /** Pays for work; throws ProtocolError when the peer asks for too much of it. */
  spend(units: number): void
}

export interface ChannelDeps {
  readonly clock: Clock
  readonly log: Logger
  serve(port: ServingPort): Serving
}

export interface ChannelOptions {
  /** Peer id as text. */
  readonly peer: string
  /** What we say of ourselves. */
  readonly hello: Hello
  /** The bandwidth limits hold for this peer: it is not on the LAN. True when left out. */
  readonly isLimited?: boolean
  /** The peer's hello came, and the channel may be used. */
  readonly onHello?: () => void
  /** The peer asks us to dial a lane to it; not heard when left out. */
  readonly onDialLane?: () => void
}

export interface ChannelRequest {
  readonly type: FrameType
  readonly payload: Uint8Array
  readonly answer: AnswerShape
  readonly signal: AbortSignal
}

export class SwarmChannel implements FrameReceiver {
  readonly peer: string
  readonly isLimited: boolean
  readonly openedAtMs: number
  /** Resolves with the peer's hello; rejects when it does not come in time or the channel closes. */
  readonly ready: Promise<Hello>
  readonly transport: FrameTransport
  readonly serving: Serving
  readonly #clock: Clock
  readonly #log: Logger
  readonly #greeted: (() => void) | undefined
  readonly #onDialLane: (() => void) | undefined
  readonly #requests: RequestTable
  readonly #watches: WatchList = openWatchList()
  readonly #manifests = new Set<string>()
  readonly #ready = Promise.withResolvers<Hello>()
  #hello: Hello | undefined
  #units = unitsMax
  #unitsAtMs: number

  /** Says hello at once; call in the same turn the transport was opened. */
  constructor(transport: FrameTransport, deps: ChannelDeps, options: ChannelOptions) {
    this.peer = options.peer
    this.isLimited = options.isLimited ?? true
    this.transport = transport
    this.#clock = deps.clock
    this.#log = deps.log
    this.#greeted = options.onHello
    this.#onDialLane = options.onDialLane
    this.#unitsAtMs = deps.clock.monotonic()
    this.openedAtMs = deps.clock.now()
    this.#requests = new RequestTable(frame => transport.send(frame))
    this.serving = deps.serve({
      peer: options.peer,
      transport,
      isLimited: this.isLimited,
      spend: units => this.#spend(units),
    })
    this.ready = this.#ready.promise
    // Whoever waits hears of it; nobody may be waiting.
    this.ready.catch(() => undefined)
    transport.closed.addEventListener('abort', this.#onClosed, { once: true })
    transport.start(this)
    transport.send(encodeFrame(frameTypes.hello, 0, encodeHello(options.hello)))
    void this.#limitHello()
  }

  /** Aborted with the reason once the channel is over. */
  get closed(): AbortSignal {
    return this.transport.closed
  }

  /** The peer's hello, once it came. */
  get hello(): Hello | undefined {
    return this.#hello
  }

  /** Distinct files of which the peer claims to hold some. */
  get filesHeld(): number {
    return this.#watches.filesHeld
  }

  /** Whether the peer claims to hold some of this file. */
  holds(key: string): boolean {
    return this.#watches.holds(key) || this.#manifests.has(key)
  }

  /** The peer gave us this manifest. */
  gaveManifest(key: string): void {
    if (this.#manifests.size < manifestsMax) this.#manifests.add(key)
  }

  request(request: ChannelRequest): Promise<Uint8Array> {
    return this.#requests.request(request)
  }

  /** Tells `onHave` what the peer says it holds of these files, until the signal aborts. */
  watch(
    files: readonly WatchedFile[],
    onHave: (update: HaveUpdate) => void,
    signal: AbortSignal,
  ): void {
    if (signal.aborted || this.closed.aborted || this.#hello === undefined) return
    const room = this.#hello.watchesMax - this.#watches.size
    if (files.length > room) {
      this.#log.warn('peer takes too few watches', { peer: this.peer, left: files.length - room })
    }
    const entries = this.#watches.add(files.slice(0, Math.max(0, room)), onHave)
    for (const some of batches(entries)) {
      this.transport.send(encodeFrame(frameTypes.watch, 0, encodeWatch(some)))
    }
    const unwatch = (): void => {
      const refs = entries.map(entry => entry.ref)
      this.#watches.delete(refs)
      for (const some of batches(refs)) {
        this.transport.send(encodeFrame(frameTypes.unwatch, 0, encodeUnwatch(some)))
      }
    }
    if (entries.length > 0) {
      signal.addEventListener('abort', unwatch, { once: true, signal: this.closed })
    }
  }

  /** Asks the peer to dial a lane to us. */
  askForLane(): void {
    this.transport.send(encodeFrame(frameTypes.dialLane, 0, empty))
  }

  /** Says why, lets that go out, and closes. */
  async close(code: GoodbyeCode, reason: Error): Promise<void> {
    // Of a bug the peer learns nothing.
    const text = reason instanceof CommonweightError ? reason.message : 'internal error'
    const payload = encodeReason({ code, text })
    this.transport.send(encodeFrame(frameTypes.goodbye, 0, payload))
    await this.transport.close(reason)
  }

  place(header: FrameHeader): Uint8Array | undefined {
    this.#checkOrder(header.type)
    if (header.type === frameTypes.data) return this.#requests.place(header)
    return isKnown(header.type) ? new Uint8Array(header.length) : undefined
  }

  frame(header: FrameHeader, payload: Uint8Array = empty): void {
    const { type } = header
    this.#checkOrder(type)
    if (type === frameTypes.data) this.#requests.data(header)
    else if (type === frameTypes.refusal) this.#requests.refuse(header, decodeReason(payload))
    else if (type === frameTypes.peers) this.#requests.whole(header, payload)
    else if (type === frameTypes.have) this.#onHave(payload)
    else if (type === frameTypes.hello) this.#onHello(payload)
    else if (type === frameTypes.goodbye) this.#onGoodbye(payload)
    else if (type === frameTypes.dialLane) this.#onAskForLane()
    else if (isKnown(type)) this.serving.frame(header, payload)
    else this.#spend(1 + header.length / skippedBytesPerUnit)
  }

  /** Tells the peer what it did, since whoever wrote it will want to know. */
  failed(error: Error): void {
    const code = error instanceof LimitError ? goodbyeCodes.limit : goodbyeCodes.protocol
    void this.close(code, error)
  }

  #checkOrder(type: number): void {
    if (this.#hello !== undefined || type === frameTypes.hello || type === frameTypes.goodbye)
      return
    throw new ProtocolError(`frame type 0x${type.toString(16)} before hello`)
  }

  #onHello(payload: Uint8Array): void {
    if (this.#hello !== undefined) throw new ProtocolError('a second hello')
    this.#hello = decodeHello(payload)
    this.#requests.open(this.#hello.requestsInFlightMax)
    this.#ready.resolve(this.#hello)
    this.#greeted?.()
  }

  #onHave(payload: Uint8Array): void {
    const entries = decodeHave(payload)
    this.#spend(entries.length + payload.length / haveBytesPerUnit)
    this.#watches.have(entries)
  }

  #onAskForLane(): void {
    this.#spend(askForLaneUnits)
    this.#onDialLane?.()
  }

  #onGoodbye(payload: Uint8Array): void {
    const { code, text } = decodeReason(payload)
    this.#log.debug('peer said goodbye', { peer: this.peer, code, reason: text })
    // Before a hello it speaks of an old ban, which we have heard of.
    if (code === goodbyeCodes.banned && this.#hello !== undefined) this.serving.banned()
    void this.transport.close(new UnavailableError(`the peer said goodbye: ${text || code}`))
  }

  async #limitHello(): Promise<void> {
    const stop = new AbortController()
    const late = this.#clock.sleep(helloTimeoutMs, stop.signal).then(() => {
      // Not a breach of the rules: a machine that was asleep must not be banned for it.
      return this.close(goodbyeCodes.limit, new UnavailableError('no hello in time'))
    })
    await Promise.allSettled([this.ready.finally(() => stop.abort()), late])
  }

  readonly #onClosed = (): void => {
    const reason = this.closed.reason as Error
    this.#ready.reject(reason)
    this.#requests.fail(reason)
  }

  #spend(units: number): void {
    const nowMs = this.#clock.monotonic()
    const earned = ((nowMs - this.#unitsAtMs) / second) * unitsPerSecond
    this.#unitsAtMs = nowMs
    this.#units = Math.min(unitsMax, this.#units + earned) - units
    if (this.#units < 0) throw new ProtocolError('the peer asks for too much at once')
  }
}

/** Says why and closes, so that the other side does not take it for a fault. */
export function turnAway(transport: FrameTransport, why: keyof typeof goodbyeCodes): void {
  const reason = new UnavailableError(`turned away: ${why}`)
  const ignore = (): undefined => undefined
  transport.start({ place: ignore, frame: ignore, failed: ignore })
  const payload = encodeReason({ code: goodbyeCodes[why], text: '' })
  transport.send(encodeFrame(frameTypes.goodbye, 0, payload))
  void transport.close(reason)
}

const empty = new Uint8Array(0)
const knownTypes: ReadonlySet<number> = new Set(Object.values(frameTypes))

function isKnown(type: number): boolean {
  return knownTypes.has(type)
}

function* batches<T>(items: readonly T[]): Generator<readonly T[]> {
  for (let start = 0; start < items.length; start += watchesPerFrameMax) {
    yield items.slice(start, start + watchesPerFrameMax)
  }
}
