/**
 * Nodes on the local network, found by multicast under our own service name so that other libp2p
 * programs are left alone. Here, and only here, private addresses are told whatever the reach: those
 * who hear it are on the same network.
 */

import { mdns } from '@libp2p/mdns'
import type { Libp2p, PeerDiscovery, PeerInfo } from '@libp2p/interface'
import type { Multiaddr } from '@multiformats/multiaddr'
import type { Libp2pOptions } from 'libp2p'
import type { Clock } from '../../core/clock.ts'
import { messageOf } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import { minute, second } from '../../core/units.ts'
import { isRelayed, type PeerHint } from '../addresses.ts'

/** libp2p's parts, as its factories get them; the package does not export the type. */
export type Components = Parameters<NonNullable<Libp2pOptions['transports']>[number]>[0]

const serviceTag = '_commonweight._udp.local'
/** Anybody on the network can claim any number of peers. */
const peersMax = 64
const peerAgeMs = 5 * minute
const dialTimeoutMs = 10 * second
const dialAgainMs = minute
const dialsMax = 4

export interface Lan extends AsyncDisposable {
  /** For libp2p's peerDiscovery. */
  readonly discovery: (components: Components) => PeerDiscovery
  /** From now on peers that are heard of are connected to. */
  start(libp2p: Libp2p): void
  peers(): PeerHint[]
}

interface LanPeer {
  readonly hint: PeerHint
  readonly heardAtMs: number
  dialledAtMs: number
}

export function openLan(deps: { readonly clock: Clock; readonly log: Logger }): Lan {
  return new OpenLan(deps)
}

class OpenLan implements Lan {
  readonly #clock: Clock
  readonly #log: Logger
  readonly #stop = new AbortController()
  /** The first one is the one not heard of the longest. */
  readonly #known = new Map<string, LanPeer>()
  readonly #dials = new Set<Promise<void>>()
  #host: Libp2p | undefined

  constructor({ clock, log }: { readonly clock: Clock; readonly log: Logger }) {
    this.#clock = clock
    this.#log = log
  }

  readonly discovery = (components: Components): PeerDiscovery => {
    const found = mdns({ serviceTag })({
      logger: components.logger,
      addressManager: localAddresses(components),
    })
    found.addEventListener('peer', ({ detail }) => this.#onPeer(detail))
    return found
  }

  start(libp2p: Libp2p): void {
    this.#host = libp2p
    this.#dialNext()
  }

  peers(): PeerHint[] {
    return this.#fresh().map(({ hint }) => hint)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort()
    await Promise.all(this.#dials)
  }

  #fresh(): LanPeer[] {
    const oldestMs = this.#clock.monotonic() - peerAgeMs
    return [...this.#known.values()].filter(({ heardAtMs }) => heardAtMs >= oldestMs)
  }

  #onPeer({ id, multiaddrs }: PeerInfo): void {
    const name = id.toString()
    const before = this.#known.get(name)
    this.#known.delete(name)
    this.#known.set(name, {
      hint: { peer: id, addresses: multiaddrs },
      heardAtMs: this.#clock.monotonic(),
      dialledAtMs: before?.dialledAtMs ?? -Infinity,
    })
    const [oldest] = this.#known.keys()
    if (this.#known.size > peersMax && oldest !== undefined) this.#known.delete(oldest)
    this.#dialNext()
  }

  #dialNext(): void {
    const host = this.#host
    if (host === undefined || this.#stop.signal.aborted) return
    for (const peer of this.#fresh()) {
      if (this.#dials.size >= dialsMax) return
      const isDue = this.#clock.monotonic() - peer.dialledAtMs >= dialAgainMs
      if (!isDue || host.getConnections(peer.hint.peer).length > 0) continue
      peer.dialledAtMs = this.#clock.monotonic()
      const task = this.#dial(host, peer.hint).finally(() => {
        this.#dials.delete(task)
        this.#dialNext()
      })
      this.#dials.add(task)
    }
  }

  async #dial(libp2p: Libp2p, { peer, addresses }: PeerHint): Promise<void> {
    try {
      const signal = AbortSignal.any([this.#stop.signal, AbortSignal.timeout(dialTimeoutMs)])
      await libp2p.dial(
        addresses.map(address => address.encapsulate(`/p2p/${peer.toString()}`)),
        { signal },
      )
    } catch (error) {
      this.#log.debug('a node of the LAN cannot be reached', {
        peer: peer.toString(),
        error: messageOf(error),
      })
    }
  }
}

/** An address manager that knows only what is listened on, before the filter for the outside. */
function localAddresses(components: Components): Components['addressManager'] {
  const getAddresses = (): Multiaddr[] =>
    components.transportManager
      .getAddrs()
      .filter(address => !isRelayed(address))
      .map(address => address.encapsulate(`/p2p/${components.peerId.toString()}`))
  return { getAddresses } as unknown as Components['addressManager']
}
