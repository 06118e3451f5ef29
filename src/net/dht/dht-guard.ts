/**
 * Countermeasures to kad-dht's defects, and the only file that reaches into its internals: requests of
 * other nodes are answered here, from our own provider records, before kad-dht sees them. The defects
 * and what we do about each are in docs/spec/discovery.md, section 6; dht-guard.test.ts fails when an
 * upgrade moves what this file holds on to.
 */

import type { KadDHT } from '@libp2p/kad-dht'
import { type PeerId, type PeerInfo, peerRoutingSymbol, type PeerStore } from '@libp2p/interface'
import type { Multiaddr } from '@multiformats/multiaddr'
import type { Clock } from '../../core/clock.ts'
import { ProtocolError } from '../../core/errors.ts'
import { second } from '../../core/units.ts'
import { addressGroup, decodeAddresses } from '../addresses.ts'
import { kadAddressesMax, kadKeyBytesMax } from './kad-messages.ts'
import { kadIdOf, replication } from './kad-space.ts'
import type { ProviderRecords } from './provider-records.ts'

/** A DHT message as kad-dht decodes it; what is in it was sent by anybody. */
export interface KadRequest {
  readonly type: string
  readonly key?: Uint8Array
  readonly clusterLevel?: number
  readonly closer: readonly KadPeerInfo[]
  readonly providers: readonly KadPeerInfo[]
}

interface KadPeerInfo {
  readonly id: Uint8Array
  readonly multiaddrs: readonly Uint8Array[]
}

type Answer = KadRequest | undefined
type Walk = (key: Uint8Array, options?: { signal?: AbortSignal }) => AsyncIterable<PeerInfo>

/** What kad-dht 16 has inside. Its own types call it private. */
interface KadInternals {
  readonly rpc: { handleMessage(peer: PeerId, request: KadRequest): Promise<Answer> }
  /** What libp2p walks the network at random with, to find relays. */
  readonly [peerRoutingSymbol]: { getClosestPeers: Walk }
  readonly routingTable: KadTable
  readonly peerRouting: {
    getClosestPeersOffline(key: Uint8Array, options?: { exclude: PeerId[] }): Promise<PeerInfo[]>
  }
}

export interface KadTable {
  /** Counts this node when its own id is in the table. */
  readonly size: number
  add(peer: PeerId, options?: { signal?: AbortSignal }): Promise<void>
  remove(peer: PeerId): Promise<void>
  find(peer: PeerId): Promise<PeerId | undefined>
  closestPeers(place: Uint8Array, options?: { count: number }): PeerId[]
  addEventListener(type: 'peer:add' | 'peer:remove', listener: (event: CustomEvent) => void): void
}

export interface GuardDeps {
  readonly self: PeerId
  readonly peerStore: PeerStore
  readonly records: ProviderRecords
  readonly clock: Clock
  /** True for the multihash of something this node provides. */
  readonly provides: (key: Uint8Array) => boolean
  ownAddresses(): readonly Multiaddr[]
  /** Which of a peer's addresses may be told to others. */
  shareable(addresses: readonly Multiaddr[]): readonly Multiaddr[]
}

/** Of one provider in an answer; an honest node has a handful. */
const addressesPerAnswer = 16
/** Longer than any address we can dial. */
const addressBytesMax = 256
/** sha2-256 of 32 bytes: the only multihash that is announced, since kad-dht stores no other (D). */
const sha256Prefix = [0x12, 0x20] as const
const multihashBytes = 34
/** Peers of one /24 or /48 in the table, once there are enough others to fill a bucket. */
export const tablePeersPerGroupMax = 3

/** Between two random walks. A walk in a network of known peers is over at once. */
const walkEveryMs = 30 * second

/** Puts the guard in place of kad-dht's own handlers. To be called before the DHT starts. */
export function guardDht(dht: KadDHT, deps: GuardDeps): KadTable {
  const { rpc, routingTable, peerRouting, [peerRoutingSymbol]: walker } = internalsOf(dht)
  const closerTo = async (key: Uint8Array, asker: PeerId): Promise<KadPeerInfo[]> => {
    const peers = await peerRouting.getClosestPeersOffline(key, { exclude: [asker, deps.self] })
    return peers.flatMap(peer => infoOf(peer.id, deps.shareable(peer.multiaddrs)))
  }
  const other = rpc.handleMessage.bind(rpc)
  rpc.handleMessage = async (peer, request) => {
    switch (request.type) {
      case 'ADD_PROVIDER':
        addProviders(deps, peer, request)
        return undefined
      case 'GET_PROVIDERS': {
        const key = keyOf(request)
        return answer(request, await closerTo(key, peer), providersOf(deps, key))
      }
      case 'GET_VALUE':
        // No value is stored (below), so there is none to give: only who may be nearer.
        return answer(request, await closerTo(keyOf(request), peer), [])
      case 'PUT_VALUE':
        // kad-dht lets an old signed record replace a newer one (B) and reads with errors (C). Nothing
        // of ours lives in value records, so none is taken.
        throw new ProtocolError('value records are not kept here')
      case 'FIND_NODE':
        keyOf(request)
        return other(peer, request)
      case 'PING':
        return other(peer, request)
      default:
        throw new ProtocolError(`unknown DHT request ${request.type}`)
    }
  }
  limitGroups(routingTable, deps.peerStore)
  paceWalks(walker, deps.clock)
  return routingTable
}

/** Throws when kad-dht is not the version this file was written for: better no DHT than an open one. */
export function internalsOf(dht: KadDHT): KadInternals {
  const inside = dht as unknown as Partial<KadInternals>
  const { rpc, routingTable, peerRouting, [peerRoutingSymbol]: walker } = inside
  if (
    typeof walker?.getClosestPeers !== 'function' ||
    typeof rpc?.handleMessage !== 'function' ||
    typeof routingTable?.add !== 'function' ||
    typeof routingTable.remove !== 'function' ||
    typeof routingTable.closestPeers !== 'function' ||
    typeof peerRouting?.getClosestPeersOffline !== 'function'
  ) {
    throw new TypeError('kad-dht has changed inside: src/net/dht/dht-guard.ts no longer fits it')
  }
  return { rpc, routingTable, peerRouting, [peerRoutingSymbol]: walker }
}

function addProviders(deps: GuardDeps, peer: PeerId, request: KadRequest): void {
  const key = keyOf(request)
  if (!isSha256(key)) throw new ProtocolError('a provider record of another hash than sha2-256')
  const sender = peer.toMultihash().bytes
  // Only what a peer says of itself counts, and once.
  const own = request.providers.find(({ id }) => Buffer.compare(id, sender) === 0)
  if (own === undefined) return
  const addresses = own.multiaddrs
    .slice(0, kadAddressesMax)
    .filter(bytes => bytes.length <= addressBytesMax)
  const parsed = decodeAddresses(addresses).map(address => address.bytes)
  const stored = deps.records.add(key, sender, parsed)
  // Resetting the stream tells the sender that what follows on it was not stored either.
  if (stored === 'rate') throw new ProtocolError('too many provider records at once')
  if (stored === 'full') throw new ProtocolError('no room for provider records')
}

function providersOf(deps: GuardDeps, key: Uint8Array): KadPeerInfo[] {
  const stored = deps.records
    .get(key)
    .flatMap(({ id, addresses }) => infoOf(id, deps.shareable(decodeAddresses(addresses))))
  if (!deps.provides(key)) return stored
  return [...infoOf(deps.self, deps.ownAddresses()), ...stored]
}

/** Empty without an address that may be told: the peer could not be reached. */
function infoOf(peer: PeerId | Uint8Array, addresses: readonly Multiaddr[]): KadPeerInfo[] {
  if (addresses.length === 0) return []
  const id = peer instanceof Uint8Array ? peer : peer.toMultihash().bytes
  const multiaddrs = addresses.slice(0, addressesPerAnswer).map(address => address.bytes)
  return [{ id, multiaddrs }]
}

function answer(
  request: KadRequest,
  closer: readonly KadPeerInfo[],
  providers: readonly KadPeerInfo[],
): KadRequest {
  const { type, key, clusterLevel } = request
  return {
    type,
    ...(key !== undefined && { key }),
    ...(clusterLevel !== undefined && { clusterLevel }),
    closer,
    providers,
  }
}

function keyOf({ key }: KadRequest): Uint8Array {
  if (key === undefined || key.length === 0) throw new ProtocolError('a DHT request without a key')
  if (key.length > kadKeyBytesMax) throw new ProtocolError('a DHT key is too long')
  return key
}

function isSha256(key: Uint8Array): boolean {
  return key.length === multihashBytes && key[0] === sha256Prefix[0] && key[1] === sha256Prefix[1]
}

/**
 * libp2p walks on for as long as it lacks a relay, one walk after the other. Alone, or among peers that
 * offer none, it would do nothing else, and with an empty table it would never yield to anything.
 */
function paceWalks(walker: { getClosestPeers: Walk }, clock: Clock): void {
  const walk = walker.getClosestPeers.bind(walker)
  walker.getClosestPeers = async function* (key, options) {
    await clock.sleep(walkEveryMs, options?.signal)
    yield* walk(key, options)
  }
}

/**
 * Whoever fills our table decides what we find. One operator's addresses are often of one network, so
 * few of each network are let in. Below a bucketful there is nobody to crowd out, and ten machines of
 * one library must find each other.
 */
function limitGroups(table: KadTable, peerStore: PeerStore): void {
  const add = table.add.bind(table)
  table.add = async (peer, options) => {
    if (table.size > replication && (await isCrowded(table, peerStore, peer))) return
    await add(peer, options)
  }
}

async function isCrowded(table: KadTable, peerStore: PeerStore, peer: PeerId): Promise<boolean> {
  const groups = await groupsOf(peerStore, peer)
  if (groups.size === 0) return false
  let others = 0
  const place = kadIdOf(peer.toMultihash().bytes)
  for (const known of table.closestPeers(place, { count: table.size })) {
    if (known.equals(peer)) return false
    if (!groups.isDisjointFrom(await groupsOf(peerStore, known))) others += 1
  }
  return others >= tablePeersPerGroupMax
}

async function groupsOf(peerStore: PeerStore, peer: PeerId): Promise<Set<string>> {
  if (!(await peerStore.has(peer))) return new Set()
  const { addresses } = await peerStore.get(peer)
  return new Set(addresses.flatMap(({ multiaddr }) => addressGroup(multiaddr) ?? []))
}
