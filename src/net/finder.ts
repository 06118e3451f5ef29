/**
 * Finds sources for a download in rounds: peers we talk to, addresses the user gave, the LAN, what
 * those peers know of others, and the DHT, all at once. No single one of them is needed, since each can
 * be empty or lied to (research 1.7).
 */

import type { PeerId } from '@libp2p/interface'
import type { Multiaddr } from '@multiformats/multiaddr'
import { AsyncQueue } from '../core/async.ts'
import type { CID } from '../core/cid.ts'
import type { Clock } from '../core/clock.ts'
import { isAbort, messageOf } from '../core/errors.ts'
import type { Logger } from '../core/log.ts'
import { minute, second } from '../core/units.ts'
import type { FindOptions, FoundSource, Source, SourceFinder } from '../transfer/source.ts'
import { parsePeerAddress, type PeerHint } from './addresses.ts'
import type { Dht } from './dht/dht.ts'
import { dialFailure } from './dial-failure.ts'
import { keyOf } from './swarm/have-feed.ts'
import type { Swarm } from './swarm/swarm.ts'

const firstRoundGapMs = second
const lastRoundGapMs = minute
/** Lookups of the first round: enough in a healthy network, and an answer a person waits for. */
const firstLookupMs = 5 * second
const laterLookupMs = 30 * second
/** A node that just started may know nobody in the DHT for as long as its first dial takes. */
const joinMs = 3 * second
/** A round does not wait longer than this for peers that were hinted at; they are awaited all the same. */
const dialGraceMs = 3 * second
const dialTimeoutMs = 15 * second
const dialsInFlightMax = 16
/** Peers that did not answer are tried again after 10 s, 20 s, 40 s …; each costs a dial and a log line. */
const firstRedialMs = 10 * second
const lastRedialMs = 10 * minute
/** Hinted peers remembered per download; more than any download can use, fewer than a flood names. */
const hintsMax = 500
/** Keys looked up in the DHT per round: the first one always, the others in turn. */
const keysPerRoundMax = 8
const lookupsInFlightMax = 4

export interface FinderDeps {
  readonly self: PeerId
  readonly swarm: Pick<Swarm, 'connect' | 'sources' | 'onSource' | 'exchange'>
  readonly dht: Pick<Dht, 'providers' | 'size' | 'whenJoined'>
  /** True while peers that were configured are still being dialled. */
  isJoining(): boolean
  lanPeers(): readonly PeerHint[]
  readonly clock: Clock
  readonly log: Logger
}

export function openFinder(deps: FinderDeps): SourceFinder {
  return {
    async *find(keys, options) {
      // Parsed before the first round: a malformed address is the caller's mistake, not a dead peer.
      const given = options.peers.map(text => parsePeerAddress(text, 'the peer address'))
      const search = new Search(deps, keys, byPeer(given), options)
      try {
        yield* search.results()
      } finally {
        await search.stop()
      }
    },
  }
}

/** One peer of a search, dialled or not. */
interface Candidate {
  hint: PeerHint
  failures: number
  /** When it may be dialled (again). */
  nextMs: number
  dialing: boolean
}

class Search {
  readonly #deps: FinderDeps
  readonly #keys: readonly CID[]
  /** By the peer's id. */
  readonly #given: ReadonlyMap<string, PeerHint>
  readonly #onUnreached: FindOptions['onUnreached']
  readonly #stop = new AbortController()
  readonly #signal: AbortSignal
  readonly #queue = new AsyncQueue<FoundSource>()
  readonly #offered = new WeakSet<Source>()
  readonly #candidates = new Map<string, Candidate>()
  readonly #waiting: Candidate[] = []
  readonly #dials = new Set<Promise<void>>()

  constructor(
    deps: FinderDeps,
    keys: readonly CID[],
    given: ReadonlyMap<string, PeerHint>,
    { signal, onUnreached }: FindOptions,
  ) {
    this.#deps = deps
    this.#keys = distinct(keys)
    this.#given = given
    this.#onUnreached = onUnreached
    this.#signal = AbortSignal.any([signal, this.#stop.signal])
  }

  async *results(): AsyncGenerator<FoundSource> {
    this.#signal.throwIfAborted()
    const forget = this.#deps.swarm.onSource(source => this.#offer(source))
    const rounds = this.#rounds().then(
      () => this.#queue.end(),
      (error: unknown) => this.#queue.fail(error as Error),
    )
    try {
      yield* this.#queue
    } finally {
      forget()
      this.#stop.abort()
      await rounds
    }
  }

  async stop(): Promise<void> {
    this.#stop.abort()
    await Promise.all(this.#dials)
  }

  async #rounds(): Promise<void> {
    for (let round = 1, gapMs = firstRoundGapMs; ; round += 1) {
      for (const source of this.#deps.swarm.sources()) this.#offer(source)
      await this.#round(round)
      this.#queue.push({ type: 'round', round })
      await this.#deps.clock.sleep(gapMs, this.#signal)
      gapMs = Math.min(lastRoundGapMs, gapMs * 2)
    }
  }

  async #round(round: number): Promise<void> {
    for (const hint of [...this.#given.values(), ...this.#deps.lanPeers()]) this.#hint(hint)
    // Those that were found in earlier rounds and may be back.
    for (const candidate of this.#candidates.values()) this.#dialWhenDue(candidate)
    const lookupMs = round === 1 ? firstLookupMs : laterLookupMs
    const signal = AbortSignal.any([this.#signal, AbortSignal.timeout(lookupMs)])
    await Promise.all([
      this.#quietly('peer exchange', this.#exchange(signal)),
      this.#quietly('the DHT', this.#lookups(round, signal)),
    ])
    await this.#dialsSettled()
    if (round === 1) {
      // Those that were just connected to may know others, and a small network is one hop wide.
      const soon = AbortSignal.any([this.#signal, AbortSignal.timeout(dialGraceMs)])
      await this.#quietly('peer exchange', this.#exchange(soon))
      await this.#dialsSettled()
      for (const name of this.#given.keys()) {
        const candidate = this.#candidates.get(name)
        if (candidate?.dialing === true) this.#unreached(name, 'no answer so far')
      }
    }
  }

  async #exchange(signal: AbortSignal): Promise<void> {
    for (const hint of await this.#deps.swarm.exchange(this.#keys, { signal })) this.#hint(hint)
  }

  async #lookups(round: number, signal: AbortSignal): Promise<void> {
    const { dht } = this.#deps
    if (dht.size() === 0 && this.#deps.isJoining()) await dht.whenJoined(joinMs, signal)
    const keys = keysOfRound(this.#keys, round)
    const next = async (): Promise<void> => {
      for (let key = keys.shift(); key !== undefined; key = keys.shift()) {
        for await (const hint of dht.providers(key, signal)) this.#hint(hint)
      }
    }
    await Promise.all(Array.from({ length: lookupsInFlightMax }, next))
  }

  /** A way of finding that fails or takes too long leaves the others to it. */
  async #quietly(what: string, work: Promise<void>): Promise<void> {
    try {
      await work
    } catch (error) {
      this.#signal.throwIfAborted()
      const reason = isAbort(error) ? 'it took too long' : messageOf(error)
      this.#deps.log.debug(`finding sources by ${what} failed`, { error: reason })
    }
  }

  #offer(source: Source): void {
    if (this.#offered.has(source) || source.closed.aborted || this.#signal.aborted) return
    this.#offered.add(source)
    this.#queue.push({ type: 'source', source })
  }

  #hint(hint: PeerHint): void {
    const name = hint.peer.toString()
    if (hint.peer.equals(this.#deps.self)) {
      this.#unreached(name, 'that is this node')
      return
    }
    const known = this.#candidates.get(name)
    if (known !== undefined) {
      // The newest word on where a peer is: it may have moved since the last failure.
      if (hint.addresses.length > 0) known.hint = hint
      this.#dialWhenDue(known)
      return
    }
    if (this.#candidates.size >= hintsMax) return
    const candidate = { hint, failures: 0, nextMs: -Infinity, dialing: false }
    this.#candidates.set(name, candidate)
    this.#dialWhenDue(candidate)
  }

  #dialWhenDue(candidate: Candidate): void {
    if (candidate.dialing || this.#deps.clock.monotonic() < candidate.nextMs) return
    candidate.dialing = true
    this.#waiting.push(candidate)
    this.#dialNext()
  }

  #dialNext(): void {
    while (this.#dials.size < dialsInFlightMax && !this.#signal.aborted) {
      const candidate = this.#waiting.shift()
      if (candidate === undefined) return
      const task = this.#dial(candidate).finally(() => {
        candidate.dialing = false
        this.#dials.delete(task)
        this.#dialNext()
      })
      this.#dials.add(task)
    }
  }

  async #dial(candidate: Candidate): Promise<void> {
    const { clock, log, swarm } = this.#deps
    const { hint } = candidate
    try {
      const signal = AbortSignal.any([this.#signal, AbortSignal.timeout(dialTimeoutMs)])
      this.#offer(await swarm.connect(hint, { signal }))
      candidate.failures = 0
    } catch (error) {
      if (this.#signal.aborted) return
      const waitMs = Math.min(lastRedialMs, firstRedialMs * 2 ** candidate.failures)
      candidate.failures += 1
      candidate.nextMs = clock.monotonic() + waitMs
      const peer = hint.peer.toString()
      this.#unreached(peer, dialFailure(error))
      log.debug('a source was not reached', {
        peer,
        retryMs: waitMs,
        error: messageOf(error),
      })
    }
  }

  /** Of those that a person named, and only of those. */
  #unreached(peer: string, reason: string): void {
    if (this.#given.has(peer)) this.#onUnreached?.(peer, reason)
  }

  /** All dials are done, or a few seconds have passed. */
  async #dialsSettled(): Promise<void> {
    if (this.#dials.size === 0) return
    const enough = new AbortController()
    const signal = AbortSignal.any([this.#signal, enough.signal])
    const timeUp = this.#deps.clock.sleep(dialGraceMs, signal).catch(() => undefined)
    const settled = async (): Promise<void> => {
      while (this.#dials.size > 0) await Promise.all(this.#dials)
    }
    await Promise.race([settled(), timeUp])
    enough.abort()
    this.#signal.throwIfAborted()
  }
}

/** A peer that is given with several addresses is dialled at all of them. */
function byPeer(
  given: readonly { readonly peer: PeerId; readonly address: Multiaddr }[],
): Map<string, PeerHint> {
  const hints = new Map<string, PeerHint>()
  for (const { peer, address } of given) {
    const before = hints.get(peer.toString())?.addresses ?? []
    hints.set(peer.toString(), { peer, addresses: [...before, address] })
  }
  return hints
}

/** Each once: a file's root and its whole SHA-256 are the same CID when it has one chunk. */
function distinct(keys: readonly CID[]): CID[] {
  return [...new Map(keys.map(key => [keyOf(key), key])).values()]
}

function keysOfRound(keys: readonly CID[], round: number): CID[] {
  const [first, ...others] = keys
  if (first === undefined) return []
  const count = Math.min(others.length, keysPerRoundMax - 1)
  const from = (round - 1) * count
  const turn = Array.from({ length: count }, (_, index) => others[(from + index) % others.length])
  return [first, ...turn.filter(key => key !== undefined)]
}
