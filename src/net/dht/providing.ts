/**
 * Tells the DHT what this node provides: new keys within a second or two, each again before its
 * records expire, all of them when the network or our addresses change. kad-dht's own provide() and
 * reprovider are not used: one writes its record before it sends and forgets failures (defect F), the
 * other needs a lookup per key (defect G).
 */

import type { PeerId } from '@libp2p/interface'
import { mapLimit } from '../../core/async.ts'
import type { CID } from '../../core/cid.ts'
import type { Clock } from '../../core/clock.ts'
import { messageOf } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import { minute, second } from '../../core/units.ts'
import type { AnnounceLedger, AnnounceStatus } from './announce-ledger.ts'
import type { AnnounceSender } from './announce-stream.ts'
import type { Dht } from './dht.ts'
import { type Located, replication } from './kad-space.ts'
import { holdersOf, type Region, sweepRegions } from './sweep.ts'

/** Servers written to at a time: 40 at once ended in reset streams (research 1.4). */
const serversInFlightMax = 6
/** Keys of one pass: what is new meanwhile waits no longer than one. */
const keysPerPassMax = 2000
/** Changes that come together, and servers that join together, are one pass. */
export const gatherMs = second / 2
/** A lookup in a network of which half is frozen takes 10 to 30 s. */
const lookupTimeoutMs = 30 * second
/** Even with nothing due: a clock that was set back must not stop us for hours. */
const restMsMax = 5 * minute

export interface ProvidingDeps {
  readonly ledger: AnnounceLedger
  readonly dht: Pick<Dht, 'size' | 'closest' | 'onServer'>
  readonly sender: AnnounceSender
  providedKeys(): Iterable<CID>
  /** Our addresses as others are told, or empty: records without one are not stored. */
  addresses(): readonly string[]
  readonly clock: Clock
  readonly log: Logger
}

export interface Providing extends AsyncDisposable {
  /** The set of provided keys changed. */
  changed(): void
  /** Our addresses may have changed. */
  moved(): void
  status(): AnnounceStatus
}

export function openProviding(deps: ProvidingDeps): Providing {
  return new OpenProviding(deps)
}

class OpenProviding implements Providing {
  readonly #deps: ProvidingDeps
  readonly #stop = new AbortController()
  readonly #running: Promise<void>
  readonly #forget: () => void
  #isChanged = true
  #isGrown = true
  #wake: (() => void) | undefined

  constructor(deps: ProvidingDeps) {
    this.#deps = deps
    this.#forget = deps.dht.onServer(() => {
      this.#isGrown = true
      this.#wake?.()
    })
    this.#running = this.#run()
  }

  changed(): void {
    this.#isChanged = true
    this.#wake?.()
  }

  moved(): void {
    this.#isGrown = true
    this.#wake?.()
  }

  status(): AnnounceStatus {
    return this.#deps.ledger.status()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#forget()
    this.#stop.abort()
    this.#wake?.()
    await this.#running
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop
    for (;;) {
      try {
        signal.throwIfAborted()
        await this.#step()
      } catch (error) {
        if (signal.aborted) return
        this.#deps.log.warn('announcing failed', { error: messageOf(error) })
        await this.#deps.clock.sleep(minute, signal).catch(() => undefined)
      }
    }
  }

  async #step(): Promise<void> {
    const { clock, dht, ledger, log } = this.#deps
    if (this.#isChanged || this.#isGrown) {
      // Cleared before the look: what changes during it is seen the next time.
      if (this.#isChanged) this.#sync()
      this.#isGrown = false
      const servers = dht.size()
      const addresses = this.#deps.addresses()
      if (ledger.describe(addresses)) {
        log.info('announcing under new addresses', { addresses })
      }
      ledger.grown(servers)
    }
    const dueMs = ledger.nextDueMs()
    const canAnnounce = dht.size() > 0 && this.#deps.addresses().length > 0
    if (canAnnounce && dueMs !== undefined && dueMs <= clock.now()) await this.#pass()
    else await this.#rest(canAnnounce && dueMs !== undefined ? dueMs - clock.now() : restMsMax)
  }

  /** Until something is due or changed; then as long as it takes for more of the same to arrive. */
  async #rest(ms: number): Promise<void> {
    const { clock } = this.#deps
    const woken = new AbortController()
    this.#wake = () => woken.abort()
    const signal = AbortSignal.any([woken.signal, this.#stop.signal])
    if (!this.#isChanged && !this.#isGrown) {
      await clock.sleep(Math.min(ms, restMsMax), signal).catch(() => undefined)
    }
    this.#wake = undefined
    if (this.#isChanged || this.#isGrown) await clock.sleep(gatherMs, this.#stop.signal)
  }

  #sync(): void {
    this.#isChanged = false
    const { ledger, log } = this.#deps
    const keys = [...this.#deps.providedKeys()].map(cid => cid.multihash.bytes)
    const { added, dropped } = ledger.sync(keys)
    if (added + dropped > 0) log.debug('keys to announce changed', { added, dropped })
  }

  async #pass(): Promise<void> {
    const { clock, dht, ledger, log } = this.#deps
    const startedMs = clock.monotonic()
    const keys = ledger.due(keysPerPassMax)
    let records = 0
    const lookup = (key: Uint8Array): Promise<Located<PeerId>[]> =>
      dht.closest(key, AbortSignal.any([this.#stop.signal, AbortSignal.timeout(lookupTimeoutMs)]))
    const isSmall = (): boolean => dht.size() < replication
    for await (const region of sweepRegions(keys, lookup, isSmall)) {
      records += await this.#announce(region)
    }
    const ms = Math.round(clock.monotonic() - startedMs)
    log.info('announced', { keys: keys.length, records, ms })
  }

  /** Resolves with how many records servers took. */
  async #announce({ servers, keys }: Region<PeerId>): Promise<number> {
    const { ledger, log, sender } = this.#deps
    const targets = new Map<Located<PeerId>, Located<Uint8Array>[]>()
    const wanted = new Map<Located<Uint8Array>, number>()
    for (const key of keys) {
      const holders = holdersOf(key, servers)
      wanted.set(key, holders.length)
      for (const server of holders) {
        const list = targets.get(server)
        if (list === undefined) targets.set(server, [key])
        else list.push(key)
      }
    }
    const taken = new Map<Located<Uint8Array>, number>()
    const visit = async (
      [server, batch]: [Located<PeerId>, Located<Uint8Array>[]],
      signal: AbortSignal,
    ): Promise<number> => {
      const sent = await sender.send(
        server.item,
        batch.map(({ item }) => item),
        signal,
      )
      for (const key of batch.slice(0, sent.taken)) taken.set(key, (taken.get(key) ?? 0) + 1)
      if (sent.error !== undefined) {
        log.debug('a DHT server did not take our records', {
          server: server.item.toString(),
          error: messageOf(sent.error),
        })
      }
      return sent.taken
    }
    let records = 0
    for await (const count of mapLimit(targets, serversInFlightMax, visit, this.#stop.signal)) {
      records += count
    }
    for (const [key, count] of wanted) {
      const holders = taken.get(key) ?? 0
      // Half of the wanted ones keep a key findable until it is due again; fewer are worth a retry.
      if (holders > 0 && holders * 2 >= count) ledger.announced(key.item, holders)
      else ledger.failed(key.item, holders)
    }
    return records
  }
}
