import { beforeEach, expect, test } from 'vitest'
import { LimitError, ProtocolError, UnavailableError } from '../../../src/core/errors.ts'
import { KiB, MiB } from '../../../src/core/units.ts'
import { flagMore, frameTypes } from '../../../src/wire/frames.ts'
import { refusalCodes } from '../../../src/wire/messages.ts'
import { type AnswerShape, RequestTable } from '../../../src/wire/requests.ts'

const never = new AbortController().signal

let sent: { type: number; id: number }[] = []
let table: RequestTable

beforeEach(() => {
  sent = []
  table = new RequestTable(frame => {
    const view = new DataView(frame.buffer, frame.byteOffset)
    sent.push({ type: view.getUint8(4), id: view.getUint32(8, true) })
  })
})

function ask(answer: AnswerShape, signal = never): Promise<Uint8Array> {
  const request = table.request({
    type: frameTypes.getChunk,
    payload: new Uint8Array(40),
    answer,
    signal,
  })
  request.catch(() => undefined)
  return request
}

function askChunk(bytes: number, signal = never): Promise<Uint8Array> {
  return ask({ shape: 'exact', bytes }, signal)
}

function answer(id: number, bytes: Uint8Array, flags = 0): void {
  const header = { type: frameTypes.data, id, flags, length: bytes.length }
  if (bytes.length > 0) table.place(header)?.set(bytes)
  table.data(header)
}

test('sends nothing before the peer said how many requests it takes', () => {
  void askChunk(1)
  expect(sent).toEqual([])
  table.open(1)
  expect(sent).toEqual([{ type: frameTypes.getChunk, id: 1 }])
})

test('keeps no more in flight than the peer takes, in the order asked', async () => {
  table.open(2)
  const [first, second, third] = [askChunk(1), askChunk(1), askChunk(1)]
  expect(sent.map(({ id }) => id)).toEqual([1, 2])
  answer(2, Uint8Array.of(2))
  expect(sent.map(({ id }) => id)).toEqual([1, 2, 3])
  answer(3, Uint8Array.of(3))
  answer(1, Uint8Array.of(1))
  expect(await Promise.all([first, second, third])).toEqual([
    Buffer.from([1]),
    Buffer.from([2]),
    Buffer.from([3]),
  ])
})

test('puts an answer of several frames together', async () => {
  table.open(1)
  const chunk = askChunk(3 * KiB)
  for (const [fill, flags] of [
    [1, flagMore],
    [2, flagMore],
    [3, 0],
  ] as const) {
    answer(1, new Uint8Array(KiB).fill(fill), flags)
  }
  const bytes = await chunk
  expect([bytes.length, bytes[0], bytes[KiB], bytes[2 * KiB]]).toEqual([3 * KiB, 1, 2, 3])
})

test('memory for an answer of unknown size grows with the bytes that came', async () => {
  table.open(1)
  const bytes = ask({ shape: 'upTo', bytes: 1024 * MiB })
  const place = table.place({ type: frameTypes.data, id: 1, flags: 0, length: 10 })
  expect(place?.buffer.byteLength).toBeLessThanOrEqual(64 * KiB)
  place?.fill(7)
  table.data({ type: frameTypes.data, id: 1, flags: 0, length: 10 })
  expect(await bytes).toEqual(Buffer.alloc(10, 7))
})

test('an answer of unknown size keeps every byte while its memory grows', async () => {
  table.open(1)
  const bytes = ask({ shape: 'upTo', bytes: 64 * MiB })
  for (let index = 0; index < 40; index += 1) {
    answer(1, new Uint8Array(100 * KiB).fill(index), index < 39 ? flagMore : 0)
  }
  const got = await bytes
  expect(got).toHaveLength(4000 * KiB)
  for (let index = 0; index < 40; index += 1) expect(got[index * 100 * KiB]).toBe(index)
})

test.for([
  ['longer than asked for', () => answer(1, new Uint8Array(11))],
  ['shorter than asked for', () => answer(1, new Uint8Array(9))],
  ['empty', () => answer(1, new Uint8Array(0))],
  [
    'longer in several frames',
    () => [answer(1, new Uint8Array(9), flagMore), answer(1, new Uint8Array(2))],
  ],
  ['to what was not asked', () => answer(2, new Uint8Array(10))],
  [
    'of peers',
    () => table.whole({ type: frameTypes.peers, id: 1, flags: 0, length: 0 }, new Uint8Array(0)),
  ],
] as const)('an answer %s breaks the protocol', ([, run]) => {
  table.open(1)
  void askChunk(10)
  expect(run).toThrow(ProtocolError)
})

test('a second answer breaks the protocol', async () => {
  table.open(1)
  const chunk = askChunk(1)
  answer(1, Uint8Array.of(1))
  await chunk
  expect(() => answer(1, Uint8Array.of(1))).toThrow(ProtocolError)
})

test('data does not answer a question for peers', () => {
  table.open(1)
  void ask({ shape: 'frame', type: frameTypes.peers })
  expect(() => answer(1, new Uint8Array(1))).toThrow(ProtocolError)
})

test('a cancelled request keeps its place until it is answered', async () => {
  table.open(1)
  const stop = new AbortController()
  const first = askChunk(10, stop.signal)
  const second = askChunk(10)
  stop.abort(new Error('enough'))
  await expect(first).rejects.toThrow('enough')
  expect(sent).toEqual([
    { type: frameTypes.getChunk, id: 1 },
    { type: frameTypes.cancel, id: 1 },
  ])
  // The answer had left already: its bytes are dropped, and its id is free again.
  expect(table.place({ type: frameTypes.data, id: 1, flags: 0, length: 10 })).toBeUndefined()
  table.data({ type: frameTypes.data, id: 1, flags: 0, length: 10 })
  expect(sent.at(-1)).toEqual({ type: frameTypes.getChunk, id: 2 })
  answer(2, new Uint8Array(10))
  expect(await second).toHaveLength(10)
})

test('a request cancelled before it was sent never is', async () => {
  table.open(1)
  void askChunk(1)
  const stop = new AbortController()
  const waiting = askChunk(1, stop.signal)
  stop.abort(new Error('enough'))
  await expect(waiting).rejects.toThrow('enough')
  answer(1, Uint8Array.of(1))
  expect(sent).toEqual([{ type: frameTypes.getChunk, id: 1 }])
  expect(table.inFlight).toBe(0)
})

test.for([
  [refusalCodes.notHeld, UnavailableError],
  [refusalCodes.busy, LimitError],
  [refusalCodes.failed, UnavailableError],
  [999, UnavailableError],
] as const)('refusal code %i rejects with the error that says what to do', async ([code, kind]) => {
  table.open(1)
  const chunk = askChunk(1)
  table.refuse({ type: frameTypes.refusal, id: 1, flags: 0, length: 2 }, { code, text: '' })
  await expect(chunk).rejects.toThrow(kind)
})

test('what is in flight or waits fails with the channel, and so does what comes later', async () => {
  table.open(1)
  const requests = [askChunk(1), askChunk(1)]
  const gone = new UnavailableError('gone')
  table.fail(gone)
  for (const request of [...requests, askChunk(1)]) await expect(request).rejects.toBe(gone)
})

test('ids go round without meeting one that is in flight', async () => {
  table.open(3)
  void askChunk(1)
  for (let id = 2; id < 200; id += 1) {
    const chunk = askChunk(1)
    answer(id, Uint8Array.of(1))
    await chunk
  }
  expect(new Set(sent.map(({ id }) => id)).size).toBe(sent.length)
})

test('more than 4096 waiting requests are a bug of the caller', async () => {
  for (let index = 0; index < 4096; index += 1) void askChunk(1)
  await expect(askChunk(1)).rejects.toThrow(LimitError)
})

test('puts an answer into the memory it was given, when its first byte comes', async () => {
  table.open(1)
  const memory = new Uint8Array(16)
  let allocated = 0
  const request = table.request({
    type: frameTypes.getChunk,
    payload: new Uint8Array(40),
    answer: { shape: 'exact', bytes: 3 },
    signal: never,
    allocate: bytes => {
      allocated += bytes
      return memory
    },
  })
  expect(allocated).toBe(0)
  answer(1, Uint8Array.of(1, 2, 3))
  expect(allocated).toBe(3)
  const bytes = await request
  expect(bytes).toEqual(Uint8Array.of(1, 2, 3))
  expect(bytes.buffer).toBe(memory.buffer)
})
