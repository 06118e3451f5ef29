/**
 * The Kademlia DHT's messages (libp2p specs, kad-dht/README.md) as bytes: a strict, bounded protobuf
 * codec for the message types we send and the answers we get. Everything decoded is hostile.
 */

import { ProtocolError } from '../../core/errors.ts'
import { KiB } from '../../core/units.ts'

export const messageTypes = {
  putValue: 0,
  getValue: 1,
  addProvider: 2,
  getProviders: 3,
  findNode: 4,
  /** Answered by an echo; deprecated by the specification and answered by every implementation. */
  ping: 5,
} as const
export type MessageType = (typeof messageTypes)[keyof typeof messageTypes]

/** A peer as the DHT tells of it; the bytes inside are not yet parsed. */
export interface KadPeer {
  readonly id: Uint8Array
  readonly addresses: readonly Uint8Array[]
}

export interface KadMessage {
  readonly type: MessageType
  readonly key: Uint8Array
  readonly record?: Uint8Array
  readonly closer: readonly KadPeer[]
  readonly providers: readonly KadPeer[]
}

/** 100 providers and 20 closer peers with 16 addresses each of 60 bytes are 115 KiB. */
export const kadMessageBytesMax = 512 * KiB
/** More of either in one answer than any implementation sends: the rest is dropped. */
export const kadPeersMax = 256
/** A node has a handful of addresses; a record with more is padding (defect H). */
export const kadAddressesMax = 64
/** A multihash of ours takes 34 bytes, a record's key under 100. */
export const kadKeyBytesMax = 128

const wireVarint = 0
const wireFixed64 = 1
const wireBytes = 2
const wireFixed32 = 5

export function encodeKadMessage(
  message: Pick<KadMessage, 'type' | 'key'> & Partial<KadMessage>,
): Uint8Array {
  const parts: Uint8Array[] = []
  if (message.type !== 0) parts.push(Uint8Array.of((1 << 3) | wireVarint, message.type))
  parts.push(...field(2, message.key))
  if (message.record !== undefined) parts.push(...field(3, message.record))
  for (const peer of message.closer ?? []) parts.push(...field(8, encodePeer(peer)))
  for (const peer of message.providers ?? []) parts.push(...field(9, encodePeer(peer)))
  return Buffer.concat(parts)
}

export function decodeKadMessage(bytes: Uint8Array): KadMessage {
  if (bytes.length > kadMessageBytesMax) throw new ProtocolError('a DHT message is too long')
  let type = 0
  let key: Uint8Array = new Uint8Array()
  let record: Uint8Array | undefined
  const closer: KadPeer[] = []
  const providers: KadPeer[] = []
  for (const { number, value } of fields(bytes)) {
    if (number === 1 && typeof value === 'number') type = value
    else if (typeof value === 'number') continue
    else if (number === 2) key = value
    else if (number === 3) record = value
    else if (number === 8 && closer.length < kadPeersMax) closer.push(decodePeer(value))
    else if (number === 9 && providers.length < kadPeersMax) providers.push(decodePeer(value))
  }
  if (key.length > kadKeyBytesMax) throw new ProtocolError('a DHT key is too long')
  if (!isMessageType(type)) throw new ProtocolError(`unknown DHT message type ${type}`)
  return { type, key, ...(record !== undefined && { record }), closer, providers }
}

/** The addresses of one record, packed for storage: each with its length before it. */
export function packAddresses(addresses: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat(addresses.flatMap(address => field(2, address)))
}

export function unpackAddresses(bytes: Uint8Array): Uint8Array[] {
  return [...fields(bytes)].flatMap(({ value }) => (typeof value === 'number' ? [] : [value]))
}

function isMessageType(type: number): type is MessageType {
  return type >= messageTypes.putValue && type <= messageTypes.ping
}

function encodePeer(peer: KadPeer): Uint8Array {
  return Buffer.concat([
    ...field(1, peer.id),
    ...peer.addresses.slice(0, kadAddressesMax).flatMap(address => field(2, address)),
  ])
}

function decodePeer(bytes: Uint8Array): KadPeer {
  let id: Uint8Array = new Uint8Array()
  const addresses: Uint8Array[] = []
  for (const { number, value } of fields(bytes)) {
    if (typeof value === 'number') continue
    if (number === 1) id = value
    else if (number === 2 && addresses.length < kadAddressesMax) addresses.push(value)
  }
  return { id, addresses }
}

function field(number: number, bytes: Uint8Array): Uint8Array[] {
  return [encodeVarint((number << 3) | wireBytes), encodeVarint(bytes.length), bytes]
}

function encodeVarint(value: number): Uint8Array {
  const bytes: number[] = []
  let rest = value
  while (rest >= 0x80) {
    bytes.push((rest & 0x7f) | 0x80)
    rest >>>= 7
  }
  bytes.push(rest)
  return Uint8Array.from(bytes)
}

interface Field {
  readonly number: number
  readonly value: number | Uint8Array
}

/** Every field of a protobuf message; unknown ones are the caller's to skip. */
function* fields(bytes: Uint8Array): Generator<Field> {
  let at = 0
  const varint = (): number => {
    let value = 0
    for (let scale = 1; scale < 2 ** 49; scale *= 128) {
      const byte = bytes[at]
      if (byte === undefined) throw new ProtocolError('a DHT message is cut short')
      at += 1
      value += (byte & 0x7f) * scale
      if (byte < 0x80) return value
    }
    return skipLongVarint()
  }
  // clusterLevel is an int32: negative ones take ten bytes and mean nothing to us.
  const skipLongVarint = (): number => {
    for (let extra = 0; extra < 3; extra += 1) {
      const byte = bytes[at]
      if (byte === undefined) throw new ProtocolError('a DHT message is cut short')
      at += 1
      if (byte < 0x80) return Number.MAX_SAFE_INTEGER
    }
    throw new ProtocolError('a number in a DHT message is too long')
  }
  const take = (length: number): Uint8Array => {
    if (length > bytes.length - at) throw new ProtocolError('a DHT message is cut short')
    at += length
    return bytes.subarray(at - length, at)
  }
  while (at < bytes.length) {
    const tag = varint()
    const number = Math.floor(tag / 8)
    const wire = tag % 8
    if (wire === wireVarint) yield { number, value: varint() }
    else if (wire === wireBytes) yield { number, value: take(varint()) }
    else if (wire === wireFixed64) take(8)
    else if (wire === wireFixed32) take(4)
    else throw new ProtocolError(`a DHT message has a field of unknown kind ${wire}`)
  }
}
