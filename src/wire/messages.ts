/**
 * The payload of every control frame: encode, and decode strictly. docs/spec/wire.md is the
 * authority; tests/vectors/frames.json pins the bytes. Pure.
 */

import type { CID } from '../core/cid.ts'
import { ProtocolError } from '../core/errors.ts'
import type { Range } from '../core/ranges.ts'
import { GiB } from '../core/units.ts'
import { encodeText, FieldReader, FieldWriter } from './codec.ts'

/** Raised when something is added that both sides must know of; older ones go on as they are. */
export const revision = 1

/** Long enough for `commonweight/1.2.3 node/24.1.0`, short enough for a line of `peers`. */
export const agentBytesMax = 128
/** Names of optional abilities. */
export const featuresMax = 16
export const featureBytesMax = 64
/** A request at a time makes no sense above the bandwidth-delay product: 1 GiB at 1 MiB a chunk. */
export const requestsInFlightCeiling = 1024
/** A frame of 45 KB, which a receiver answers without a noticeable pause. */
export const watchesPerFrameMax = 1024
/** A chunk table: 29 million chunks, nearly 28 TiB of full ones, more than a file may have. */
export const tableBytesMax = GiB
export const reasonBytesMax = 256
export const keysPerAskMax = 16
export const peersPerAnswerMax = 50
export const addressesPerPeerMax = 8
/** Ed25519 peer ids have 38 bytes, RSA ones 34. */
export const peerIdBytesMax = 64
export const addressBytesMax = 256

/** Abilities of ours: docs/spec/lane.md. */
export const laneFeatures = {
  /** Takes lanes at its TCP addresses. */
  lane: 'lane',
  /** Dials one when asked to. */
  laneDial: 'lane-dial',
  /** In the hello of a lane: it was asked for, and the side that asked asks on it. */
  laneBack: 'lane-back',
} as const

export interface Hello {
  readonly revision: number
  /** Requests that the sender of the hello takes at a time. */
  readonly requestsInFlightMax: number
  /** Files that the sender of the hello lets the other watch. */
  readonly watchesMax: number
  readonly agent: string
  readonly features: readonly string[]
}

const featurePattern = /^[\x21-\x7e]+$/

export function encodeHello(hello: Hello): Uint8Array {
  const agent = encodeText(hello.agent, agentBytesMax)
  const fields = new FieldWriter()
    .u16(hello.revision)
    .u16(hello.requestsInFlightMax)
    .u32(hello.watchesMax)
    .u8(agent.length)
    .bytes(agent)
    .u8(hello.features.length)
  for (const feature of hello.features) {
    const bytes = encodeText(feature, featureBytesMax)
    fields.u8(bytes.length).bytes(bytes)
  }
  return fields.finish()
}

export function decodeHello(payload: Uint8Array): Hello {
  const reader = new FieldReader(payload, 'hello')
  const theirRevision = reader.u16()
  if (theirRevision === 0) throw new ProtocolError('hello: revision 0')
  const requestsInFlightMax = reader.u16()
  if (requestsInFlightMax < 1 || requestsInFlightMax > requestsInFlightCeiling) {
    throw new ProtocolError(`hello: ${requestsInFlightMax} requests in flight`)
  }
  const watchesMax = reader.u32()
  const agent = reader.text(bounded(reader.u8(), agentBytesMax, 'hello: bytes of agent'))
  const features: string[] = []
  const count = bounded(reader.u8(), featuresMax, 'hello: features')
  for (let index = 0; index < count; index += 1) {
    const feature = reader.text(bounded(reader.u8(), featureBytesMax, 'hello: bytes of a feature'))
    if (!featurePattern.test(feature)) throw new ProtocolError('hello: feature is not a word')
    features.push(feature)
  }
  // What a later revision adds to its hello comes after what this one knows.
  if (theirRevision <= revision) reader.end()
  return { revision: theirRevision, requestsInFlightMax, watchesMax, agent, features }
}

/** Why a channel ends; unknown codes come from later revisions. Nothing is decided by the code. */
export const goodbyeCodes = { stopping: 0, protocol: 1, limit: 2, banned: 3, replaced: 4 } as const
export type GoodbyeCode = (typeof goodbyeCodes)[keyof typeof goodbyeCodes]

/** Why a request is not answered. Unknown codes read as `failed`. */
export const refusalCodes = { notHeld: 0, busy: 1, cancelled: 2, failed: 3 } as const
export type RefusalCode = (typeof refusalCodes)[keyof typeof refusalCodes]

/** Payload of a goodbye or refusal. */
export interface Reason {
  readonly code: number
  /** For the other side's log: printable ASCII. */
  readonly text: string
}

export function encodeReason(reason: Reason): Uint8Array {
  const text = encodeText(reason.text, reasonBytesMax)
  return new FieldWriter(2 + text.length).u16(reason.code).bytes(text).finish()
}

export function decodeReason(payload: Uint8Array): Reason {
  const reader = new FieldReader(payload, 'reason')
  const code = reader.u16()
  const text = reader.text(bounded(reader.rest, reasonBytesMax, 'bytes of reason'))
  reader.end()
  return { code, text }
}

/** One file to be told about, under a number that the watcher chose. */
export interface WatchEntry {
  readonly ref: number
  readonly root: CID
  readonly chunks: number
}

export function encodeWatch(entries: readonly WatchEntry[]): Uint8Array {
  const fields = new FieldWriter(entries.length * 44)
  for (const { ref, root, chunks } of entries) fields.u32(ref).cid(root).u32(chunks)
  return fields.finish()
}

export function decodeWatch(payload: Uint8Array): WatchEntry[] {
  const reader = new FieldReader(payload, 'watch')
  const entries: WatchEntry[] = []
  while (reader.rest > 0) {
    entries.push({ ref: reader.u32(), root: reader.cid(), chunks: reader.u32() })
  }
  return entries
}

export function encodeUnwatch(refs: readonly number[]): Uint8Array {
  const fields = new FieldWriter(refs.length * 4)
  for (const ref of refs) fields.u32(ref)
  return fields.finish()
}

export function decodeUnwatch(payload: Uint8Array): number[] {
  const reader = new FieldReader(payload, 'unwatch')
  const refs: number[] = []
  while (reader.rest > 0) refs.push(reader.u32())
  return refs
}

/** What is held of a watched file: all or nothing of it, or a change since what was said before. */
export type HaveEntry =
  | { readonly ref: number; readonly kind: 'nothing' }
  | { readonly ref: number; readonly kind: 'all' }
  | { readonly ref: number; readonly kind: 'gained' | 'lost'; readonly ranges: readonly Range[] }

const haveKinds = ['nothing', 'all', 'gained', 'lost'] as const

export function writeHave(fields: FieldWriter, entry: HaveEntry): void {
  fields.u32(entry.ref).u8(haveKinds.indexOf(entry.kind))
  if (entry.kind === 'nothing' || entry.kind === 'all') return
  fields.u32(entry.ranges.length)
  for (const [start, end] of entry.ranges) fields.u32(start).u32(end)
}

export function encodeHave(entries: readonly HaveEntry[]): Uint8Array {
  const fields = new FieldWriter(entries.length * 5)
  for (const entry of entries) writeHave(fields, entry)
  return fields.finish()
}

export function decodeHave(payload: Uint8Array): HaveEntry[] {
  const reader = new FieldReader(payload, 'have')
  const entries: HaveEntry[] = []
  while (reader.rest > 0) {
    const ref = reader.u32()
    const kind = haveKinds[reader.u8()]
    if (kind === undefined) throw new ProtocolError('have: unknown kind')
    if (kind === 'nothing' || kind === 'all') entries.push({ ref, kind })
    else entries.push({ ref, kind, ranges: readRanges(reader) })
  }
  return entries
}

function readRanges(reader: FieldReader): Range[] {
  const count = reader.u32()
  // Checked before the loop: a count alone must not make us work.
  if (count < 1 || count * 8 > reader.rest) throw new ProtocolError(`have: ${count} ranges`)
  const ranges: Range[] = []
  let last = -1
  for (let index = 0; index < count; index += 1) {
    const start = reader.u32()
    const end = reader.u32()
    // Apart, too: one set of chunks has one encoding.
    if (start <= last || end <= start) throw new ProtocolError('have: ranges out of order')
    ranges.push([start, end])
    last = end
  }
  return ranges
}

/** Payload of get-manifest and get-table. */
export function decodeKey(payload: Uint8Array): CID {
  const reader = new FieldReader(payload, 'key')
  const key = reader.cid()
  reader.end()
  return key
}

export interface ChunkAsk {
  readonly root: CID
  readonly index: number
}

export function encodeChunkAsk(ask: ChunkAsk): Uint8Array {
  return new FieldWriter(40).cid(ask.root).u32(ask.index).finish()
}

export function decodeChunkAsk(payload: Uint8Array): ChunkAsk {
  const reader = new FieldReader(payload, 'get-chunk')
  const ask = { root: reader.cid(), index: reader.u32() }
  reader.end()
  return ask
}

export function encodeKeys(keys: readonly CID[]): Uint8Array {
  const fields = new FieldWriter(keys.length * 36)
  for (const key of keys) fields.cid(key)
  return fields.finish()
}

export function decodeKeys(payload: Uint8Array): CID[] {
  const reader = new FieldReader(payload, 'get-peers')
  const keys: CID[] = []
  while (reader.rest > 0) keys.push(reader.cid())
  return keys
}

/** A peer and where it listens, in binary: this layer knows neither peer ids nor multiaddrs. */
export interface PeerRecord {
  readonly peerId: Uint8Array
  readonly addresses: readonly Uint8Array[]
}

export function encodePeers(peers: readonly PeerRecord[]): Uint8Array {
  const fields = new FieldWriter()
  for (const { peerId, addresses } of peers) {
    fields.u8(peerId.length).bytes(peerId).u8(addresses.length)
    for (const address of addresses) fields.u16(address.length).bytes(address)
  }
  return fields.finish()
}

export function decodePeers(payload: Uint8Array): PeerRecord[] {
  const reader = new FieldReader(payload, 'peers')
  const peers: PeerRecord[] = []
  while (reader.rest > 0) {
    if (peers.length >= peersPerAnswerMax) throw new ProtocolError('peers: too many')
    const peerId = reader.bytes(bounded(reader.u8(), peerIdBytesMax, 'peers: bytes of id')).slice()
    const addresses: Uint8Array[] = []
    const count = bounded(reader.u8(), addressesPerPeerMax, 'peers: addresses')
    for (let index = 0; index < count; index += 1) {
      const length = bounded(reader.u16(), addressBytesMax, 'peers: bytes of address')
      addresses.push(reader.bytes(length).slice())
    }
    peers.push({ peerId, addresses })
  }
  return peers
}

function bounded(value: number, max: number, what: string): number {
  if (value > max) throw new ProtocolError(`${what}: ${value}; at most ${max} allowed`)
  return value
}
