/**
 * Everything this node says to and hears from others, behind one narrow face: the libp2p host, the
 * DHT, the swarm and the announcing of what the store holds.
 */

import { openPlane } from '../bulk/plane.ts'
import type { CID } from '../core/cid.ts'
import type { Clock } from '../core/clock.ts'
import { InvalidInputError, messageOf, UnavailableError } from '../core/errors.ts'
import type { Logger } from '../core/log.ts'
import type { BlockReader } from '../store/store.ts'
import type { SourceFinder } from '../transfer/source.ts'
import { type NetworkKind, parsePeerAddress } from './addresses.ts'
import { type AnnounceStatus, openAnnounceLedger } from './dht/announce-ledger.ts'
import { openAnnounceSender } from './dht/announce-stream.ts'
import { type Bandwidth, type BandwidthOptions, openBandwidth } from './upload/bandwidth.ts'
import { openBootstrap } from './host/bootstrap.ts'
import { openDatastore } from './host/datastore.ts'
import { type Dht, openDht } from './dht/dht.ts'
import { openFinder } from './finder.ts'
import { type Host, openHost } from './host/host.ts'
import { loadIdentity } from './host/identity.ts'
import { guardPorts, openLanePort } from './swarm/lane-port.ts'
import { openNetworkDb } from './network-db.ts'
import type { PeerPath } from './swarm/peer-lanes.ts'
import { openProviderRecords } from './dht/provider-records.ts'
import { openProviding, type Providing } from './dht/providing.ts'
import { openSwarm, type Swarm } from './swarm/swarm.ts'
import type { SwarmPeer } from './swarm/swarm-peer.ts'

export type { AnnounceStatus, PeerPath }

export interface NetOptions {
  /** Multiaddrs to listen on. */
  readonly listen: readonly string[]
  /** Multiaddrs to tell others instead of what we listen on; empty: worked out. */
  readonly announce: readonly string[]
  /** Multiaddrs with /p2p/ of nodes to join the DHT through. There is no default. */
  readonly bootstrap: readonly string[]
  readonly network: NetworkKind
  /** Look for nodes on the local network by multicast. */
  readonly mdns: boolean
  /** Serve as a circuit relay for nodes behind NAT. */
  readonly relay: boolean
  /** Carry bulk bytes over lanes where the peer does too. */
  readonly lane: boolean
  /** Limits at the start; none when left out. */
  readonly bandwidth?: BandwidthOptions
  /** Name and version, shown to peers. */
  readonly agent: string
}

export interface ConnectedPeer {
  readonly peerId: string
  readonly address: string
  readonly direction: 'inbound' | 'outbound'
  readonly agent: string | undefined
  readonly connectedAtMs: number
  /** Undefined when there is a connection and no swarm channel on it. */
  readonly swarm: Pick<SwarmPeer, 'bytesReceived' | 'bytesSent' | 'files' | 'path'> | undefined
  readonly rttMs: number | undefined
}

export interface FoundProvider {
  readonly peerId: string
  readonly addresses: readonly string[]
}

export interface Net extends AsyncDisposable {
  readonly peerId: string
  /** Multiaddrs with /p2p/ that others may be told. */
  addresses(): string[]
  readonly finder: SourceFinder
  /** The limits, which may be changed; a download heeds `down`. */
  readonly bandwidth: Bandwidth
  peers(): ConnectedPeer[]
  /** Dials; InvalidInputError for a malformed address, UnavailableError when nobody answers. */
  connect(address: string, signal: AbortSignal): Promise<{ peerId: string; address: string }>
  /** Providers by the DHT, this node included when its record is found. Each peer once. */
  providers(key: CID, signal: AbortSignal): AsyncIterable<FoundProvider>
  /** The set of provided keys changed: announce what is new soon, forget what is gone. */
  providedChanged(): void
  announcing(): AnnounceStatus
  dht(): { readonly mode: 'client' | 'server'; readonly peers: number }
}

export interface NetDeps {
  readonly reader: BlockReader
  /** What this node provides: manifests, file roots and whole-file SHA-256s as raw CIDs. */
  providedKeys(): Iterable<CID>
  readonly clock: Clock
  readonly log: Logger
}

export interface NetPaths {
  /** The key file; made when there is none. */
  readonly key: string
  /** SQLite; everything in it can be learnt again. */
  readonly database: string
}

/** Opens everything between us and others, in the order in which one part needs the next. */
export async function openNet(deps: NetDeps, options: NetOptions, paths: NetPaths): Promise<Net> {
  const { reader, clock, log } = deps
  const bootstrap = options.bootstrap.map(text => parsePeerAddress(text, 'the bootstrap address'))
  await using stack = new AsyncDisposableStack()
  const key = await loadIdentity(paths.key)
  const { db } = stack.use(openNetworkDb({ clock, log }, paths.database))
  const records = openProviderRecords({ db, clock })
  const ledger = openAnnounceLedger({ db, clock })
  const provides = (multihash: Uint8Array): boolean => ledger.has(multihash)
  const host = stack.use(
    await openHost(
      { key, datastore: openDatastore(db, log), records, provides, clock, log },
      options,
    ),
  )
  const { libp2p, kad, table } = host
  const dht = stack.use(openDht({ libp2p, kad, table, records, clock, log }))
  const shareable: Host['shareable'] = addresses => host.shareable(addresses)
  const bandwidth = openBandwidth(clock, options.bandwidth)
  const lanePort = options.lane
    ? stack.use(await openLanePort({ libp2p, key, clock, log }))
    : undefined
  if (lanePort === undefined) stack.use(guardPorts({ libp2p, log }))
  const plane = lanePort && stack.use(openPlane({ identity: lanePort.identity, log }))
  const lanes = lanePort && plane && { lanePort, plane }
  const swarm = stack.use(
    await openSwarm({ libp2p, reader, bandwidth, clock, log, shareable, ...lanes }, options),
  )
  const self = { id: libp2p.peerId.toMultihash().bytes }
  const sender = openAnnounceSender({
    libp2p,
    clock,
    self: () => ({ ...self, addresses: host.bareAddresses().map(address => address.bytes) }),
  })
  const providing = stack.use(
    openProviding({
      ledger,
      dht,
      sender,
      providedKeys: () => deps.providedKeys(),
      addresses: () => host.bareAddresses().map(String),
      clock,
      log,
    }),
  )
  const joining = stack.use(openBootstrap({ libp2p, clock, log }, bootstrap))
  const finder = openFinder({
    self: libp2p.peerId,
    swarm,
    dht,
    isJoining: () => joining.peers > 0 || libp2p.getConnections().length > 0,
    lanPeers: () => host.lan.peers(),
    clock,
    log,
  })
  const parts = { host, dht, swarm, bandwidth, providing, finder, provides }
  return new OpenNet(parts, stack.move())
}

interface NetParts {
  readonly host: Host
  readonly dht: Dht
  readonly swarm: Swarm
  readonly bandwidth: Bandwidth
  readonly providing: Providing
  readonly finder: SourceFinder
  provides(multihash: Uint8Array): boolean
}

class OpenNet implements Net {
  readonly peerId: string
  readonly finder: SourceFinder
  readonly bandwidth: Bandwidth
  readonly #parts: NetParts
  readonly #stack: AsyncDisposableStack
  /** What identify said; forgotten with the connection. */
  readonly #agents = new Map<string, string>()

  constructor(parts: NetParts, stack: AsyncDisposableStack) {
    const { libp2p } = parts.host
    this.#parts = parts
    this.#stack = stack
    this.peerId = libp2p.peerId.toString()
    this.finder = parts.finder
    this.bandwidth = parts.bandwidth
    libp2p.addEventListener('peer:identify', ({ detail }) => {
      const { peerId, agentVersion } = detail
      if (agentVersion !== undefined) this.#agents.set(peerId.toString(), agentVersion)
    })
    libp2p.addEventListener('peer:disconnect', ({ detail }) => {
      this.#agents.delete(detail.toString())
    })
    libp2p.addEventListener('self:peer:update', () => parts.providing.moved())
  }

  addresses(): string[] {
    return this.#parts.host.addresses().map(String)
  }

  peers(): ConnectedPeer[] {
    const { host, swarm } = this.#parts
    const channels = new Map(swarm.peers().map(peer => [peer.peerId, peer]))
    const connections = host.libp2p.getConnections().filter(({ status }) => status === 'open')
    const byPeer = Map.groupBy(connections, ({ remotePeer }) => remotePeer.toString())
    return [...byPeer].flatMap(([peerId, [connection]]) => {
      if (connection === undefined) return []
      const { remoteAddr, direction, timeline, rtt } = connection
      const channel = channels.get(peerId)
      return {
        peerId,
        address: remoteAddr.toString(),
        direction,
        agent: channel?.agent ?? this.#agents.get(peerId),
        connectedAtMs: timeline.open,
        swarm: channel,
        rttMs: rtt,
      }
    })
  }

  async connect(text: string, signal: AbortSignal): Promise<{ peerId: string; address: string }> {
    const { libp2p } = this.#parts.host
    const { peer, address } = parsePeerAddress(text, 'the address')
    if (peer.equals(libp2p.peerId)) throw new InvalidInputError(`${text} is this node`)
    try {
      const connection = await libp2p.dial(address, { signal })
      return { peerId: peer.toString(), address: connection.remoteAddr.toString() }
    } catch (error) {
      signal.throwIfAborted()
      throw new UnavailableError(`${text} cannot be reached: ${messageOf(error)}`, {
        cause: error,
        hint: 'check that the node runs and that its address and port are right',
      })
    }
  }

  async *providers(key: CID, signal: AbortSignal): AsyncGenerator<FoundProvider> {
    const { host, dht } = this.#parts
    if (this.#parts.provides(key.multihash.bytes)) {
      yield { peerId: this.peerId, addresses: host.bareAddresses().map(String) }
    }
    for await (const { peer, addresses } of dht.providers(key, signal)) {
      if (peer.equals(host.libp2p.peerId)) continue
      yield { peerId: peer.toString(), addresses: addresses.map(String) }
    }
  }

  providedChanged(): void {
    this.#parts.providing.changed()
  }

  announcing(): AnnounceStatus {
    return this.#parts.providing.status()
  }

  dht(): { readonly mode: 'client' | 'server'; readonly peers: number } {
    const { dht } = this.#parts
    return { mode: dht.mode(), peers: dht.size() }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync()
  }
}
