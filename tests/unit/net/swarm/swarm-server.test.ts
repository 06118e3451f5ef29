import { readFileSync } from 'node:fs'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { rawCid } from '../../../../src/core/cid.ts'
import { LimitError, ProtocolError, UnavailableError } from '../../../../src/core/errors.ts'
import { silentLog } from '../../../../src/core/log.ts'
import { KiB, MiB, second } from '../../../../src/core/units.ts'
import { openBandwidth } from '../../../../src/net/upload/bandwidth.ts'
import { keyOf } from '../../../../src/net/swarm/have-feed.ts'
import { requestsInFlightMax, watchesMax } from '../../../../src/net/swarm/served-peer.ts'
import {
  helloTimeoutMs,
  type Serving,
  type ServingPort,
} from '../../../../src/net/swarm/swarm-channel.ts'
import { peersMaxDefault } from '../../../../src/net/swarm/swarm.ts'
import {
  chunkBytesTotalMax,
  documentBytesTotalMax,
  haveIntervalMs,
  openSwarmServer,
  recheckIntervalMs,
  stallMs,
  type SwarmServer,
  watchesTotalMax,
} from '../../../../src/net/swarm/swarm-server.ts'
import { uploadSlotsMax } from '../../../../src/net/upload/upload-slots.ts'
import {
  type FrameType,
  frameTypes,
  moreBytesMin,
  pieceBytes,
} from '../../../../src/wire/frames.ts'
import {
  decodeHave,
  decodeReason,
  encodeChunkAsk,
  encodeKeys,
  encodeUnwatch,
  encodeWatch,
  type PeerRecord,
  refusalCodes,
  requestsInFlightCeiling,
} from '../../../../src/wire/messages.ts'
import { FakeClock, settle } from '../../../support/fake-clock.ts'
import { FakeTransport } from '../../../support/fake-transport.ts'
import { MemoryReader, sampleFile, sampleManifest } from '../../../support/memory-reader.ts'

const file = sampleFile(20 * MiB)
const small = sampleFile(64 * KiB, KiB)
const manifest = sampleManifest()

let clock: FakeClock
let reader: MemoryReader
let server: SwarmServer
let known: PeerRecord[]

beforeEach(() => {
  clock = new FakeClock()
  reader = new MemoryReader().addFile(file).addFile(small).addManifest(manifest)
  known = []
  const bandwidth = openBandwidth(clock)
  server = openSwarmServer({
    reader,
    bandwidth,
    clock,
    log: silentLog,
    peersFor: async () => known,
  })
})
afterEach(() => server[Symbol.dispose]())

class Client {
  readonly transport = new FakeTransport()
  readonly serving: Serving
  spent = 0

  constructor(unitsMax = Infinity, peer = 'client') {
    const port: ServingPort = {
      peer,
      transport: this.transport,
      isLimited: false,
      spend: units => {
        this.spent += units
        if (this.spent > unitsMax) throw new ProtocolError('too much')
      },
    }
    this.serving = server.serve(port)
  }

  send(type: FrameType, id: number, payload: Uint8Array): void {
    this.serving.frame({ type, id, flags: 0, length: payload.length }, payload)
  }

  askChunk(id: number, index: number, root = file.root): void {
    this.send(frameTypes.getChunk, id, encodeChunkAsk({ root, index }))
  }

  refusals(): [id: number, code: number][] {
    return this.transport
      .ofType(frameTypes.refusal)
      .map(({ id, payload }) => [id, decodeReason(payload).code])
  }

  /** The answer to a request, put together. */
  answer(id: number): Buffer {
    const frames = this.transport.ofType(frameTypes.data).filter(frame => frame.id === id)
    return Buffer.concat(frames.map(({ payload }) => payload))
  }
}

test('answers in the order asked, in pieces, each byte right', async () => {
  const client = new Client()
  for (let index = 0; index < 5; index += 1) client.askChunk(index + 1, index)
  await settle()
  const frames = client.transport.ofType(frameTypes.data)
  expect(frames.map(({ id }) => id)).toEqual([1, 2, 3, 4, 5].flatMap(id => [id, id, id, id]))
  expect(new Set(frames.map(({ length }) => length))).toEqual(new Set([pieceBytes]))
  expect(frames.slice(0, 4).map(({ flags }) => flags)).toEqual([1, 1, 1, 0])
  expect(client.answer(3).equals(file.bytes.subarray(2 * MiB, 3 * MiB))).toBe(true)
  expect(server.budgets.chunks.bytesTaken).toBe(0)
})

test('gives manifests and tables, by root and by whole SHA-256', async () => {
  const client = new Client()
  client.send(frameTypes.getManifest, 1, manifest.cid.bytes)
  client.send(frameTypes.getTable, 2, small.root.bytes)
  client.send(frameTypes.getTable, 3, small.whole.bytes)
  await settle()
  expect(client.answer(1).equals(manifest.bytes)).toBe(true)
  expect(client.answer(2).equals(small.table.bytes)).toBe(true)
  expect(client.answer(3).equals(small.table.bytes)).toBe(true)
  expect(server.budgets.documents.bytesTaken).toBe(0)
  expect(client.serving.wants(keyOf(manifest.cid))).toBe(true)
})

test('reads one ahead and no more while the peer does not read', async () => {
  const client = new Client()
  client.transport.holdBack()
  for (let index = 0; index < 10; index += 1) client.askChunk(index + 1, index)
  await settle()
  expect(reader.reads).toBe(2)
  expect(client.serving.bytesPending).toBe(2 * MiB)
  expect(client.transport.ofType(frameTypes.data)).toHaveLength(0)
  client.transport.letGo()
  await settle()
  expect(reader.reads).toBe(10)
  expect(client.serving.bytesPending).toBe(0)
})

test('gives up reading ahead when peers that do not read hold half of the budget', async () => {
  const clients = Array.from({ length: 250 }, (_, index) => new Client(Infinity, `${index}`))
  for (const client of clients) {
    client.transport.holdBack()
    client.askChunk(1, 0)
    client.askChunk(2, 1)
  }
  // Slots of those that do not read go round, until everybody has had one.
  await clock.advance(30 * second)
  expect(reader.reads).toBeGreaterThanOrEqual(250)
  const { bytesTaken, bytesMax } = server.budgets.chunks
  expect(bytesTaken).toBeLessThanOrEqual(bytesMax)
  // The one who reads is served all the same.
  const reading = new Client(Infinity, 'reading')
  reading.askChunk(1, 3)
  await clock.advance(3 * second)
  expect(reading.answer(1)).toHaveLength(MiB)
})

test('gives the budget back when a peer goes', async () => {
  const client = new Client()
  client.transport.holdBack()
  for (let index = 0; index < 10; index += 1) client.askChunk(index + 1, index)
  await settle()
  client.transport.abort(new UnavailableError('gone'))
  await settle()
  expect(server.budgets.chunks.bytesTaken).toBe(0)
  expect(reader.reads).toBe(2)
})

test('drops a peer that reads nothing for a minute, and not one that is idle', async () => {
  const idle = new Client()
  const stalled = new Client()
  await clock.advance(2 * stallMs)
  stalled.transport.holdBack()
  stalled.askChunk(1, 0)
  await settle()
  await clock.advance(stallMs - 16 * second)
  expect(stalled.transport.closed.aborted).toBe(false)
  await clock.advance(32 * second)
  expect(stalled.transport.closed.reason).toBeInstanceOf(UnavailableError)
  expect(idle.transport.closed.aborted).toBe(false)
  expect(server.budgets.chunks.bytesTaken).toBe(0)
})

test('answers a cancelled request once: with a refusal, also in the middle of its data', async () => {
  const client = new Client()
  client.transport.holdBack()
  for (const id of [1, 2, 3]) client.askChunk(id, id)
  await settle()
  for (const id of [1, 3, 77]) client.send(frameTypes.cancel, id, new Uint8Array(0))
  // What was not begun is refused at once: until its turn it may be long.
  expect(client.refusals()).toEqual([[3, refusalCodes.cancelled]])
  client.transport.letGo()
  await settle()
  expect(client.refusals()).toEqual([
    [3, refusalCodes.cancelled],
    [1, refusalCodes.cancelled],
  ])
  expect(client.answer(2)).toHaveLength(MiB)
  expect(reader.reads).toBe(2)
  // The ids are free again.
  client.askChunk(1, 5)
  await settle()
  expect(client.answer(1)).toHaveLength(MiB)
})

test('refuses what is above the limit with busy, and an id in use as a broken rule', async () => {
  const client = new Client()
  client.transport.holdBack()
  for (let id = 1; id <= requestsInFlightMax + 1; id += 1) client.askChunk(id, 0)
  expect(client.refusals()).toEqual([[requestsInFlightMax + 1, refusalCodes.busy]])
  expect(() => client.askChunk(1, 0)).toThrow(ProtocolError)
})

test('refuses what is not held, and says so to who believed it', async () => {
  const client = new Client()
  client.send(
    frameTypes.watch,
    0,
    encodeWatch([{ ref: 4, root: small.root, chunks: small.table.count }]),
  )
  await settle()
  reader.loseSilently(small, 7)
  client.askChunk(1, 7, small.root)
  client.askChunk(2, 0xffff_ffff, small.root)
  await settle()
  expect(client.refusals()).toEqual([
    [1, refusalCodes.notHeld],
    [2, refusalCodes.notHeld],
  ])
  const told = client.transport
    .ofType(frameTypes.have)
    .flatMap(({ payload }) => decodeHave(payload))
  expect(told).toEqual([
    { ref: 4, kind: 'all' },
    { ref: 4, kind: 'lost', ranges: [[7, 8]] },
  ])
})

test('refusing without end is paid for', async () => {
  const client = new Client(100)
  for (let id = 1; id <= 200; id += 1) {
    client.askChunk(id, 99, small.root)
    await settle()
    if (client.transport.closed.aborted) break
  }
  expect(client.transport.closed.reason).toBeInstanceOf(ProtocolError)
  expect(client.refusals()).toHaveLength(100)
})

test('a read error is refused as failed, without its text', async () => {
  reader.beforeRead = () => {
    throw new Error('EIO /secret/path')
  }
  const client = new Client()
  client.askChunk(1, 0)
  await settle()
  const [refusal] = client.transport.ofType(frameTypes.refusal)
  expect(decodeReason(refusal?.payload ?? new Uint8Array(0))).toEqual({
    code: refusalCodes.failed,
    text: '',
  })
  expect(server.budgets.chunks.bytesTaken).toBe(0)
})

test('tells changes at most every tenth of a second', async () => {
  const client = new Client()
  client.send(frameTypes.watch, 0, encodeWatch([{ ref: 0, root: small.root, chunks: 64 }]))
  await settle()
  reader.lose(small, 1)
  reader.lose(small, 2)
  await settle()
  expect(client.transport.ofType(frameTypes.have)).toHaveLength(1)
  await clock.advance(haveIntervalMs)
  const [, change] = client.transport.ofType(frameTypes.have)
  expect(decodeHave(change?.payload ?? new Uint8Array(0))).toEqual([
    { ref: 0, kind: 'lost', ranges: [[1, 3]] },
  ])
})

test('bounds the watches of one peer and of all, and gets them back', () => {
  const entries = (from: number, count: number) =>
    encodeWatch(
      Array.from({ length: count }, (_, index) => ({
        ref: from + index,
        // One root may be watched 64 times.
        root: rawCid(Buffer.alloc(32, `root ${Math.floor((from + index) / 64)}`)),
        chunks: 1,
      })),
    )
  const client = new Client()
  for (let from = 0; from < watchesMax; from += 1000)
    client.send(frameTypes.watch, 0, entries(from, 1000))
  expect(() => client.send(frameTypes.watch, 0, entries(watchesMax, 1))).toThrow(ProtocolError)
  client.send(frameTypes.unwatch, 0, encodeUnwatch([0, 1, 1, watchesMax + 5]))
  client.send(frameTypes.watch, 0, entries(watchesMax, 2))
  server.budgets.watchesLeft = 1
  const late = new Client()
  expect(() => late.send(frameTypes.watch, 0, entries(0, 2))).toThrow(LimitError)
  late.send(frameTypes.watch, 0, entries(0, 1))
  expect(server.budgets.watchesLeft).toBe(0)
  late.transport.abort(new UnavailableError('gone'))
  expect(server.budgets.watchesLeft).toBe(1)
})

test('answers a question for peers with what is known', async () => {
  known = [{ peerId: new Uint8Array(38), addresses: [new Uint8Array(8)] }]
  const client = new Client()
  client.send(frameTypes.getPeers, 1, encodeKeys([file.root]))
  await settle()
  expect(client.transport.ofType(frameTypes.peers)).toHaveLength(1)
  expect(client.spent).toBe(50)
})

test('stops listening to the store when disposed', async () => {
  const client = new Client()
  client.send(frameTypes.watch, 0, encodeWatch([{ ref: 0, root: small.root, chunks: 64 }]))
  await settle()
  server[Symbol.dispose]()
  reader.lose(small, 1)
  await clock.advance(second)
  expect(client.transport.ofType(frameTypes.have)).toHaveLength(1)
})

test('the limits of the spec are those of the code', () => {
  const spec = readFileSync(new URL('../../../../docs/spec/wire.md', import.meta.url), 'utf8')
  const count = (value: number): string => value.toLocaleString('en-US')
  const rows = [
    `| time until hello | ${helloTimeoutMs / second} s |`,
    `| requests in flight | ${requestsInFlightMax},`,
    `| watches of one peer | ${count(watchesMax)},`,
    `| watches of all peers | ${count(watchesTotalMax)} |`,
    `| peers served at a time | ${uploadSlotsMax},`,
    `| chunks in memory for serving, all peers | ${chunkBytesTotalMax / MiB} MiB |`,
    `| manifests and tables in memory for serving | ${documentBytesTotalMax / MiB} MiB |`,
    `| no progress in reading what was asked for | ${stallMs / second} s |`,
    `| peers | ${peersMaxDefault} |`,
    `at a time, 1 to ${count(requestsInFlightCeiling)} |`,
    `at least ${count(moreBytesMin)} bytes`,
    `cut at ${pieceBytes / KiB} KiB`,
  ]
  for (const row of rows) expect(spec).toContain(row)
})

test('has the store hash again once a minute, however many peers ban us', async () => {
  const clients = [new Client(), new Client(Infinity, 'another')]
  for (const { serving } of clients) serving.banned()
  expect(reader.rechecks).toBe(1)
  await clock.advance(recheckIntervalMs - 1)
  for (const { serving } of clients) serving.banned()
  expect(reader.rechecks).toBe(1)
  await clock.advance(1)
  for (const { serving } of clients) serving.banned()
  expect(reader.rechecks).toBe(2)
})
