import fc from 'fast-check'
import { expect, test } from 'vitest'
import { codecs, makeCid } from '../../../src/core/cid.ts'
import { ProtocolError } from '../../../src/core/errors.ts'
import { normalize } from '../../../src/core/ranges.ts'
import { chunkBytesMax } from '../../../src/dag/chunk-table.ts'
import { checkHeader, dataBytesMax, type FrameType, frameTypes } from '../../../src/wire/frames.ts'
import {
  addressBytesMax,
  addressesPerPeerMax,
  agentBytesMax,
  decodeHave,
  decodeHello,
  decodePeers,
  decodeWatch,
  encodeChunkAsk,
  encodeHave,
  encodeHello,
  encodeKeys,
  encodePeers,
  encodeReason,
  encodeUnwatch,
  encodeWatch,
  featureBytesMax,
  featuresMax,
  type HaveEntry,
  keysPerAskMax,
  peerIdBytesMax,
  peersPerAnswerMax,
  reasonBytesMax,
  watchesPerFrameMax,
} from '../../../src/wire/messages.ts'

const cid = fc
  .tuple(fc.constantFrom(...Object.values(codecs)), fc.uint8Array({ minLength: 32, maxLength: 32 }))
  .map(([codec, digest]) => makeCid(codec, digest))
const u32 = fc.integer({ min: 0, max: 0xffff_ffff })
const ascii = (maxLength: number): fc.Arbitrary<string> =>
  fc.string({ unit: 'grapheme-ascii', maxLength })

test('every hello survives the wire', () => {
  const hello = fc.record({
    revision: fc.constant(1),
    requestsInFlightMax: fc.integer({ min: 1, max: 1024 }),
    watchesMax: u32,
    agent: ascii(agentBytesMax),
    features: fc.array(fc.stringMatching(/^[!-~]{1,64}$/), { maxLength: featuresMax }),
  })
  fc.assert(
    fc.property(hello, value => {
      expect(decodeHello(encodeHello(value))).toEqual(value)
    }),
  )
})

test('every watch survives the wire', () => {
  const entries = fc.array(fc.record({ ref: u32, root: cid, chunks: u32 }), { maxLength: 20 })
  fc.assert(
    fc.property(entries, value => {
      const got = decodeWatch(encodeWatch(value))
      expect(got.map(entry => ({ ...entry, root: entry.root.toString() }))).toEqual(
        value.map(entry => ({ ...entry, root: entry.root.toString() })),
      )
    }),
  )
})

test('every have survives the wire', () => {
  const ranges = fc
    .array(fc.tuple(fc.nat({ max: 10_000 }), fc.integer({ min: 1, max: 50 })), { minLength: 1 })
    .map(pairs => normalize(pairs.map(([start, length]) => [start, start + length] as const)))
  const entry: fc.Arbitrary<HaveEntry> = fc.oneof(
    u32.map(ref => ({ ref, kind: 'nothing' as const })),
    u32.map(ref => ({ ref, kind: 'all' as const })),
    fc.tuple(u32, ranges).map(([ref, held]) => ({ ref, kind: 'gained' as const, ranges: held })),
    fc.tuple(u32, ranges).map(([ref, held]) => ({ ref, kind: 'lost' as const, ranges: held })),
  )
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 10 }), value => {
      expect(decodeHave(encodeHave(value))).toEqual(value)
    }),
  )
})

test('every list of peers survives the wire', () => {
  const bytes = (maxLength: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ maxLength })
  const peer = fc.record({
    peerId: bytes(peerIdBytesMax),
    addresses: fc.array(bytes(addressBytesMax), { maxLength: addressesPerPeerMax }),
  })
  fc.assert(
    fc.property(fc.array(peer, { maxLength: 5 }), value => {
      expect(decodePeers(encodePeers(value))).toEqual(value)
    }),
  )
})

test('the largest message of each kind fits into the largest frame of its type', () => {
  const root = makeCid(codecs.dagPb, new Uint8Array(32))
  const many = <T>(count: number, item: T): T[] => Array.from({ length: count }, () => item)
  const largest: [FrameType, Uint8Array][] = [
    [
      frameTypes.hello,
      encodeHello({
        revision: 1,
        requestsInFlightMax: 1024,
        watchesMax: 0,
        agent: 'a'.repeat(agentBytesMax),
        features: many(featuresMax, 'f'.repeat(featureBytesMax)),
      }),
    ],
    [frameTypes.goodbye, encodeReason({ code: 1, text: 'r'.repeat(reasonBytesMax) })],
    [frameTypes.refusal, encodeReason({ code: 1, text: 'r'.repeat(reasonBytesMax) })],
    [frameTypes.watch, encodeWatch(many(watchesPerFrameMax, { ref: 0, root, chunks: 1 }))],
    [frameTypes.unwatch, encodeUnwatch(many(watchesPerFrameMax, 0))],
    [frameTypes.getPeers, encodeKeys(many(keysPerAskMax, root))],
    [frameTypes.getChunk, encodeChunkAsk({ root, index: 0 })],
    [
      frameTypes.peers,
      encodePeers(
        many(peersPerAnswerMax, {
          peerId: new Uint8Array(peerIdBytesMax),
          addresses: many(addressesPerPeerMax, new Uint8Array(addressBytesMax)),
        }),
      ),
    ],
  ]
  const hasId: ReadonlySet<number> = new Set([
    frameTypes.refusal,
    frameTypes.getPeers,
    frameTypes.getChunk,
    frameTypes.peers,
  ])
  for (const [type, { length }] of largest) {
    const id = hasId.has(type) ? 1 : 0
    expect(() => checkHeader({ type, length, flags: 0, id }, 0), `type ${type}`).not.toThrow()
  }
})

test('the largest chunk fits into one frame', () => {
  expect(dataBytesMax).toBe(chunkBytesMax)
})

test('a count of ranges that the frame cannot hold costs no work', () => {
  const payload = new Uint8Array(5 + 4 + 8)
  const view = new DataView(payload.buffer)
  view.setUint8(4, 2)
  view.setUint32(5, 0xffff_ffff, true)
  expect(() => decodeHave(payload)).toThrow(ProtocolError)
})

test('a reason is cut to what a frame may hold', () => {
  expect(encodeReason({ code: 1, text: 'x'.repeat(10_000) })).toHaveLength(2 + reasonBytesMax)
})
