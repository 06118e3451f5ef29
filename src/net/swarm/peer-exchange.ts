/**
 * Peer exchange: the wire form of who else holds or wants a model, and the asking of all connected
 * peers at once. What comes back are hints: nothing is believed of a peer before it proves its id.
 */

import type { PeerId } from '@libp2p/interface'
import { peerIdFromMultihash } from '@libp2p/peer-id'
import type { Multiaddr } from '@multiformats/multiaddr'
import * as Digest from 'multiformats/hashes/digest'
import { mapLimit } from '../../core/async.ts'
import type { CID } from '../../core/cid.ts'
import { messageOf } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import { second } from '../../core/units.ts'
import { frameTypes } from '../../wire/frames.ts'
import {
  addressBytesMax,
  addressesPerPeerMax,
  decodePeers,
  encodeKeys,
  goodbyeCodes,
  keysPerAskMax,
  type PeerRecord,
} from '../../wire/messages.ts'
import { decodeAddresses, type PeerHint } from '../addresses.ts'
import type { SwarmChannel } from './swarm-channel.ts'

const exchangeTimeoutMs = 10 * second
/** Peers asked in one exchange, at a time, and what they may tell in all. */
const exchangePeersMax = 32
const exchangeInFlightMax = 8
const exchangeHintsMax = 200

export interface ExchangeOptions {
  readonly signal: AbortSignal
  readonly log: Logger
}

/** Asks these peers who holds or wants any of the keys: each peer told of once, at most 200. */
export async function exchangePeers(
  channels: readonly SwarmChannel[],
  keys: readonly CID[],
  { signal, log }: ExchangeOptions,
): Promise<PeerHint[]> {
  if (keys.length === 0) return []
  const payload = encodeKeys(keys.slice(0, keysPerAskMax))
  const ask = async (channel: SwarmChannel, inner: AbortSignal): Promise<PeerRecord[]> => {
    try {
      return await askOne(channel, payload, inner)
    } catch (error) {
      signal.throwIfAborted()
      log.debug('peer exchange failed', { peer: channel.peer, error: messageOf(error) })
      return []
    }
  }
  const hints = new Map<string, PeerHint>()
  const asked = channels.slice(0, exchangePeersMax)
  for await (const records of mapLimit(asked, exchangeInFlightMax, ask, signal)) {
    for (const hint of records.flatMap(record => hintOf(record) ?? [])) {
      const id = hint.peer.toString()
      if (hints.size < exchangeHintsMax && !hints.has(id)) hints.set(id, hint)
    }
  }
  return [...hints.values()]
}

/** What we tell of a peer, within the bounds of the frame; undefined when there is no address to tell. */
export function recordOf(id: PeerId, addresses: readonly Multiaddr[]): PeerRecord | undefined {
  const encoded = addresses
    .map(address => address.bytes)
    .filter(bytes => bytes.length <= addressBytesMax)
    .slice(0, addressesPerPeerMax)
  return encoded.length === 0 ? undefined : { peerId: id.toMultihash().bytes, addresses: encoded }
}

async function askOne(
  channel: SwarmChannel,
  payload: Uint8Array,
  signal: AbortSignal,
): Promise<PeerRecord[]> {
  const bytes = await channel.request({
    type: frameTypes.getPeers,
    payload,
    answer: { shape: 'frame', type: frameTypes.peers },
    signal: AbortSignal.any([signal, AbortSignal.timeout(exchangeTimeoutMs)]),
  })
  try {
    return decodePeers(bytes)
  } catch (error) {
    void channel.close(goodbyeCodes.protocol, error as Error)
    throw error
  }
}

/** Undefined for what is neither a peer id nor an address: one bad record must not hide the rest. */
function hintOf({ peerId, addresses }: PeerRecord): PeerHint | undefined {
  try {
    const peer = peerIdFromMultihash(Digest.decode(peerId))
    return { peer, addresses: decodeAddresses(addresses) }
  } catch {
    return undefined
  }
}
