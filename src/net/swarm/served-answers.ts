/** What a peer asked for, read from the store within the byte budgets that all peers share. */

import type { BufferPool } from '../../core/buffers.ts'
import type { CID } from '../../core/cid.ts'
import type { Clock } from '../../core/clock.ts'
import { IntegrityError, isAbort, messageOf, NotFoundError } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import { chunkBytesMax, recordBytes } from '../../dag/chunk-table.ts'
import { manifestBytesMax } from '../../manifest/manifest.ts'
import type { BlockReader } from '../../store/store.ts'
import {
  encodePeers,
  type PeerRecord,
  type RefusalCode,
  refusalCodes,
  tableBytesMax,
} from '../../wire/messages.ts'
import type { ByteBudget, ByteShare } from '../upload/byte-budget.ts'
import { type HaveFeed, keyOf } from './have-feed.ts'
import type { ServingPort } from './swarm-channel.ts'

export interface ServerDeps {
  readonly reader: BlockReader
  readonly clock: Clock
  readonly log: Logger
  /** Peers known to hold or want any of these, for the peer exchange. */
  readonly peersFor: (keys: readonly CID[], asker: string) => Promise<PeerRecord[]>
}

/** What all peers share. */
export interface ServedBudgets {
  readonly chunks: ByteBudget
  readonly documents: ByteBudget
  /** For chunks that go out by transports that say when they are out. */
  readonly buffers: BufferPool
  watchesLeft: number
  /** Has the store hash again what it serves; not more often than it can be afforded. */
  readonly recheck: () => void
}

export interface Ask {
  readonly id: number
  readonly kind: 'chunk' | 'manifest' | 'table' | 'peers'
  readonly keys: readonly CID[]
  /** Of the chunk. */
  readonly index: number
  isCancelled: boolean
}

export interface ReadAnswer {
  readonly ask: Ask
  readonly bytes: Uint8Array
  /** Of the budget; released when the bytes are with the transport. */
  readonly share: ByteShare | undefined
  /** Pooled memory that the bytes lie in. */
  readonly buffer: Uint8Array | undefined
}

export interface Refusal {
  readonly ask: Ask
  readonly refusal: RefusalCode
  readonly text: string
}

export class AnswerReader {
  readonly #deps: ServerDeps
  readonly #budgets: ServedBudgets
  readonly #port: ServingPort
  readonly #feed: HaveFeed

  constructor(deps: ServerDeps, budgets: ServedBudgets, port: ServingPort, feed: HaveFeed) {
    this.#deps = deps
    this.#budgets = budgets
    this.#port = port
    this.#feed = feed
  }

  /** Never rejects: what goes wrong is an answer too. */
  async read(ask: Ask): Promise<ReadAnswer | Refusal> {
    if (ask.isCancelled) return { ask, refusal: refusalCodes.cancelled, text: '' }
    let share: ByteShare | undefined
    try {
      share = await this.#takeShare(ask)
      const isPooled = ask.kind === 'chunk' && this.#port.transport.written !== undefined
      const buffer = isPooled ? this.#budgets.buffers.take(chunkBytesMax) : undefined
      const bytes = await this.#bytesOf(ask, buffer)
      share?.shrink(bytes.length)
      return { ask, bytes, share, buffer }
    } catch (error) {
      share?.release()
      return { ask, ...this.#refusalFor(ask, error) }
    }
  }

  /** Memory is set aside before it is used: the most that the answer may need. */
  async #takeShare(ask: Ask): Promise<ByteShare | undefined> {
    const { chunks, documents } = this.#budgets
    const { closed } = this.#port.transport
    const [key] = ask.keys
    switch (ask.kind) {
      case 'chunk':
        return chunks.take(chunkBytesMax, closed)
      case 'manifest':
        return documents.take(manifestBytesMax, closed)
      case 'table': {
        const held = key === undefined ? undefined : this.#deps.reader.held(key)
        return documents.take((held?.length ?? 0) * recordBytes, closed)
      }
      case 'peers':
        return undefined
    }
  }

  async #bytesOf(ask: Ask, into: Uint8Array | undefined): Promise<Uint8Array> {
    const { reader } = this.#deps
    const [key] = ask.keys
    if (key === undefined) throw new NotFoundError('nothing asked for')
    switch (ask.kind) {
      case 'chunk':
        return reader.readChunk(key, ask.index, { signal: this.#port.transport.closed, into })
      case 'manifest':
        return found(reader.manifestBlock(key))
      case 'table': {
        const { bytes } = found(reader.chunkTable(key))
        if (bytes.length > tableBytesMax) throw new NotFoundError('the table is too large')
        return bytes
      }
      case 'peers':
        return encodePeers(await this.#deps.peersFor(ask.keys, this.#port.peer))
    }
  }

  #refusalFor(ask: Ask, error: unknown): Omit<Refusal, 'ask'> {
    if (isAbort(error) || this.#port.transport.closed.aborted) {
      return { refusal: refusalCodes.cancelled, text: '' }
    }
    const isGone = error instanceof NotFoundError || error instanceof IntegrityError
    if (!isGone) {
      // The peer learns that it failed, not the path that our error names.
      this.#deps.log.warn('serving failed', { kind: ask.kind, error: messageOf(error) })
      return { refusal: refusalCodes.failed, text: '' }
    }
    const [root] = ask.keys
    if (ask.kind === 'chunk' && root !== undefined) {
      // It believed we hold this chunk, or it would not have asked.
      this.#feed.changed(keyOf(root), { root, gained: [], lost: [[ask.index, ask.index + 1]] })
    }
    return { refusal: refusalCodes.notHeld, text: '' }
  }
}

function found<T>(value: T | undefined): T {
  if (value === undefined) throw new NotFoundError('not held here')
  return value
}
