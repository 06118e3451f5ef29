/**
 * One model's download as a pure state machine: events in, actions out; no I/O, no clock, no await.
 * Decides which chunk is asked of which source, when an answer is late, who is believed, which files
 * are open, and when a file is whole. A wanted chunk is always in exactly one of these: wanted in the
 * picker, asked of one to three sources, arriving (being checked and written), or held.
 */

import { ProtocolError } from '../core/errors.ts'
import { minute } from '../core/units.ts'
import { FileList, type SessionFile } from './file-list.ts'
import { Flights } from './flights.ts'
import { type Flight, nameOf } from './hedge.ts'
import { Picker } from './picker.ts'
import { type Peer, Roster } from './roster.ts'
import type { Ask } from './scoreboard.ts'
import type {
  ChunkName,
  SessionAction,
  SessionEvent,
  SessionOptions,
  SourceChunk,
} from './session-events.ts'

/** A refused chunk is asked for again after this, if the claim stands. */
const refusedMs = minute

export class Session {
  readonly #files: FileList
  readonly #picker: Picker
  readonly #roster: Roster
  readonly #flights: Flights
  readonly #limits: SessionOptions['limits']
  #actions: SessionAction[] = []
  #nowMs = 0
  /** Every source may have something new to do, not only the one an event was about. */
  #wakeAll = false
  #turn = 0
  #saidNeed = false
  readonly #isSequential: boolean

  constructor(options: SessionOptions) {
    this.#files = new FileList(options.files, options.openFilesMax)
    this.#flights = new Flights(options.bytesInFlightMax, options.share)
    this.#limits = options.limits
    this.#picker = new Picker(options.random)
    this.#isSequential = options.isSequential ?? false
    this.#picker.isInOrder = this.#isSequential
    this.#roster = new Roster(this.#picker, this.#files)
  }

  get isDone(): boolean {
    return this.#files.done === this.#files.total
  }

  get filesDone(): number {
    return this.#files.done
  }

  /** Chunks of the known files that are not held. */
  get missing(): number {
    return this.#picker.missing
  }

  /** Nothing is under way and nobody can be asked for anything. */
  get isWaiting(): boolean {
    if (this.isDone || !this.#files.isIdle) return false
    return this.#flights.isEmpty && this.#picker.pickable === 0
  }

  /** Sources that delivered within so many milliseconds before now. */
  activeSources(withinMs: number): number {
    return this.#roster.activeSince(this.#nowMs - withinMs)
  }

  /** Takes what happened and says what to do about it, in order. `nowMs` is monotonic. */
  apply(event: SessionEvent, nowMs: number): SessionAction[] {
    this.#nowMs = nowMs
    this.#actions = []
    const peer = this.#react(event)
    this.#openFiles()
    if (this.#wakeAll) this.#fillAll()
    else if (peer !== undefined) this.#fill(peer)
    this.#sayNeed()
    return this.#actions
  }

  /** Returns the source that has room now, if the event is about one. */
  #react(event: SessionEvent): Peer | undefined {
    switch (event.type) {
      case 'source-added':
        return this.#sourceAdded(event)
      case 'source-gone':
        return this.#sourceGone(event.source)
      case 'have':
        return this.#have(event)
      case 'file-known':
        this.#files.add(event.file, event.table, this.#picker.addChunks(event.table.count))
        return undefined
      case 'file-opened':
        return this.#fileOpened(event)
      case 'file-parked':
        return this.#files.parked(event.file)
      case 'file-done':
        return this.#files.finished(event.file)
      case 'chunk-arrived':
        return this.#arrived(event)
      case 'chunk-verified':
        return this.#verified(event)
      case 'chunk-bad':
        return this.#bad(event, event.reason)
      case 'chunk-lost':
        return this.#lost(event)
      case 'chunk-found':
        return this.#found(event)
      case 'request-failed':
        return this.#failed(event)
      case 'allowed':
        this.#wakeAll = true
        return undefined
      case 'tick':
        return this.#tick()
    }
  }

  #sourceAdded(event: Extract<SessionEvent, { type: 'source-added' }>): Peer | undefined {
    const { source, requestsMax, isUnlimited = false } = event
    if (this.#roster.get(source) !== undefined) this.#sourceGone(source)
    const peer = this.#roster.add(source, requestsMax, isUnlimited)
    const { banned } = peer.score.blame
    if (banned !== undefined) {
      this.#roster.remove(peer)
      this.#actions.push({ type: 'ban', source, reason: banned })
      return undefined
    }
    this.#roster.review(peer, this.#nowMs)
    return peer
  }

  #sourceGone(source: string): undefined {
    const peer = this.#roster.get(source)
    if (peer === undefined) return
    this.#abandon(peer, false)
    this.#roster.remove(peer)
  }

  #have(event: Extract<SessionEvent, { type: 'have' }>): Peer | undefined {
    const peer = this.#roster.get(event.source)
    const entry = this.#files.get(event.file)
    if (peer === undefined || entry === undefined) return undefined
    if (!this.#roster.have(peer, entry, { ...event, nowMs: this.#nowMs })) {
      this.#ban(peer.id, new ProtocolError('its claims change faster than chunks can'))
      return undefined
    }
    return peer
  }

  #fileOpened({ file, held }: Extract<SessionEvent, { type: 'file-opened' }>): undefined {
    const entry = this.#files.get(file)
    if (entry === undefined) return
    this.#files.opened(entry)
    for (let index = 0; index < entry.table.count; index += 1) {
      if (held.has(index)) this.#hold(entry, entry.first + index)
      else this.#want(entry, entry.first + index)
    }
    this.#publishIfWhole(entry)
    this.#wakeAll = true
  }

  #arrived({ source, file, index }: SourceChunk): Peer | undefined {
    const found = this.#askOf({ source, file, index })
    if (found === undefined) return undefined
    const { flight, peer } = found
    for (const other of this.#flights.arrived(flight, peer, this.#nowMs)) {
      this.#actions.push({ type: 'cancel', source: other.id, file, index })
      this.#wakeAll = true
    }
    return peer
  }

  #verified({ file, index }: SourceChunk): Peer | undefined {
    const entry = this.#files.get(file)
    if (entry === undefined) return undefined
    const peer = this.#landed(entry, entry.first + index)
    if (peer === undefined) return undefined
    peer.score.keptClaim()
    this.#hold(entry, entry.first + index)
    this.#publishIfWhole(entry)
    return peer
  }

  #bad({ source, file, index }: SourceChunk, reason: Error): undefined {
    this.#lost({ file, index })
    this.#ban(source, reason)
  }

  #lost({ file, index }: ChunkName): undefined {
    const entry = this.#files.get(file)
    if (entry === undefined || this.#landed(entry, entry.first + index) === undefined) return
    this.#wantAgain(entry, entry.first + index)
  }

  /** Found on this machine while it may be asked for, too. */
  #found({ file, index }: ChunkName): undefined {
    const entry = this.#files.get(file)
    if (entry === undefined) return
    // Being written just now: that will say so itself.
    if (this.#flights.isArriving(entry.first + index)) return
    const flight = this.#flights.asked(entry.first + index)
    for (const { peer } of flight?.asks.slice() ?? []) this.#cancel(flight as Flight, peer)
    this.#hold(entry, entry.first + index)
    this.#publishIfWhole(entry)
    this.#wakeAll = true
  }

  #failed(event: Extract<SessionEvent, { type: 'request-failed' }>): Peer | undefined {
    const found = this.#askOf(event)
    if (found === undefined) return undefined
    const { flight, peer } = found
    // What it says of its chunks may overtake what it answers: they take different ways.
    const isReclaimed = peer.asks.get(flight.chunk)?.isReclaimed === true
    this.#drop(flight, peer)
    // It sent nothing; what is cancelled may be on its way, and counts.
    this.#limits?.spend(peer.isUnlimited, -flight.bytes)
    switch (event.failure) {
      case 'gone':
        // Its source-gone follows; asking it again until then would only fail again.
        this.#roster.withdraw(peer)
        return undefined
      case 'busy':
        peer.score.busy(this.#nowMs)
        return undefined
      case 'refused':
        if (isReclaimed) return peer
        if (this.#roster.refused(peer, flight.chunk, this.#nowMs + refusedMs)) {
          if (peer.score.brokeClaim(this.#nowMs)) {
            this.#roster.withdraw(peer)
            this.#actions.push({ type: 'distrusted', source: peer.id })
          }
        }
        return peer
      case 'rules':
        this.#ban(peer.id, event.reason)
        return undefined
    }
  }

  #tick(): undefined {
    this.#picker.isInOrder = this.#isSequential || this.#roster.isAlone(this.#nowMs)
    for (const peer of this.#roster.peers) {
      // Asks are in the order they were sent, and answered in that order.
      const [oldest] = peer.asks
      if (oldest !== undefined) this.#checkDeadline(peer, ...oldest)
      this.#roster.review(peer, this.#nowMs)
    }
    for (const entry of this.#files.idleOpenFiles()) {
      this.#files.parking(entry)
      for (let at = 0; at < entry.table.count; at += 1) this.#picker.unwant(entry.first + at)
      this.#actions.push({ type: 'park', file: entry.file })
    }
    this.#wakeAll = true
  }

  /**
   * Others may overtake a late request. A source that is late and silent keeps only that one; the rest
   * goes back, or the silent ones would use up the bytes in flight.
   */
  #checkDeadline(peer: Peer, chunk: number, oldest: Ask): void {
    if (this.#nowMs < oldest.deadlineMs) return
    if (peer.score.isStalled(oldest, this.#nowMs)) {
      this.#abandon(peer, true)
      peer.score.pause(this.#nowMs)
      this.#roster.withdraw(peer)
      this.#actions.push({ type: 'stalled', source: peer.id })
      return
    }
    this.#flights.markLate(chunk)
    if (!peer.score.isSilent(this.#nowMs)) return
    peer.score.snub()
    this.#abandon(peer, true, chunk)
  }

  #ban(source: string, reason: Error): void {
    this.#roster.blameOf(source).banned = reason
    const peer = this.#roster.get(source)
    if (peer !== undefined) {
      this.#abandon(peer, true)
      this.#roster.remove(peer)
    }
    this.#actions.push({ type: 'ban', source, reason })
  }

  /** Takes back everything asked of a source, except for one chunk. */
  #abandon(peer: Peer, cancel: boolean, except?: number): void {
    for (const chunk of peer.asks.keys()) {
      if (chunk === except) continue
      const flight = this.#flights.asked(chunk) as Flight
      if (cancel) this.#cancel(flight, peer)
      else this.#drop(flight, peer)
    }
  }

  #cancel(flight: Flight, peer: Peer): void {
    this.#drop(flight, peer)
    this.#actions.push({ type: 'cancel', source: peer.id, ...nameOf(flight) })
  }

  /** One source will not answer; the chunk is wanted again when it was the last one asked. */
  #drop(flight: Flight, peer: Peer): void {
    if (this.#flights.drop(flight, peer)) this.#wantAgain(flight.entry, flight.chunk)
  }

  #landed(entry: SessionFile, chunk: number): Peer | undefined {
    // Others may have waited for the bytes that are free now.
    if (this.#flights.isFull) this.#wakeAll = true
    return this.#flights.landed(entry, chunk)
  }

  #wantAgain(entry: SessionFile, chunk: number): void {
    if (entry.state === 'open') this.#picker.want(chunk)
    this.#wakeAll = true
  }

  #hold(entry: SessionFile, chunk: number): void {
    if (!this.#picker.hold(chunk)) return
    entry.missing -= 1
    if (this.#picker.availability(chunk) > 0) this.#files.served(entry, -1)
  }

  /** Also for a chunk that was held and went bad on the disk. */
  #want(entry: SessionFile, chunk: number): void {
    if (this.#picker.miss(chunk)) {
      entry.missing += 1
      if (this.#picker.availability(chunk) > 0) this.#files.served(entry, 1)
    }
    this.#picker.want(chunk)
  }

  #publishIfWhole(entry: SessionFile): void {
    if (this.#files.publishing(entry)) this.#actions.push({ type: 'publish', file: entry.file })
  }

  #openFiles(): void {
    for (;;) {
      const entry = this.#files.openNext()
      if (entry === undefined) return
      this.#actions.push({ type: 'open', file: entry.file })
    }
  }

  /** Each event starts with another source, so that no one takes all of the bytes in flight. */
  #fillAll(): void {
    this.#wakeAll = false
    const { peers } = this.#roster
    this.#turn += 1
    for (let at = 0; at < peers.length && !this.#flights.isFull; at += 1) {
      this.#fill(peers[(this.#turn + at) % peers.length] as Peer)
    }
  }

  #fill(peer: Peer): void {
    while (!this.#flights.isFull && peer.score.hasRoom(this.#nowMs)) {
      // Looked at again when it opens: whether there is something to ask for is found out then.
      if (this.#limits?.allow(peer.isUnlimited) === false) return
      const late = this.#flights.pickLate(peer)
      const chunk = late ?? this.#picker.pick(peer.holder) ?? this.#hedge(peer)
      if (chunk === undefined) return
      this.#ask(peer, chunk)
    }
  }

  /** The endgame: everything that can be had is asked for. */
  #hedge(peer: Peer): number | undefined {
    if (this.#picker.pickable > 0) return undefined
    return this.#flights.pickHedge(peer, this.#nowMs)
  }

  #ask(peer: Peer, chunk: number): void {
    const mute = this.#flights.inTheWay(chunk)
    if (mute !== undefined) this.#cancel(mute.flight, mute.peer)
    const flight = this.#flights.ask(peer, this.#files.ofChunk(chunk), chunk, this.#nowMs)
    this.#limits?.spend(peer.isUnlimited, flight.bytes)
    const name = nameOf(flight)
    this.#actions.push({ type: 'request', source: peer.id, ...name, length: flight.bytes })
  }

  #askOf(name: SourceChunk): { flight: Flight; peer: Peer } | undefined {
    const peer = this.#roster.get(name.source)
    const entry = this.#files.get(name.file)
    if (peer === undefined || entry === undefined) return undefined
    const flight = this.#flights.asked(entry.first + name.index)
    return flight !== undefined && peer.asks.has(flight.chunk) ? { flight, peer } : undefined
  }

  #sayNeed(): void {
    const { isWaiting } = this
    if (isWaiting && !this.#saidNeed) this.#actions.push({ type: 'need-sources' })
    this.#saidNeed = isWaiting
  }
}
