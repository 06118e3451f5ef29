/**
 * The peers we speak the swarm protocol with: one long-lived stream each, which serves them and lets
 * us fetch from them.
 */

import type { Connection, Libp2p, PeerId, Stream } from '@libp2p/interface'
import { ipPortToMultiaddr } from '@libp2p/utils'
import type { Multiaddr } from '@multiformats/multiaddr'
import type { Plane } from '../../bulk/plane.ts'
import { raceSignal } from '../../core/async.ts'
import type { CID } from '../../core/cid.ts'
import type { Clock } from '../../core/clock.ts'
import { InvalidInputError, messageOf, ProtocolError, UnavailableError } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import { second } from '../../core/units.ts'
import type { BlockReader } from '../../store/store.ts'
import type { Source, SourceOptions } from '../../transfer/source.ts'
import {
  goodbyeCodes,
  type Hello,
  type PeerRecord,
  peersPerAnswerMax,
  revision,
} from '../../wire/messages.ts'
import type { PeerHint } from '../addresses.ts'
import { type BanList, openBanList } from './ban-list.ts'
import type { Bandwidth } from '../upload/bandwidth.ts'
import { keyOf } from './have-feed.ts'
import { laneAddressesOf } from './lane-addresses.ts'
import type { LanePort, TakeLane } from './lane-port.ts'
import { knownAddresses, openStream, swarmProtocol } from './open-stream.ts'
import { exchangePeers, recordOf } from './peer-exchange.ts'
import { type LaneShare, PeerLanes, type PeerLanesOptions } from './peer-lanes.ts'
import { openPeerSource } from './peer-source.ts'
import { requestsInFlightMax, watchesMax } from './served-peer.ts'
import { openStreamTransport } from './stream-transport.ts'
import { SwarmChannel, turnAway } from './swarm-channel.ts'
import { type Direction, greeted, type Peer, type SwarmPeer, viewOf } from './swarm-peer.ts'
import { openSwarmServer, type SwarmServer } from './swarm-server.ts'

export interface Swarm extends AsyncDisposable {
  /**
   * The source of a peer: dials and says hello when needed, shares the stream when there is one.
   * UnavailableError when it is not reached, is banned, or we have too many peers.
   */
  connect(hint: PeerHint, options: SourceOptions): Promise<Source>
  /** Sources of the peers whose hello is done. */
  sources(): Source[]
  /**
   * Called for each peer whose hello gets done, whoever dialled, and again when another of its
   * streams takes over from one that closed; returns how to stop.
   */
  onSource(listener: (source: Source) => void): () => void
  /** Peer exchange: what the connected peers know of other holders of these CIDs. */
  exchange(keys: readonly CID[], options: SourceOptions): Promise<PeerHint[]>
  peers(): SwarmPeer[]
}

/** Each costs a stream and its buffers; below the host's bound on connections. */
export const peersMaxDefault = 256
/** Of those, the ones opened only because a connection was there: room is left for wanted ones. */
const automaticShare = 0.5
/** Each direction has one, and one more for a moment while it replaces the other after a reconnect. */
const streamsPerConnectionMax = 4
/** Dial, secure, negotiate and hello over a slow relay. */
const connectTimeoutMs = 30 * second
export interface SwarmDeps {
  readonly libp2p: Libp2p
  readonly reader: BlockReader
  readonly bandwidth: Bandwidth
  /** Lanes are off when left out. */
  readonly lanePort?: LanePort
  /** Fetches over lanes that we dial; the stream does when left out. */
  readonly plane?: Plane
  readonly clock: Clock
  readonly log: Logger
  /**
   * The host's rule on private addresses: which may be told to others. Also what we believe of them:
   * a node on the public network is not sent into its own LAN by a stranger.
   */
  readonly shareable: (addresses: readonly Multiaddr[]) => readonly Multiaddr[]
}

export interface SwarmOptions {
  /** Name and version, shown to peers. */
  readonly agent: string
  readonly peersMax?: number
}

export async function openSwarm(deps: SwarmDeps, options: SwarmOptions): Promise<Swarm> {
  const swarm = new OpenSwarm(deps, options)
  await swarm.start()
  return swarm
}

class OpenSwarm implements Swarm {
  readonly #deps: SwarmDeps
  readonly #hello: Hello
  readonly #peersMax: number
  readonly #peers = new Map<string, Peer>()
  readonly #bans: BanList
  readonly #server: SwarmServer
  readonly #listeners = new Set<(source: Source) => void>()
  readonly #stop = new AbortController()
  readonly #laneShare: LaneShare
  #topology = ''

  constructor(deps: SwarmDeps, options: SwarmOptions) {
    this.#deps = deps
    this.#peersMax = options.peersMax ?? peersMaxDefault
    this.#hello = {
      revision,
      requestsInFlightMax,
      watchesMax,
      agent: options.agent,
      features: deps.lanePort?.features ?? [],
    }
    this.#laneShare = {
      clock: deps.clock,
      log: deps.log,
      port: deps.lanePort,
      dialBacks: 0,
      stop: this.#stop.signal,
    }
    this.#bans = openBanList(deps.clock)
    this.#server = openSwarmServer({
      reader: deps.reader,
      bandwidth: deps.bandwidth,
      clock: deps.clock,
      log: deps.log,
      peersFor: (keys, asker) => this.#peersFor(keys, asker),
    })
  }

  async start(): Promise<void> {
    const { libp2p } = this.#deps
    await libp2p.handle(swarmProtocol, this.#accept, {
      maxInboundStreams: streamsPerConnectionMax,
      maxOutboundStreams: streamsPerConnectionMax,
      runOnLimitedConnection: true,
    })
    this.#deps.lanePort?.onLane(this.#acceptLane)
    // Whoever is connected for another reason becomes a source too. Only the side that dialled the
    // connection opens the stream, or each pair would have two.
    this.#topology = await libp2p.register(swarmProtocol, {
      onConnect: (id, connection) => this.#openAutomatically(id, connection),
    })
  }

  async connect(hint: PeerHint, { signal }: SourceOptions): Promise<Source> {
    signal.throwIfAborted()
    this.#stop.signal.throwIfAborted()
    const id = hint.peer.toString()
    if (hint.peer.equals(this.#deps.libp2p.peerId)) throw new InvalidInputError('that is this node')
    const banned = this.#bans.banned(id)
    if (banned !== undefined) {
      throw new UnavailableError(`peer ${id} is banned: ${banned}`)
    }
    if (this.#isFull(id, this.#peersMax)) throw new UnavailableError('this node has too many peers')
    const peer = this.#peerOf(hint.peer)
    if (peer.source !== undefined) return peer.source
    const others = peer.dialing
    if (others !== undefined) {
      try {
        return await raceSignal(others, signal)
      } catch (error) {
        // That one had other addresses; ours may be right.
        if (signal.aborted || hint.addresses.length === 0) throw error
      }
      return this.connect(hint, { signal })
    }
    peer.dialing = this.#dial(peer, hint.addresses)
    return raceSignal(peer.dialing, signal)
  }

  sources(): Source[] {
    return [...this.#peers.values()].flatMap(({ source }) => source ?? [])
  }

  onSource(listener: (source: Source) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  async exchange(keys: readonly CID[], { signal }: SourceOptions): Promise<PeerHint[]> {
    const { libp2p, log, shareable } = this.#deps
    // One channel a peer.
    const asked = [...this.#peers.values()].flatMap(peer => greeted(peer).slice(0, 1))
    const hints = await exchangePeers(asked, keys, { signal, log })
    return hints
      .filter(({ peer }) => !peer.equals(libp2p.peerId) && !this.#isBanned(peer))
      .map(({ peer, addresses }) => ({ peer, addresses: shareable(addresses) }))
  }

  peers(): SwarmPeer[] {
    return [...this.#peers.values()].flatMap(peer => viewOf(peer) ?? [])
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { libp2p } = this.#deps
    const reason = new UnavailableError('this node is stopping')
    this.#stop.abort(reason)
    libp2p.unregister(this.#topology)
    await libp2p.unhandle(swarmProtocol)
    await Promise.all(
      [...this.#peers.values()].flatMap(({ lanes, channels }) =>
        [lanes, ...channels.values()].map(each => each.close(goodbyeCodes.stopping, reason)),
      ),
    )
    this.#server[Symbol.dispose]()
  }

  #isFull(id: string, peersMax: number): boolean {
    return this.#peers.size >= peersMax && !this.#peers.has(id)
  }

  #isBanned(id: PeerId): boolean {
    return this.#bans.banned(id.toString()) !== undefined
  }

  #peerOf(id: PeerId): Peer {
    const key = id.toString()
    const known = this.#peers.get(key)
    if (known !== undefined) return known
    const peer: Peer = {
      id,
      channels: new Map(),
      lanes: this.#lanesOf(id, {
        stream: () => greeted(peer)[0],
        ban: reason => this.#ban(peer, reason),
      }),
      source: undefined,
      dialing: undefined,
    }
    this.#peers.set(key, peer)
    return peer
  }

  #forgetIfUnused(peer: Peer): void {
    const isUnused = peer.channels.size === 0 && peer.dialing === undefined
    if (isUnused) this.#peers.delete(peer.id.toString())
  }

  readonly #accept = (stream: Stream, connection: Connection): void => {
    const { remotePeer } = connection
    const isFull = this.#isFull(remotePeer.toString(), this.#peersMax)
    if (this.#stop.signal.aborted) turnAway(openStreamTransport(stream), 'stopping')
    else if (this.#isBanned(remotePeer)) turnAway(openStreamTransport(stream), 'banned')
    else if (isFull) turnAway(openStreamTransport(stream), 'limit')
    else this.#openChannel(this.#peerOf(remotePeer), stream, 'inbound')
  }

  readonly #acceptLane: TakeLane = (id, transport, remote) => {
    const peer = this.#peers.get(id)
    if (this.#stop.signal.aborted) turnAway(transport, 'stopping')
    else if (this.#bans.banned(id) !== undefined) turnAway(transport, 'banned')
    else if (peer === undefined) turnAway(transport, 'limit')
    else peer.lanes.take(transport, remote)
  }

  #lanesOf(id: PeerId, acts: Pick<PeerLanesOptions, 'ban' | 'stream'>): PeerLanes {
    const { libp2p, bandwidth, clock, log, shareable } = this.#deps
    const peer = id.toString()
    return new PeerLanes(this.#laneShare, {
      ...acts,
      peer,
      addresses: () => laneAddressesOf(libp2p, id, shareable),
      open: (transport, features, { host, port }) =>
        new SwarmChannel(
          transport,
          { clock, log, serve: port => this.#server.serve(port) },
          {
            peer,
            hello: { ...this.#hello, features },
            isLimited: bandwidth.isLimited(ipPortToMultiaddr(host, port)),
          },
        ),
    })
  }

  readonly #openAutomatically = (id: PeerId, connection: Connection): void => {
    const peer = id.toString()
    const isFull = this.#isFull(peer, this.#peersMax * automaticShare)
    if (connection.direction === 'inbound' || isFull || this.#peers.has(peer)) return
    this.connect({ peer: id, addresses: [] }, { signal: this.#stop.signal }).catch(
      (error: unknown) => {
        this.#deps.log.debug('no channel to a connected peer', { peer, error: messageOf(error) })
      },
    )
  }

  async #dial(peer: Peer, addresses: readonly Multiaddr[]): Promise<Source> {
    try {
      const signal = AbortSignal.any([this.#stop.signal, AbortSignal.timeout(connectTimeoutMs)])
      const stream = await openStream(this.#deps.libp2p, peer.id, addresses, signal)
      const channel = this.#openChannel(peer, stream, 'outbound')
      await raceSignal(channel.ready, signal)
      if (peer.source === undefined) throw channel.closed.reason as Error
      return peer.source
    } catch (error) {
      if (this.#stop.signal.aborted || error instanceof ProtocolError) throw error
      throw new UnavailableError(`peer ${peer.id.toString()}: ${messageOf(error)}`, {
        cause: error,
      })
    } finally {
      peer.dialing = undefined
      this.#forgetIfUnused(peer)
    }
  }

  #openChannel(peer: Peer, stream: Stream, direction: Direction): SwarmChannel {
    const { clock, log } = this.#deps
    const channel = new SwarmChannel(
      openStreamTransport(stream),
      { clock, log, serve: port => this.#server.serve(port) },
      {
        peer: peer.id.toString(),
        hello: this.#hello,
        isLimited: this.#isLimited(peer, stream),
        onHello: () => this.#onHello(peer, channel),
        onDialLane: () => peer.lanes.dialBack(),
      },
    )
    // A second stream of the same direction: the peer lost the first one and we did not notice.
    const before = peer.channels.get(direction)
    peer.channels.set(direction, channel)
    channel.closed.addEventListener('abort', () => this.#onClosed(peer, channel), { once: true })
    void before?.close(goodbyeCodes.replaced, new UnavailableError('replaced by a new one'))
    return channel
  }

  #isLimited({ id }: Peer, stream: Stream): boolean {
    const { libp2p, bandwidth } = this.#deps
    const connection = libp2p.getConnections(id).find(({ streams }) => streams.includes(stream))
    return connection === undefined || bandwidth.isLimited(connection.remoteAddr)
  }

  #onHello(peer: Peer, channel: SwarmChannel): void {
    if (peer.source !== undefined) return
    const onBan = (reason: Error): void => this.#ban(peer, reason)
    const { plane, clock, log } = this.#deps
    const bulk = plane && { plane, clock, log }
    const source = openPeerSource(channel, { onBan, lanes: peer.lanes, bulk })
    peer.source = source
    for (const listener of this.#listeners) listener(source)
  }

  #onClosed(peer: Peer, channel: SwarmChannel): void {
    const reason = channel.closed.reason as Error
    this.#deps.log.debug('channel closed', { peer: channel.peer, reason: reason.message })
    for (const [direction, other] of peer.channels) {
      if (other === channel) peer.channels.delete(direction)
    }
    if (reason instanceof ProtocolError) this.#ban(peer, reason)
    if (peer.channels.size === 0) void peer.lanes.close(goodbyeCodes.stopping, reason)
    if (peer.source?.closed === channel.closed) peer.source = undefined
    const [next] = greeted(peer)
    if (next !== undefined) this.#onHello(peer, next)
    this.#forgetIfUnused(peer)
  }

  #ban(peer: Peer, reason: Error): void {
    // Once for what ends all its channels: each of them comes here when it closes.
    if (this.#isBanned(peer.id)) return
    const id = peer.id.toString()
    this.#bans.strike(id, reason)
    this.#deps.log.info('peer banned', { peer: id, reason: reason.message })
    void peer.lanes.close(goodbyeCodes.banned, reason)
    for (const channel of peer.channels.values()) void channel.close(goodbyeCodes.banned, reason)
  }

  async #peersFor(keys: readonly CID[], asker: string): Promise<PeerRecord[]> {
    const wanted = keys.map(keyOf)
    const records: PeerRecord[] = []
    for (const [id, peer] of this.#peers) {
      if (records.length >= peersPerAnswerMax) break
      const isKnown = greeted(peer).some(channel =>
        wanted.some(key => channel.holds(key) || channel.serving.wants(key)),
      )
      if (id === asker || !isKnown) continue
      const { libp2p, shareable } = this.#deps
      const record = recordOf(peer.id, shareable(await knownAddresses(libp2p, peer.id)))
      if (record !== undefined) records.push(record)
    }
    return records
  }
}
