/**
 * The sources of a session and what each is believed to hold. Pure. A source says what it holds; what
 * counts of that is less while it is paused or distrusted, and without the chunks it refused.
 */

import { lengthOf, type Range } from '../core/ranges.ts'
import { second } from '../core/units.ts'
import type { FileList, SessionFile } from './file-list.ts'
import { NumberSet } from './number-set.ts'
import type { Holder, Picker } from './picker.ts'
import { type Ask, type Blame, noBlame, Score } from './scoreboard.ts'
import type { SourceId } from './source.ts'

export interface Peer {
  readonly id: SourceId
  readonly score: Score
  /** No limit on the speed of downloads applies to it. */
  readonly isUnlimited: boolean
  /** What it can be asked for: a part of `said`. */
  readonly holder: Holder
  /** What it says it holds. */
  readonly said: NumberSet
  /** Chunks it claimed and did not serve, and when to ask for them again. */
  readonly refused: Map<number, number>
  /** In flight here, by chunk, in the order they were sent. */
  readonly asks: Map<number, Ask>
  /** withdrawn: none of its claims count now. */
  state: 'active' | 'withdrawn'
}

/** Ranges are of chunk indexes in the file. */
export interface ClaimChange {
  readonly gained: readonly Range[]
  readonly lost: readonly Range[]
  readonly nowMs: number
}

/** Other leechers of the same model find us and are found within this, or there are few. */
const aloneMs = second

export class Roster {
  readonly #picker: Picker
  readonly #files: FileList
  readonly #peers: Peer[] = []
  readonly #byId = new Map<SourceId, Peer>()
  /** Outlives a source's connection. */
  readonly #blames = new Map<SourceId, Blame>()
  /** Since when every source says that it holds everything. */
  #seedersSinceMs: number | undefined

  constructor(picker: Picker, files: FileList) {
    this.#picker = picker
    this.#files = files
  }

  get peers(): readonly Peer[] {
    return this.#peers
  }

  /** Sources that delivered something since then. */
  activeSince(ms: number): number {
    const isActive = ({ score }: Peer): boolean => score.delivered > 0 && score.lastDeliveryMs >= ms
    return this.#peers.filter(isActive).length
  }

  /**
   * Nobody known is fetching the same: all sources hold everything, and have for a while. Chunks in
   * random order are for others to trade; with none, the order of the files serves us better.
   */
  isAlone(nowMs: number): boolean {
    const holdAll = ({ said }: Peer): boolean => said.size === this.#picker.count
    const areSeeders = this.#peers.length > 0 && this.#peers.every(holdAll)
    if (!areSeeders) this.#seedersSinceMs = undefined
    else this.#seedersSinceMs ??= nowMs
    return this.#seedersSinceMs !== undefined && nowMs - this.#seedersSinceMs >= aloneMs
  }

  get(source: SourceId): Peer | undefined {
    return this.#byId.get(source)
  }

  blameOf(source: SourceId): Blame {
    const known = this.#blames.get(source)
    if (known !== undefined) return known
    const blame = noBlame()
    this.#blames.set(source, blame)
    return blame
  }

  add(id: SourceId, requestsMax: number | undefined, isUnlimited: boolean): Peer {
    const peer: Peer = {
      id,
      isUnlimited,
      score: new Score(this.blameOf(id), requestsMax),
      holder: this.#picker.newHolder(),
      said: new NumberSet(),
      refused: new Map(),
      asks: new Map(),
      state: 'active',
    }
    this.#peers.push(peer)
    this.#byId.set(id, peer)
    return peer
  }

  remove(peer: Peer): void {
    this.withdraw(peer)
    this.#peers.splice(this.#peers.indexOf(peer), 1)
    this.#byId.delete(peer.id)
  }

  /** What it says it holds has changed; false when that happens too often to be true. */
  have(peer: Peer, entry: SessionFile, change: ClaimChange): boolean {
    const lost = change.lost.map(range => clip(entry, range))
    const gained = change.gained.map(range => clip(entry, range))
    const changes = lengthOf(lost) + lengthOf(gained)
    if (!peer.score.mayChangeClaims(changes, this.#picker.count, change.nowMs)) return false
    for (const range of lost) this.#lost(peer, entry, range)
    for (const range of gained) this.#gained(peer, entry, range)
    return true
  }

  #gained(peer: Peer, entry: SessionFile, [start, end]: Range): void {
    for (let chunk = start; chunk < end; chunk += 1) {
      peer.said.add(chunk)
      peer.refused.delete(chunk)
      const ask = peer.asks.get(chunk)
      if (ask !== undefined) ask.isReclaimed = true
    }
    if (peer.state === 'active') this.#gain(peer, entry, [start, end])
  }

  #lost(peer: Peer, entry: SessionFile, [start, end]: Range): void {
    peer.said.each(start, end, chunk => {
      peer.said.delete(chunk)
      if (peer.refused.delete(chunk)) peer.score.tookBackClaim()
    })
    this.#lose(peer, entry, [start, end])
  }

  /** It refused a chunk; false when it does not claim that any more. */
  refused(peer: Peer, chunk: number, untilMs: number): boolean {
    if (!peer.said.has(chunk)) return false
    peer.refused.set(chunk, untilMs)
    this.#lose(peer, this.#files.ofChunk(chunk), [chunk, chunk + 1])
    return true
  }

  /** Its claims count for nothing, until a review finds that they may again. */
  withdraw(peer: Peer): void {
    peer.state = 'withdrawn'
    for (const entry of this.#files.known) this.#lose(peer, entry, rangeOf(entry))
  }

  /** Takes a source out whose blame says so, and lets claims count again whose time has come. */
  review(peer: Peer, nowMs: number): void {
    if (peer.score.isOut(nowMs)) {
      if (peer.state === 'active') this.withdraw(peer)
      return
    }
    for (const [chunk, untilMs] of peer.refused) {
      if (nowMs < untilMs) continue
      peer.refused.delete(chunk)
      if (peer.state === 'active') {
        this.#gain(peer, this.#files.ofChunk(chunk), [chunk, chunk + 1])
      }
    }
    if (peer.state === 'withdrawn') this.#restore(peer)
  }

  #restore(peer: Peer): void {
    peer.state = 'active'
    for (const entry of this.#files.known) {
      peer.said.each(...rangeOf(entry), chunk => {
        if (!peer.refused.has(chunk)) this.#gain(peer, entry, [chunk, chunk + 1])
      })
    }
  }

  #gain(peer: Peer, entry: SessionFile, [start, end]: Range): void {
    const turned = this.#picker.gain(peer.holder, start, end)
    if (turned > 0) this.#files.served(entry, turned)
  }

  #lose(peer: Peer, entry: SessionFile, [start, end]: Range): void {
    const turned = this.#picker.lose(peer.holder, start, end)
    if (turned > 0) this.#files.served(entry, -turned)
  }
}

function rangeOf({ first, table }: SessionFile): Range {
  return [first, first + table.count]
}

/** Numbers of the chunks in a range of indexes, no further than the file goes. */
function clip({ first, table }: SessionFile, [start, end]: Range): Range {
  const from = Math.min(table.count, Math.max(0, start))
  return [first + from, first + Math.max(from, Math.min(table.count, end))]
}
