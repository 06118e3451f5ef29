/**
 * The node's view of the DHT: who is in it, which servers are nearest to a key, who provides it. The
 * queries are kad-dht's; what it gets wrong is put right in dht-guard.ts.
 */

import type { KadDHT } from '@libp2p/kad-dht'
import type { Libp2p, PeerId, PeerInfo } from '@libp2p/interface'
import { peerIdFromMultihash } from '@libp2p/peer-id'
import * as Digest from 'multiformats/hashes/digest'
import { mapLimit, raceSignal } from '../../core/async.ts'
import { type CID, codecs, makeCid } from '../../core/cid.ts'
import type { Clock } from '../../core/clock.ts'
import { messageOf } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import { minute, second } from '../../core/units.ts'
import { decodeAddresses, type PeerHint } from '../addresses.ts'
import type { KadTable } from './dht-guard.ts'
import { kadIdOf, type Located, replication } from './kad-space.ts'
import type { ProviderRecords } from './provider-records.ts'

export const dhtProtocol = '/commonweight/kad/1.0.0'

/** A server that stopped answering stays in kad-dht's table until its bucket is full (defect I). */
const livenessEveryMs = 5 * minute
const livenessTimeoutMs = 5 * second
const livenessInFlightMax = 4
/** Our neighbourhood is looked up once the first server is there, and kad-dht's own timer did not. */
const joinLookupTimeoutMs = 10 * second
/**
 * One lookup is too few: a request gets a second at first, dial and handshake included, and where none is
 * answered in time kad-dht would stay with the servers it has until its next one. So it is repeated, each
 * time after twice as long, until there is a bucketful of servers or kad-dht's own turn has come.
 */
const joinAgainMs = 2 * second
const kadLookupEveryMs = 5 * minute
/** Records are swept a few thousand at a time, so often that a flood's are gone within the hour. */
const sweepEveryMs = minute
/** Providers taken from one lookup: beyond it are more than anybody dials. */
const providersMax = 200

export interface Dht extends AsyncDisposable {
  mode(): 'client' | 'server'
  /** Other servers in our table. */
  size(): number
  /** The live servers nearest to a key (a multihash), at most 20. */
  closest(key: Uint8Array, signal: AbortSignal): Promise<Located<PeerId>[]>
  /** Each provider once, as it is found; ends when the lookup does. Never throws but the signal's reason. */
  providers(key: CID, signal: AbortSignal): AsyncGenerator<PeerHint>
  /** Called for each server that enters the table; returns how to stop. */
  onServer(listener: () => void): () => void
  /** Resolves when there is a server to ask, or after `ms`. */
  whenJoined(ms: number, signal: AbortSignal): Promise<void>
}

export interface DhtDeps {
  readonly libp2p: Libp2p
  readonly kad: KadDHT
  readonly table: KadTable
  readonly records: ProviderRecords
  readonly clock: Clock
  readonly log: Logger
}

export function openDht(deps: DhtDeps): Dht {
  return new OpenDht(deps)
}

class OpenDht implements Dht {
  readonly #deps: DhtDeps
  readonly #stop = new AbortController()
  readonly #listeners = new Set<() => void>()
  readonly #upkeep: Promise<void>[]
  /** Joins one after the other: a new one ends what is left of the last. */
  #joining: Promise<void> = Promise.resolve()
  #stopJoining = new AbortController()
  #isAlone = true

  constructor(deps: DhtDeps) {
    this.#deps = deps
    deps.table.addEventListener('peer:add', this.#onAdd)
    deps.table.addEventListener('peer:remove', this.#onRemove)
    this.#upkeep = [
      this.#every(livenessEveryMs, () => this.#dropDead()),
      this.#every(sweepEveryMs, () => {
        deps.records.sweep()
        return Promise.resolve()
      }),
    ]
    // Those of the last run may be in the table before anybody listens.
    if (this.size() > 0) this.#join()
  }

  mode(): 'client' | 'server' {
    return this.#deps.kad.getMode()
  }

  size(): number {
    return this.#servers().length
  }

  async closest(key: Uint8Array, signal: AbortSignal): Promise<Located<PeerId>[]> {
    const found: Located<PeerId>[] = []
    for await (const event of this.#deps.kad.getClosestPeers(key, { signal })) {
      if (event.name !== 'FINAL_PEER') continue
      const { id } = event.peer
      found.push({ place: kadIdOf(id.toMultihash().bytes), item: id })
    }
    signal.throwIfAborted()
    return found
  }

  async *providers(key: CID, signal: AbortSignal): AsyncGenerator<PeerHint> {
    const told = new Set<string>()
    const isNew = ({ peer }: PeerHint): boolean => {
      if (told.has(peer.toString()) || told.size >= providersMax) return false
      told.add(peer.toString())
      return true
    }
    yield* this.#stored(key).filter(isNew)
    if (this.size() === 0) return
    // The codec is no part of a record's key; raw is what kad-dht logs shortest.
    const raw = makeCid(codecs.raw, key.multihash.digest)
    try {
      for await (const event of this.#deps.kad.findProviders(raw, { signal })) {
        if (event.name !== 'PROVIDER') continue
        yield* event.providers.map(hintOf).filter(isNew)
      }
    } catch (error) {
      signal.throwIfAborted()
      this.#deps.log.debug('DHT lookup failed', { key: key.toString(), error: messageOf(error) })
    }
  }

  onServer(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  async whenJoined(ms: number, signal: AbortSignal): Promise<void> {
    if (this.size() > 0) return
    const joined = Promise.withResolvers<void>()
    const forget = this.onServer(() => joined.resolve())
    const late = new AbortController()
    try {
      const { clock } = this.#deps
      const timeUp = clock.sleep(ms, AbortSignal.any([signal, late.signal]))
      await raceSignal(Promise.race([joined.promise, timeUp]), signal)
    } finally {
      forget()
      late.abort()
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort()
    this.#listeners.clear()
    await Promise.all([...this.#upkeep, this.#joining])
  }

  readonly #onAdd = (event: CustomEvent): void => {
    if (this.#stop.signal.aborted || this.#deps.libp2p.peerId.equals(event.detail)) return
    for (const listener of this.#listeners) listener()
    if (this.#isAlone) this.#join()
  }

  readonly #onRemove = (): void => {
    if (this.size() === 0) this.#isAlone = true
  }

  /** kad-dht looks its neighbourhood up once, a second after the start: in vain when it was alone. */
  #join(): void {
    this.#isAlone = false
    this.#stopJoining.abort()
    this.#stopJoining = new AbortController()
    const signal = AbortSignal.any([this.#stop.signal, this.#stopJoining.signal])
    this.#joining = this.#joining.then(() => this.#lookAroundUntilJoined(signal))
  }

  async #lookAroundUntilJoined(signal: AbortSignal): Promise<void> {
    for (let waitMs = joinAgainMs; waitMs < kadLookupEveryMs; waitMs *= 2) {
      if (signal.aborted) return
      await this.#lookAround(signal)
      await this.#deps.clock.sleep(waitMs, signal).catch(() => undefined)
      if (this.size() >= replication) return
    }
  }

  async #lookAround(stop: AbortSignal): Promise<void> {
    const signal = AbortSignal.any([stop, AbortSignal.timeout(joinLookupTimeoutMs)])
    try {
      await this.closest(this.#deps.libp2p.peerId.toMultihash().bytes, signal)
    } catch (error) {
      this.#deps.log.debug('looking up our own neighbourhood failed', { error: messageOf(error) })
    }
  }

  #stored(key: CID): PeerHint[] {
    return this.#deps.records.get(key.multihash.bytes).map(({ id, addresses }) => ({
      peer: peerIdFromMultihash(Digest.decode(id)),
      addresses: decodeAddresses(addresses),
    }))
  }

  #servers(): PeerId[] {
    const { libp2p, table } = this.#deps
    const self = libp2p.peerId
    const peers = table.closestPeers(kadIdOf(self.toMultihash().bytes), { count: table.size })
    return peers.filter(peer => !peer.equals(self))
  }

  async #dropDead(): Promise<void> {
    const { libp2p, table, log } = this.#deps
    const idle = this.#servers().filter(peer => libp2p.getConnections(peer).length === 0)
    const check = async (peer: PeerId, inner: AbortSignal): Promise<void> => {
      const signal = AbortSignal.any([inner, AbortSignal.timeout(livenessTimeoutMs)])
      try {
        await libp2p.dial(peer, { signal })
      } catch (error) {
        inner.throwIfAborted()
        log.debug('DHT server gone', { peer: peer.toString(), error: messageOf(error) })
        await table.remove(peer)
      }
    }
    const checks = mapLimit(idle, livenessInFlightMax, check, this.#stop.signal)
    while (!(await checks.next()).done);
  }

  async #every(ms: number, work: () => Promise<void>): Promise<void> {
    const { clock, log } = this.#deps
    const { signal } = this.#stop
    for (;;) {
      try {
        signal.throwIfAborted()
        await clock.sleep(ms, signal)
        await work()
      } catch (error) {
        if (signal.aborted) return
        log.warn('DHT upkeep failed', { error: messageOf(error) })
      }
    }
  }
}

function hintOf({ id, multiaddrs }: PeerInfo): PeerHint {
  return { peer: id, addresses: multiaddrs }
}
