/**
 * The libp2p host: transports, encryption, limits, the DHT with its guard, and what we tell others of
 * our addresses. It contacts nobody who is not in the options, in its datastore or introduced by those:
 * no default bootstrap, router, relay or STUN server (research, threat T24).
 */

import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { autoNATv2 } from '@libp2p/autonat-v2'
import { circuitRelayServer, circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { dcutr } from '@libp2p/dcutr'
import { identify } from '@libp2p/identify'
import type { Libp2p, PrivateKey } from '@libp2p/interface'
import type { KadDHT } from '@libp2p/kad-dht'
import { kadDHT } from '@libp2p/kad-dht'
import { type Ping, ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { webSockets } from '@libp2p/websockets'
import { CODE_P2P, type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import type { Datastore } from 'interface-datastore'
import { createLibp2p, type Libp2pOptions } from 'libp2p'
import type { Clock } from '../../core/clock.ts'
import { messageOf } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import { day, hour, KiB, MiB, second } from '../../core/units.ts'
import {
  filterFor,
  isPublic,
  parseAddress,
  parsePeerAddress,
  type NetworkKind,
  type Reach,
  reachOf,
} from '../addresses.ts'
import { guardDht, type KadTable } from '../dht/dht-guard.ts'
import { dhtProtocol } from '../dht/dht.ts'
import { type Components, type Lan, openLan } from './lan.ts'
import { openNoiseCrypto } from './noise-crypto.ts'
import type { ProviderRecords } from '../dht/provider-records.ts'
import { boundLengthPrefixes } from './length-prefixes.ts'
import { spareWindowUpdates } from './window-updates.ts'
import { listenError } from './listen-error.ts'

export interface HostDeps {
  readonly key: PrivateKey
  readonly datastore: Datastore
  readonly records: ProviderRecords
  /** True for the multihash of something this node provides. */
  readonly provides: (key: Uint8Array) => boolean
  readonly clock: Clock
  readonly log: Logger
}

export interface HostOptions {
  readonly listen: readonly string[]
  readonly announce: readonly string[]
  readonly bootstrap: readonly string[]
  readonly network: NetworkKind
  readonly mdns: boolean
  readonly relay: boolean
  readonly agent: string
}

export interface Host extends AsyncDisposable {
  readonly libp2p: Libp2p
  readonly kad: KadDHT
  readonly table: KadTable
  readonly lan: Lan
  reach(): Reach
  /** Which of anybody's addresses may be told to others. */
  shareable(addresses: readonly Multiaddr[]): Multiaddr[]
  /** Ours, with /p2p/, as others are told. */
  addresses(): Multiaddr[]
  /** The same without /p2p/, as records name them beside the peer. */
  bareAddresses(): Multiaddr[]
}

/** Bounds of research section 3.2, where libp2p's own are too wide or too narrow for a daemon. */
export const hostLimits = {
  connectionsMax: 500,
  /** Per second and address: a campus behind one NAT opens more than libp2p's 5. */
  inboundPerSecondMax: 20,
  /** The same on a LAN, where one machine may run a whole network of nodes. */
  inboundPerSecondLanMax: 200,
  inboundPendingMax: 64,
  dialsMax: 50,
  dialQueueMax: 500,
  addressesToDialMax: 16,
  dialTimeoutMs: 15 * second,
  upgradeTimeoutMs: 10 * second,
  streamsInMax: 64,
  streamsOutMax: 256,
  identifyBytesMax: 8 * KiB,
  streamBufferBytesMax: 4 * MiB,
} as const

/** A provider record lives 48 h: what it says of addresses must not be forgotten before (defect A). */
const addressAgeMs = 49 * hour
const peerAgeMs = 7 * day
/** Half of a network may be frozen, and each of those peers costs a query this long (research 1.4). */
const dhtTimeouts = { minTimeout: second, maxTimeout: 5 * second }
/** A connection whose heartbeat stalls this long is dead; a busy one on a slow line is not. */
const heartbeatTimeoutMs = 15 * second
/** Then AutoNAT asks again; it also does when a peer that confirmed leaves. */
const interfaceTrustMs = day
/** Closing waits this long for peers to take what is under way, and then for the sockets to end. */
const closePolitelyMs = 1500
const closeForciblyMs = second

/** Stands for an address at some relay, to be found. */
const relayedAddress = multiaddr('/p2p-circuit')

/** What only exists once libp2p has built its parts. */
interface Parts {
  components: Components
  kad: KadDHT
  table: KadTable
}

export async function openHost(deps: HostDeps, options: HostOptions): Promise<Host> {
  const announce = options.announce.map(text => parseAddress(text, 'the announced address'))
  const bootstrap = options.bootstrap.map(text => parsePeerAddress(text, 'the bootstrap address'))
  for (const text of options.listen) parseAddress(text, 'the address to listen on')
  const seen = { isPublic: bootstrap.some(({ address }) => isPublic(address)) }
  let parts: Parts | undefined
  const reach = (): Reach => {
    const own = parts === undefined ? announce : ownAddresses(parts.components)
    return reachOf({ network: options.network, own, seenPublic: seen.isPublic })
  }
  const lan = openLan(deps)
  boundLengthPrefixes()
  spareWindowUpdates()
  const libp2p = await createLibp2p({
    ...partsOf(options, { reach, lan }),
    ...limitsOf(reach()),
    start: false,
    privateKey: deps.key,
    datastore: deps.datastore,
    services: {
      identify: identify({ maxMessageSize: hostLimits.identifyBytesMax }),
      ping: ping(),
      autoNAT: autoNATv2(),
      dcutr: dcutr(),
      ...(options.relay && { relay: circuitRelayServer() }),
      // libp2p offers each service the others, and its types only those declared before.
      dht: (all: Components) => {
        const components = all as Components & { ping: Ping }
        const kad = makeDht(components, reach)
        parts = { components, kad, table: guard(kad, components, { ...deps, reach }) }
        return kad
      },
    },
  })
  if (parts === undefined) throw new TypeError('libp2p did not make the DHT')
  const host = new OpenHost({ ...deps, libp2p, parts, lan, reach, seen })
  await host.start(options.listen)
  return host
}

function partsOf(
  options: HostOptions,
  { reach, lan }: { reach: () => Reach; lan: Lan },
): Pick<
  Libp2pOptions,
  | 'addresses'
  | 'connectionEncrypters'
  | 'connectionGater'
  | 'nodeInfo'
  | 'peerDiscovery'
  | 'transports'
> {
  return {
    nodeInfo: { userAgent: options.agent },
    addresses: {
      listen: [...options.listen],
      announce: [...options.announce],
      announceFilter: addresses => filterFor(reach(), addresses),
    },
    connectionGater: {
      // libp2p asks for its own dials and for those of the DHT alike.
      denyDialMultiaddr: address => options.network === 'lan' && isPublic(address),
    },
    transports: [tcp(), webSockets(), circuitRelayTransport()],
    connectionEncrypters: [noise({ crypto: openNoiseCrypto() })],
    peerDiscovery: options.mdns ? [lan.discovery] : [],
  }
}

function guard(
  kad: KadDHT,
  components: Components,
  { records, provides, clock, reach }: HostDeps & { reach: () => Reach },
): KadTable {
  return guardDht(kad, {
    self: components.peerId,
    peerStore: components.peerStore,
    records,
    provides,
    clock,
    ownAddresses: () => components.addressManager.getAddresses().map(withoutPeer),
    shareable: addresses => filterFor(reach(), addresses),
  })
}

interface HostParts extends HostDeps {
  readonly libp2p: Libp2p
  readonly parts: Parts
  readonly lan: Lan
  readonly reach: () => Reach
  /** Set once we reached a public address. */
  readonly seen: { isPublic: boolean }
}

class OpenHost implements Host {
  readonly libp2p: Libp2p
  readonly kad: KadDHT
  readonly table: KadTable
  readonly lan: Lan
  readonly #host: HostParts
  #isRelayWanted = false

  constructor(host: HostParts) {
    this.#host = host
    this.libp2p = host.libp2p
    this.kad = host.parts.kad
    this.table = host.parts.table
    this.lan = host.lan
  }

  reach(): Reach {
    return this.#host.reach()
  }

  shareable(addresses: readonly Multiaddr[]): Multiaddr[] {
    return filterFor(this.reach(), addresses)
  }

  addresses(): Multiaddr[] {
    return this.libp2p.getMultiaddrs()
  }

  bareAddresses(): Multiaddr[] {
    return this.addresses().map(withoutPeer)
  }

  async start(listen: readonly string[]): Promise<void> {
    const { libp2p, lan } = this.#host
    libp2p.addEventListener('self:peer:update', this.#onReach)
    libp2p.addEventListener('connection:open', ({ detail }) => {
      // Whoever comes from outside or is reached there must not be told of addresses inside.
      if (this.#host.seen.isPublic || !isPublic(detail.remoteAddr)) return
      this.#host.seen.isPublic = true
      this.#onReach()
    })
    try {
      await libp2p.start()
    } catch (error) {
      await this[Symbol.asyncDispose]()
      throw listenError(error, listen)
    }
    trustInterfaces(this.#host.parts.components)
    lan.start(libp2p)
    await this.#adapt()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { libp2p, clock, lan } = this.#host
    await lan[Symbol.asyncDispose]()
    const stopped = new AbortController()
    const stopping = Promise.resolve(libp2p.stop()).then(
      () => stopped.abort(),
      (error: unknown) => {
        this.#host.log.debug('the host did not stop cleanly', { error: messageOf(error) })
        stopped.abort()
      },
    )
    const wait = (ms: number): Promise<void> =>
      clock.sleep(ms, stopped.signal).catch(() => undefined)
    await wait(closePolitelyMs)
    dropAddressUpdate(this.#host.parts.components)
    if (stopped.signal.aborted) return
    for (const connection of libp2p.getConnections()) {
      connection.abort(new Error('this node is stopping'))
    }
    await Promise.race([stopping, wait(closeForciblyMs)])
  }

  readonly #onReach = (): void => {
    this.#adapt().catch((error: unknown) => {
      this.#host.log.warn('adapting to the network failed', { error: messageOf(error) })
    })
  }

  /** Whoever can be reached answers the DHT; whoever cannot asks a relay that it meets for an address. */
  async #adapt(): Promise<void> {
    if (this.libp2p.status !== 'started') return
    const reach = this.reach()
    const mode = reach === 'nat' ? 'client' : 'server'
    if (this.kad.getMode() !== mode) {
      await this.kad.setMode(mode)
      this.#host.log.info('DHT mode changed', { mode, reach })
    }
    if (reach !== 'nat' || this.#isRelayWanted) return
    this.#isRelayWanted = true
    await this.#host.parts.components.transportManager.listen([relayedAddress])
  }
}

function makeDht(components: Components & { ping: Ping }, reach: () => Reach): KadDHT {
  return kadDHT({
    protocol: dhtProtocol,
    clientMode: reach() === 'nat',
    // kad-dht would else wait for peers and a first lookup before each query, for minutes when alone.
    allowQueryWithZeroPeers: true,
    peerInfoMapper: peer => ({ ...peer, multiaddrs: filterFor(reach(), peer.multiaddrs) }),
    networkDialTimeout: dhtTimeouts,
  })(components)
}

function ownAddresses(components: Components): Multiaddr[] {
  return components.addressManager
    .getAddressesWithMetadata()
    .filter(({ verified }) => verified)
    .map(own => own.multiaddr)
}

/**
 * A public address of our own interface is believed at once. libp2p would wait for a peer that confirms
 * it, and the first node of a network has none; AutoNAT takes back what eight peers could not reach.
 */
function trustInterfaces({ addressManager }: Components): void {
  for (const own of addressManager.getAddressesWithMetadata()) {
    const { type, verified } = own
    if (type !== 'transport' || verified || !isPublic(own.multiaddr)) continue
    addressManager.confirmObservedAddr(own.multiaddr, { type, ttl: interfaceTrustMs })
  }
}

/**
 * Each listener that closes makes libp2p note the new addresses a second later, in a store that is closed
 * then: that timer would keep the process for this second. Where an upgrade names it otherwise, it does.
 */
function dropAddressUpdate({ addressManager }: Components): void {
  const { _updatePeerStoreAddresses: update } = addressManager as unknown as {
    _updatePeerStoreAddresses?: { stop?(): void }
  }
  update?.stop?.()
}

function withoutPeer(address: Multiaddr): Multiaddr {
  return address.decapsulateCode(CODE_P2P)
}

function limitsOf(
  reach: Reach,
): Pick<Libp2pOptions, 'peerStore' | 'connectionManager' | 'connectionMonitor' | 'streamMuxers'> {
  return {
    peerStore: { maxAddressAge: addressAgeMs, maxPeerAge: peerAgeMs },
    connectionManager: {
      maxConnections: hostLimits.connectionsMax,
      inboundConnectionThreshold:
        reach === 'lan' ? hostLimits.inboundPerSecondLanMax : hostLimits.inboundPerSecondMax,
      maxIncomingPendingConnections: hostLimits.inboundPendingMax,
      inboundUpgradeTimeout: hostLimits.upgradeTimeoutMs,
      maxParallelDials: hostLimits.dialsMax,
      maxDialQueueLength: hostLimits.dialQueueMax,
      maxPeerAddrsToDial: hostLimits.addressesToDialMax,
      dialTimeout: hostLimits.dialTimeoutMs,
      addressDialTimeout: hostLimits.dialTimeoutMs,
    },
    connectionMonitor: { pingTimeout: { minTimeout: heartbeatTimeoutMs } },
    streamMuxers: [
      yamux({
        maxInboundStreams: hostLimits.streamsInMax,
        maxOutboundStreams: hostLimits.streamsOutMax,
        streamOptions: { maxReadBufferLength: hostLimits.streamBufferBytesMax },
      }),
    ],
  }
}
