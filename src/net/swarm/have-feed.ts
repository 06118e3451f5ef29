/**
 * What we tell one peer about what we hold: the state of each file when it asks, then changes. What
 * is not sent yet is merged, so a peer that reads slowly costs a bounded amount of memory and gets
 * one larger update later.
 */

import { type CID, decodeCid } from '../../core/cid.ts'
import { ProtocolError } from '../../core/errors.ts'
import { intersect, normalize, type Range, subtract } from '../../core/ranges.ts'
import { KiB } from '../../core/units.ts'
import type { BlockReader, HeldChange } from '../../store/store.ts'
import { FieldWriter } from '../../wire/codec.ts'
import { encodeFrame, frameTypes } from '../../wire/frames.ts'
import { type HaveEntry, type WatchEntry, writeHave } from '../../wire/messages.ts'
import type { FrameTransport } from '../../wire/transport.ts'

/** Have frames are cut here; larger ones would hold up chunks behind them. */
const haveFrameBytes = 32 * KiB
/** Ranges of one entry: 8 bytes each, so that an entry fits a frame of haveFrameBytes. */
const rangesPerEntryMax = 4000
/** Watches of one file by one peer: each costs an entry for every change. Downloads share files rarely. */
const refsPerRootMax = 64
/** A change with more ranges than this is not merged further: the whole state is sent again. */
const mergedRangesMax = 4000

/** What a file's watchers have not been told yet. */
type Untold =
  /** Everything; `isAgain` when they know something that may be wrong by now. */
  | { readonly kind: 'state'; readonly isAgain: boolean; readonly refs: readonly number[] }
  | { readonly kind: 'change'; readonly gained: readonly Range[]; readonly lost: readonly Range[] }

/** 400 bytes each, so no CID: its object and views take two thousand. */
interface WatchedRoot {
  readonly key: string
  readonly chunks: number
  readonly refs: number[]
  untold: Untold | undefined
}

export interface HaveFeed {
  readonly size: number
  /** Throws ProtocolError for a ref in use. */
  watch(entries: readonly WatchEntry[]): void
  /** Returns how many were watched. */
  unwatch(refs: readonly number[]): number
  isWatching(key: string): boolean
  changed(key: string, change: HeldChange): void
}

/** A string for a CID, cheap as a map key: a character for each of its bytes. */
export function keyOf(cid: CID): string {
  return String.fromCharCode(...cid.bytes)
}

function cidOf(key: string): CID {
  return decodeCid(Uint8Array.from(key, character => character.charCodeAt(0)))
}

export function openHaveFeed(reader: BlockReader, transport: FrameTransport): HaveFeed {
  return new OpenHaveFeed(reader, transport)
}

class OpenHaveFeed implements HaveFeed {
  readonly #reader: BlockReader
  readonly #transport: FrameTransport
  readonly #roots = new Map<string, WatchedRoot>()
  readonly #byRef = new Map<number, WatchedRoot>()
  readonly #dirty = new Set<WatchedRoot>()
  #isSending = false

  constructor(reader: BlockReader, transport: FrameTransport) {
    this.#reader = reader
    this.#transport = transport
  }

  get size(): number {
    return this.#byRef.size
  }

  isWatching(key: string): boolean {
    return this.#roots.has(key)
  }

  watch(entries: readonly WatchEntry[]): void {
    for (const entry of entries) this.#watchOne(entry)
  }

  unwatch(refs: readonly number[]): number {
    let count = 0
    for (const ref of refs) {
      const watched = this.#byRef.get(ref)
      if (watched === undefined) continue
      count += 1
      this.#byRef.delete(ref)
      watched.refs.splice(watched.refs.indexOf(ref), 1)
      if (watched.refs.length > 0) continue
      this.#roots.delete(watched.key)
      this.#dirty.delete(watched)
    }
    return count
  }

  changed(key: string, change: HeldChange): void {
    const watched = this.#roots.get(key)
    if (watched !== undefined) this.#tell(watched, merge(watched, change))
  }

  #watchOne({ ref, root, chunks }: WatchEntry): void {
    if (this.#byRef.has(ref)) throw new ProtocolError(`watch: ref ${ref} is in use`)
    const key = keyOf(root)
    const watched = this.#roots.get(key) ?? { key, chunks, refs: [], untold: undefined }
    if (watched.chunks !== chunks) {
      throw new ProtocolError(`watch: one file of ${watched.chunks} and of ${chunks} chunks`)
    }
    if (watched.refs.length >= refsPerRootMax) {
      throw new ProtocolError(`watch: one file more than ${refsPerRootMax} times`)
    }
    this.#roots.set(key, watched)
    this.#byRef.set(ref, watched)
    watched.refs.push(ref)
    const before = watched.untold
    if (before?.kind === 'change') this.#tell(watched, stateAgain(watched))
    else {
      const refs = [...(before?.refs ?? []), ref]
      this.#tell(watched, { kind: 'state', isAgain: before?.isAgain ?? false, refs })
    }
  }

  #tell(watched: WatchedRoot, untold: Untold): void {
    watched.untold = untold
    this.#dirty.add(watched)
    if (!this.#isSending) void this.#sendAll()
  }

  async #sendAll(): Promise<void> {
    this.#isSending = true
    // In the next turn: what changes together is told together.
    await Promise.resolve()
    try {
      const batch = new HaveBatch(this.#transport)
      for (const entry of this.#takeAll()) {
        if (!batch.add(entry)) await this.#transport.drained()
      }
      batch.flush()
    } catch (error) {
      // Closed meanwhile, or the store cannot say what it holds: this peer cannot be told either way.
      this.#transport.abort(error as Error)
    } finally {
      this.#isSending = false
    }
  }

  /** What becomes dirty while this is being sent comes in the same iteration. */
  *#takeAll(): Generator<HaveEntry> {
    for (const watched of this.#dirty) {
      this.#dirty.delete(watched)
      yield* takeEntries(watched, this.#reader)
    }
  }
}

function stateAgain(watched: WatchedRoot): Untold {
  return { kind: 'state', isAgain: true, refs: watched.refs.slice() }
}

function merge(watched: WatchedRoot, change: HeldChange): Untold {
  const before = watched.untold
  // A watcher that has another chunk count must not be told of chunks that its file has not.
  const whole: readonly Range[] = [[0, watched.chunks]]
  const gained = intersect(normalize(change.gained), whole)
  const lost = intersect(normalize(change.lost), whole)
  if (before === undefined) return { kind: 'change', gained, lost }
  if (before.kind === 'state') {
    // A state in waiting is read when it is sent, and has this change in it; but it may be meant
    // for a new watcher only, and the others must hear of the change too.
    return before.refs.length === watched.refs.length ? before : stateAgain(watched)
  }
  const merged: Untold = {
    kind: 'change',
    gained: normalize([...subtract(before.gained, lost), ...gained]),
    lost: normalize([...subtract(before.lost, gained), ...lost]),
  }
  const ranges = merged.gained.length + merged.lost.length
  return ranges > mergedRangesMax ? stateAgain(watched) : merged
}

function* takeEntries(watched: WatchedRoot, reader: BlockReader): Generator<HaveEntry> {
  const { untold } = watched
  watched.untold = undefined
  if (untold === undefined) return
  if (untold.kind === 'state') {
    for (const ref of untold.refs) yield* stateEntries(watched, ref, { reader, untold })
    return
  }
  for (const ref of watched.refs.slice()) {
    yield* rangeEntries(ref, 'lost', untold.lost)
    yield* rangeEntries(ref, 'gained', untold.gained)
  }
}

function* stateEntries(
  watched: WatchedRoot,
  ref: number,
  { reader, untold }: { reader: BlockReader; untold: { isAgain: boolean } },
): Generator<HaveEntry> {
  const held = reader.held(cidOf(watched.key))
  // Another chunk count than the watcher's: one of us has a wrong table, and nothing can be shared.
  if (held === undefined || held.count === 0 || held.length !== watched.chunks) {
    yield { ref, kind: 'nothing' }
  } else if (held.isFull) {
    yield { ref, kind: 'all' }
  } else {
    if (untold.isAgain) yield { ref, kind: 'nothing' }
    yield* rangeEntries(ref, 'gained', held.runs())
  }
}

function* rangeEntries(
  ref: number,
  kind: 'gained' | 'lost',
  ranges: Iterable<Range>,
): Generator<HaveEntry> {
  let some: Range[] = []
  for (const range of ranges) {
    some.push(range)
    if (some.length < rangesPerEntryMax) continue
    yield { ref, kind, ranges: some }
    some = []
  }
  if (some.length > 0) yield { ref, kind, ranges: some }
}

/** Collects entries into frames. */
class HaveBatch {
  readonly #transport: FrameTransport
  #fields = new FieldWriter()

  constructor(transport: FrameTransport) {
    this.#transport = transport
  }

  /** False when the transport asks to wait. */
  add(entry: HaveEntry): boolean {
    writeHave(this.#fields, entry)
    return this.#fields.length < haveFrameBytes || this.flush()
  }

  flush(): boolean {
    if (this.#fields.length === 0) return true
    const payload = this.#fields.finish()
    this.#fields = new FieldWriter()
    return this.#transport.send(encodeFrame(frameTypes.have, 0, payload))
  }
}
