import { beforeEach, expect, test } from 'vitest'
import { BufferPool } from '../../../src/core/buffers.ts'
import { LaneClient } from '../../../src/bulk/lane-client.ts'
import { LimitError, ProtocolError, UnavailableError } from '../../../src/core/errors.ts'
import { KiB, MiB } from '../../../src/core/units.ts'
import { encodeFrame, encodeHeader, flagMore, frameTypes } from '../../../src/wire/frames.ts'
import {
  decodeHello,
  encodeHello,
  encodeReason,
  goodbyeCodes,
  refusalCodes,
  revision,
} from '../../../src/wire/messages.ts'
import { FakeTransport } from '../../support/fake-transport.ts'

const ask = new Uint8Array(40)
const hello = encodeFrame(
  frameTypes.hello,
  0,
  encodeHello({ revision, requestsInFlightMax: 8, watchesMax: 0, agent: 'x', features: [] }),
)

let transport: FakeTransport
let pool: BufferPool
let client: LaneClient

beforeEach(() => {
  transport = new FakeTransport()
  pool = new BufferPool()
  client = new LaneClient(transport, pool)
  client.ready.catch(() => undefined)
})

function data(id: number, bytes: Uint8Array, flags = 0): Uint8Array[] {
  return [encodeHeader({ length: bytes.length, type: frameTypes.data, flags, id }), bytes]
}

test('says a hello that takes no requests worth the name, and waits for the other', async () => {
  const [first] = transport.ofType(frameTypes.hello)
  expect(decodeHello(first?.payload ?? ask)).toMatchObject({
    requestsInFlightMax: 1,
    watchesMax: 0,
  })
  const fetching = client.fetch(ask, 3, AbortSignal.timeout(60_000))
  expect(transport.ofType(frameTypes.getChunk)).toEqual([])
  transport.receive(hello)
  expect(await client.ready).toBe(8)
  expect(transport.ofType(frameTypes.getChunk)).toHaveLength(1)
  transport.receive(...data(1, Uint8Array.of(1, 2, 3)))
  expect((await fetching).bytes).toEqual(Buffer.from([1, 2, 3]))
})

test('puts the pieces of a chunk together in one pooled buffer', async () => {
  transport.receive(hello)
  const first = client.fetch(ask, MiB, AbortSignal.timeout(60_000))
  transport.receive(...data(1, Buffer.alloc(512 * KiB, 1), flagMore))
  transport.receive(...data(1, Buffer.alloc(512 * KiB, 2)))
  const { bytes, buffer } = await first
  expect([bytes[0], bytes[MiB - 1], bytes.length]).toEqual([1, 2, MiB])
  pool.give(buffer)
  const second = client.fetch(ask, MiB, AbortSignal.timeout(60_000))
  transport.receive(...data(2, Buffer.alloc(MiB, 3)))
  expect((await second).buffer).toBe(buffer)
})

test('the rest of a cancelled frame does not end up in the memory of another chunk', async () => {
  transport.receive(hello)
  const stop = new AbortController()
  const cancelled = client.fetch(ask, MiB, stop.signal)
  transport.receive(encodeHeader({ length: MiB, type: frameTypes.data, flags: 0, id: 1 }))
  transport.receive(Buffer.alloc(KiB, 1))
  stop.abort(new Error('enough'))
  await expect(cancelled).rejects.toThrow('enough')
  const taken = pool.take(MiB).fill(7)
  transport.receive(Buffer.alloc(MiB - KiB, 2))
  expect(taken.every(byte => byte === 7)).toBe(true)
  expect(client.closed.aborted).toBe(false)
  expect(transport.ofType(frameTypes.cancel)).toHaveLength(1)
})

test('a refusal rejects its request only', async () => {
  transport.receive(hello)
  const [busy, other] = [1, 2].map(() => client.fetch(ask, 1, AbortSignal.timeout(60_000)))
  const refusal = encodeReason({ code: refusalCodes.busy, text: '' })
  transport.receive(encodeFrame(frameTypes.refusal, 1, refusal))
  transport.receive(...data(2, Uint8Array.of(9)))
  await expect(busy).rejects.toBeInstanceOf(LimitError)
  expect((await other)?.bytes).toEqual(Buffer.from([9]))
})

test.for([
  ['an answer before the hello', data(1, Uint8Array.of(1))],
  ['a second hello', [hello, hello]],
  ['an answer to nothing', [hello, ...data(5, Uint8Array.of(1))]],
  ['a request of its own', [hello, encodeFrame(frameTypes.getChunk, 1, ask)]],
  ['haves that nobody watches', [hello, encodeFrame(frameTypes.have, 0, new Uint8Array(5))]],
] as const)('%s is a breach of the rules, and the peer is told', async ([, frames]) => {
  transport.receive(...frames)
  await expect.poll(() => client.closed.aborted).toBe(true)
  expect(client.closed.reason).toBeInstanceOf(ProtocolError)
  expect(transport.ofType(frameTypes.goodbye)).toHaveLength(1)
})

test('skips frames of later revisions, but not for ever', () => {
  transport.receive(hello)
  const header = { length: MiB, type: 0x90, flags: 0, id: 0 }
  for (let count = 0; count < 8; count += 1) {
    transport.receive(encodeHeader(header), new Uint8Array(MiB))
  }
  expect(client.closed.aborted).toBe(false)
  for (let count = 0; count < 9; count += 1) {
    transport.receive(encodeHeader(header), new Uint8Array(MiB))
  }
  expect(client.closed.reason).toBeInstanceOf(LimitError)
})

test('a goodbye ends the lane and what was asked on it', async () => {
  transport.receive(hello)
  const fetching = client.fetch(ask, 1, AbortSignal.timeout(60_000))
  const payload = encodeReason({ code: goodbyeCodes.stopping, text: 'so long' })
  transport.receive(encodeFrame(frameTypes.goodbye, 0, payload))
  await expect(fetching).rejects.toThrow('so long')
  expect(client.closed.reason).toBeInstanceOf(UnavailableError)
})
