/**
 * One thread of the data plane: owns lanes, receives chunks over them, checks them and writes them to
 * files that the main thread opened. Only small messages go back.
 *
 * Invariants:
 * 1. Bytes are written only after verifyDigest took them.
 * 2. Every job ends with exactly one `done`, after which nothing is written for it.
 * 3. A job that was `checked` is written, whatever happens to its lane or its source.
 */

import { IntegrityError, messageOf, UnavailableError } from '../core/errors.ts'
import { receiveError, sendError } from '../core/sent-error.ts'
import { verifyDigest, type VerifiedBlock } from '../dag/verify.ts'
import type { FrameTransport } from '../wire/transport.ts'
import { BufferPool } from '../core/buffers.ts'
import { writeAt } from './file-writer.ts'
import type { FromThread, ToThread } from './jobs.ts'
import type { LaneAddress } from './lane.ts'
import { type FetchedChunk, LaneClient } from './lane-client.ts'

/** Opens a lane to the peer at one address. */
export type DialLane = (
  address: LaneAddress,
  options: { readonly peer: string; readonly signal: AbortSignal },
) => Promise<FrameTransport>

type OpenMessage = Extract<ToThread, { kind: 'open' }>
type FetchMessage = Extract<ToThread, { kind: 'fetch' }>

interface CrewLane {
  readonly peer: string
  /** Ends the dialling; once there is a client, its transport says when it is over. */
  readonly stop: AbortController
  client: LaneClient | undefined
}

export interface CrewDeps {
  readonly dial: DialLane
  post(messages: readonly FromThread[]): void
}

export class LaneCrew {
  readonly #deps: CrewDeps
  readonly #pool = new BufferPool()
  readonly #lanes = new Map<number, CrewLane>()
  /** Jobs that can still be cancelled. */
  readonly #fetching = new Map<number, AbortController>()
  #unsent: FromThread[] = []

  constructor(deps: CrewDeps) {
    this.#deps = deps
  }

  take(message: Exclude<ToThread, { kind: 'stop' }>): void {
    switch (message.kind) {
      case 'open':
        void this.#open(message)
        return
      case 'close':
        this.#close(message.lane, receiveError(message.reason, 'the main thread'))
        return
      case 'fetch':
        void this.#fetch(message)
        return
      case 'cancel':
        this.#fetching.get(message.job)?.abort(cancelled)
    }
  }

  /** Resolves when all lanes are closed. */
  async stop(): Promise<void> {
    for (const { stop } of this.#lanes.values()) stop.abort(stopping)
    await Promise.all([...this.#lanes.values()].map(async ({ client }) => client?.close(stopping)))
    this.#flush()
  }

  async #open({ lane: id, peer, addresses }: OpenMessage): Promise<void> {
    const lane: CrewLane = { peer, stop: new AbortController(), client: undefined }
    this.#lanes.set(id, lane)
    try {
      lane.client = await this.#dial(lane, addresses)
      const { client } = lane
      client.closed.addEventListener('abort', () => this.#closed(id, client.closed.reason), {
        once: true,
      })
      const requestsMax = await client.ready
      this.#send({ kind: 'opened', lane: id, requestsMax })
    } catch (error) {
      this.#closed(id, error)
    }
  }

  async #dial(lane: CrewLane, addresses: readonly LaneAddress[]): Promise<LaneClient> {
    const { peer, stop } = lane
    const failures: string[] = []
    for (const address of addresses) {
      try {
        const transport = await this.#deps.dial(address, { peer, signal: stop.signal })
        return new LaneClient(transport, this.#pool)
      } catch (error) {
        stop.signal.throwIfAborted()
        failures.push(`${address.host} port ${address.port}: ${messageOf(error)}`)
      }
    }
    throw new UnavailableError(`no lane to ${peer}: ${failures.join('; ') || 'no address'}`)
  }

  #close(id: number, reason: Error): void {
    const lane = this.#lanes.get(id)
    if (lane === undefined) return
    lane.stop.abort(reason)
    void lane.client?.close(reason)
  }

  /** Says so once. */
  #closed(id: number, reason: unknown): void {
    if (this.#lanes.delete(id)) this.#send({ kind: 'closed', lane: id, reason: sendError(reason) })
  }

  async #fetch(message: FetchMessage): Promise<void> {
    const { job, fd, offset } = message
    let error: unknown
    try {
      const { chunk, block } = await this.#fetchChecked(message)
      writeAt(fd, block.bytes, offset)
      this.#pool.give(chunk.buffer)
    } catch (failure) {
      // A buffer whose write or request failed is left to the garbage collector: who knows who has it.
      error = failure
    }
    this.#send({ kind: 'done', job, error: error === undefined ? undefined : sendError(error) })
  }

  async #fetchChecked(
    message: FetchMessage,
  ): Promise<{ chunk: FetchedChunk; block: VerifiedBlock }> {
    const { lane: id, job, ask, length, digest } = message
    const lane = this.#lanes.get(id)
    if (lane?.client === undefined) throw new UnavailableError('the lane is closed')
    const cancel = new AbortController()
    this.#fetching.set(job, cancel)
    try {
      const chunk = await lane.client.fetch(ask, length, cancel.signal)
      cancel.signal.throwIfAborted()
      const block = checked(lane.peer, digest, chunk.bytes)
      this.#send({ kind: 'checked', job, bytesReceived: lane.client.bytesReceived })
      return { chunk, block }
    } finally {
      this.#fetching.delete(job)
    }
  }

  #send(message: FromThread): void {
    this.#unsent.push(message)
    if (this.#unsent.length === 1) setImmediate(this.#flush)
  }

  readonly #flush = (): void => {
    const messages = this.#unsent
    this.#unsent = []
    if (messages.length > 0) this.#deps.post(messages)
  }
}

const cancelled = new UnavailableError('not needed any more')
const stopping = new UnavailableError('this node is stopping')

function checked(peer: string, digest: Uint8Array, bytes: Uint8Array): VerifiedBlock {
  try {
    return verifyDigest(digest, bytes)
  } catch (error) {
    throw new IntegrityError(`from peer ${peer}: ${messageOf(error)}`, { cause: error })
  }
}
