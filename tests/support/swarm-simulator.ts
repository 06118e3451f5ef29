/**
 * A swarm around one Session, without sockets, files or time: seeded sources that hold some chunks,
 * with a bandwidth and a delay, and that lie, stall, refuse or leave as the scenario says. Checks the
 * session's invariants at every step.
 */

import { Bitfield } from '../../src/core/bitfield.ts'
import { sha256 } from '../../src/core/digest.ts'
import { ChunkTable } from '../../src/dag/chunk-table.ts'
import type { FlightShare } from '../../src/transfer/flight-budget.ts'
import { Session } from '../../src/transfer/session.ts'
import type { SessionAction, SessionEvent, SourceChunk } from '../../src/transfer/session-events.ts'

/** Deterministic, and good enough for scenarios: mulberry32. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** A table of chunks that exist only as digests. */
export function tableOfLengths(name: string, lengths: readonly number[]): ChunkTable {
  return ChunkTable.fromRefs(
    lengths.map((length, index) => ({ digest: sha256(Buffer.from(`${name}/${index}`)), length })),
  )
}

export interface SimulatedSource {
  readonly id: string
  /** By file: the chunks it holds; grows and shrinks through gain and lose. */
  readonly holds: Bitfield[]
  readonly bytesPerMs: number
  readonly delayMs: number
  /** Probability that a chunk comes with a flipped bit. */
  readonly lies?: number
  /** Accepts requests and answers none while true. */
  frozen?: boolean
  /** Claims everything and refuses. */
  readonly refuses?: boolean
}

interface Transfer extends SourceChunk {
  readonly length: number
  readonly connection: number
}

interface Connected {
  readonly source: SimulatedSource
  readonly connection: number
  /** When the last answer under way will have arrived. */
  freeAtMs: number
  /** Requests a frozen source has swallowed. */
  swallowed: Transfer[]
}

export interface SimulationOptions {
  readonly tables: readonly ChunkTable[]
  readonly random: () => number
  readonly openFilesMax?: number
  readonly bytesInFlightMax?: number
  readonly share?: FlightShare
  /** How long a write takes after the bytes are there. */
  readonly writeMs?: number
  readonly isSequential?: boolean
}

const tickMs = 250
const asksPerChunkMax = 3

export class Simulation {
  readonly session: Session
  readonly held: Bitfield[]
  readonly banned = new Set<string>()
  readonly bytesBySource = new Map<string, number>()
  readonly log: SessionAction[] = []
  /** Every request, in order. */
  readonly asked: SourceChunk[] = []
  nowMs = 0
  needs = 0
  bytesAsked = 0
  bytesInFlightPeak = 0
  openPeak = 0
  /** The longest time without a new chunk while somebody honest and awake had one that was missing. */
  idleMsMax = 0
  #progressAtMs = 0
  readonly #options: SimulationOptions
  readonly #connected = new Map<string, Connected>()
  readonly #asked = new Map<string, Set<string>>()
  readonly #writing = new Set<string>()
  readonly #open = new Set<number>()
  readonly #queue: { atMs: number; order: number; run: () => void }[] = []
  #order = 0
  #bytesInFlight = 0
  #connections = 0

  constructor(options: SimulationOptions) {
    this.#options = options
    const { tables, random, openFilesMax, bytesInFlightMax, share, isSequential } = options
    this.session = new Session({
      files: tables.length,
      random,
      isSequential,
      share,
      ...(openFilesMax === undefined ? {} : { openFilesMax }),
      ...(bytesInFlightMax === undefined ? {} : { bytesInFlightMax }),
    })
    this.held = tables.map(table => new Bitfield(table.count))
    for (const [file, table] of tables.entries()) this.apply({ type: 'file-known', file, table })
    this.after(tickMs, () => this.#tick())
  }

  get requests(): number {
    return this.asked.length
  }

  /** Bytes of all chunks. */
  get size(): number {
    return this.#options.tables.reduce((sum, { size }) => sum + size, 0)
  }

  connect(source: SimulatedSource): void {
    this.#connections += 1
    const connection = this.#connections
    this.#connected.set(source.id, { source, connection, freeAtMs: this.nowMs, swallowed: [] })
    this.apply({ type: 'source-added', source: source.id, requestsMax: 64 })
    for (const [file, holds] of source.holds.entries())
      this.#tell(source.id, file, [...holds.runs()])
  }

  disconnect(id: string): void {
    if (!this.#connected.delete(id)) return
    for (const [name, sources] of this.#asked) {
      if (sources.delete(id)) this.#bytesInFlight -= this.#lengthOf(name)
      if (sources.size === 0) this.#asked.delete(name)
    }
    this.apply({ type: 'source-gone', source: id })
  }

  gain(source: SimulatedSource, file: number, index: number): void {
    if (source.holds[file]?.add(index) && this.#connected.has(source.id)) {
      this.#tell(source.id, file, [[index, index + 1]])
    }
  }

  isConnected(id: string): boolean {
    return this.#connected.has(id)
  }

  /** A frozen source goes on. */
  thaw(id: string): void {
    const connected = this.#connected.get(id)
    if (connected === undefined) return
    connected.source.frozen = false
    for (const transfer of connected.swallowed.splice(0)) this.#serve(connected, transfer)
  }

  after(ms: number, run: () => void): void {
    this.#queue.push({ atMs: this.nowMs + ms, order: this.#order, run })
    this.#order += 1
  }

  /** Until the download is done or the time is up; true when done. */
  run(untilMs: number): boolean {
    while (!this.session.isDone) {
      // Small queues: a scan is simpler than a heap.
      let next = 0
      for (let at = 1; at < this.#queue.length; at += 1) if (this.#isSooner(at, next)) next = at
      const entry = this.#queue[next]
      if (entry === undefined || entry.atMs > untilMs) {
        this.nowMs = untilMs
        return false
      }
      this.#queue[next] = this.#queue.at(-1) as typeof entry
      this.#queue.pop()
      this.nowMs = entry.atMs
      entry.run()
    }
    return true
  }

  apply(event: SessionEvent): void {
    for (const action of this.session.apply(event, this.nowMs)) this.#act(action)
  }

  #isSooner(a: number, b: number): boolean {
    const [x, y] = [this.#queue[a], this.#queue[b]]
    if (x === undefined || y === undefined) return false
    return x.atMs < y.atMs || (x.atMs === y.atMs && x.order < y.order)
  }

  #tick(): void {
    if (!this.#canProgress()) this.#progressAtMs = this.nowMs
    this.idleMsMax = Math.max(this.idleMsMax, this.nowMs - this.#progressAtMs)
    this.apply({ type: 'tick' })
    this.after(tickMs, () => this.#tick())
  }

  #canProgress(): boolean {
    return this.#connected.values().some(({ source: { holds, lies, frozen, refuses } }) => {
      if (lies !== undefined || frozen === true || refuses === true) return false
      return holds.some((has, file) => {
        const chunks = has.runs().flatMap(([start, end]) => range(start, end))
        return chunks.some(chunk => this.held[file]?.has(chunk) === false)
      })
    })
  }

  #tell(source: string, file: number, gained: (readonly [number, number])[]): void {
    this.apply({ type: 'have', source, file, gained, lost: [] })
  }

  #act(action: SessionAction): void {
    switch (action.type) {
      case 'request':
        this.#request(action)
        return
      case 'cancel': {
        const sources = this.#asked.get(nameOf(action))
        if (sources?.delete(action.source)) {
          this.#bytesInFlight -= this.#lengthOf(nameOf(action))
        } else if (this.#connected.has(action.source)) {
          throw new Error(`cancelled what was not asked: ${nameOf(action)}`)
        }
        return
      }
      case 'ban':
        this.banned.add(action.source)
        this.#drop(action.source)
        return
      case 'open': {
        const { file } = action
        this.#open.add(file)
        this.openPeak = Math.max(this.openPeak, this.#open.size)
        const held = this.held[file] as Bitfield
        this.after(1, () => this.apply({ type: 'file-opened', file, held }))
        return
      }
      case 'park':
        this.#open.delete(action.file)
        this.after(1, () => this.apply({ type: 'file-parked', file: action.file }))
        return
      case 'publish':
        if (!this.held[action.file]?.isFull) throw new Error('published before it is whole')
        this.#open.delete(action.file)
        this.after(1, () => this.apply({ type: 'file-done', file: action.file }))
        return
      case 'need-sources':
        this.needs += 1
        return
      case 'stalled':
      case 'distrusted':
        this.log.push(action)
    }
  }

  #request(action: Extract<SessionAction, { type: 'request' }>): void {
    const name = nameOf(action)
    const sources = this.#asked.get(name) ?? new Set()
    this.#asked.set(name, sources)
    const connected = this.#connected.get(action.source)
    if (connected === undefined) throw new Error(`asked ${action.source}, which is not there`)
    if (this.banned.has(action.source)) throw new Error(`asked ${action.source}, which is banned`)
    if (sources.has(action.source)) throw new Error(`asked ${action.source} twice for ${name}`)
    if (this.held[action.file]?.has(action.index)) throw new Error(`asked for ${name}, held`)
    if (this.#writing.has(name)) throw new Error(`asked for ${name}, which is being written`)
    if (!this.#open.has(action.file)) throw new Error(`asked for ${name} of a closed file`)
    sources.add(action.source)
    if (sources.size > asksPerChunkMax) throw new Error(`${name} asked ${sources.size} times`)
    this.asked.push(action)
    this.bytesAsked += action.length
    this.#bytesInFlight += action.length
    this.bytesInFlightPeak = Math.max(this.bytesInFlightPeak, this.#bytesInFlight)
    const { source, file, index, length } = action
    const transfer = { source, file, index, length, connection: connected.connection }
    if (connected.source.frozen === true) connected.swallowed.push(transfer)
    else this.#serve(connected, transfer)
  }

  #serve(connected: Connected, transfer: Transfer): void {
    const { source } = connected
    const startMs = Math.max(this.nowMs + source.delayMs / 2, connected.freeAtMs)
    const isRefused =
      source.refuses === true || source.holds[transfer.file]?.has(transfer.index) !== true
    const takesMs = isRefused ? 0 : transfer.length / source.bytesPerMs
    connected.freeAtMs = startMs + takesMs
    this.after(connected.freeAtMs + source.delayMs / 2 - this.nowMs, () => {
      if (this.#connected.get(source.id)?.connection !== transfer.connection) return
      if (!this.#asked.get(nameOf(transfer))?.has(source.id)) return
      if (connected.source.frozen === true) connected.swallowed.push(transfer)
      else if (isRefused) this.#refuse(transfer)
      else this.#arrive(transfer, this.#options.random() < (source.lies ?? 0))
    })
  }

  #refuse({ source, file, index, length }: Transfer): void {
    this.#asked.get(nameOf({ file, index }))?.delete(source)
    this.#bytesInFlight -= length
    const reason = new Error('not held')
    this.apply({ type: 'request-failed', source, file, index, failure: 'refused', reason })
  }

  #arrive({ source, file, index, length }: Transfer, isBad: boolean): void {
    const name = nameOf({ file, index })
    this.#asked.get(name)?.delete(source)
    this.#bytesInFlight -= length
    this.#writing.add(name)
    this.apply({ type: 'chunk-arrived', source, file, index })
    this.after(this.#options.writeMs ?? 0, () => {
      this.#writing.delete(name)
      if (isBad) {
        this.apply({ type: 'chunk-bad', source, file, index, reason: new Error('a flipped bit') })
        return
      }
      if (this.held[file]?.add(index) !== true) throw new Error(`${name} was written twice`)
      this.#progressAtMs = this.nowMs
      this.bytesBySource.set(source, (this.bytesBySource.get(source) ?? 0) + length)
      this.apply({ type: 'chunk-verified', source, file, index })
    })
  }

  #drop(id: string): void {
    for (const sources of this.#asked.values()) {
      if (sources.has(id)) throw new Error(`banned ${id} with requests in flight`)
    }
    this.#connected.delete(id)
  }

  #lengthOf(name: string): number {
    const [file, index] = name.split('/').map(Number)
    return this.#options.tables[file as number]?.length(index as number) ?? 0
  }
}

function* range(start: number, end: number): Generator<number> {
  for (let at = start; at < end; at += 1) yield at
}

function nameOf({ file, index }: { file: number; index: number }): string {
  return `${file}/${index}`
}
