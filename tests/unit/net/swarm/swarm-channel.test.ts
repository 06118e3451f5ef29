import { beforeEach, expect, test } from 'vitest'
import { rawCid } from '../../../../src/core/cid.ts'
import { LimitError, ProtocolError, UnavailableError } from '../../../../src/core/errors.ts'
import { silentLog } from '../../../../src/core/log.ts'
import { second } from '../../../../src/core/units.ts'
import {
  helloTimeoutMs,
  type Serving,
  type ServingPort,
  SwarmChannel,
  turnAway,
} from '../../../../src/net/swarm/swarm-channel.ts'
import {
  encodeFrame,
  encodeHeader,
  type FrameHeader,
  frameTypes,
} from '../../../../src/wire/frames.ts'
import {
  decodeHello,
  decodeReason,
  decodeUnwatch,
  decodeWatch,
  encodeHave,
  encodeHello,
  encodeReason,
  goodbyeCodes,
  type Hello,
  watchesPerFrameMax,
} from '../../../../src/wire/messages.ts'
import { FakeClock, settle } from '../../../support/fake-clock.ts'
import { FakeTransport } from '../../../support/fake-transport.ts'

const empty = new Uint8Array(0)
const root = rawCid(new Uint8Array(32).fill(1))
const hello: Hello = {
  revision: 1,
  requestsInFlightMax: 2,
  watchesMax: 3000,
  agent: 'test',
  features: [],
}
const helloFrame = encodeFrame(frameTypes.hello, 0, encodeHello(hello))
const never = new AbortController().signal

let clock: FakeClock
let transport: FakeTransport
let channel: SwarmChannel
let port: ServingPort
let served: FrameHeader[]
let greetings: number
let bans: number

beforeEach(() => {
  clock = new FakeClock()
  transport = new FakeTransport()
  served = []
  greetings = 0
  bans = 0
  const serve = (given: ServingPort): Serving => {
    port = given
    return {
      bytesPending: 0,
      frame: header => served.push(header),
      wants: () => false,
      banned: () => void (bans += 1),
    }
  }
  const onHello = (): void => {
    greetings += 1
  }
  channel = new SwarmChannel(
    transport,
    { clock, log: silentLog, serve },
    { peer: 'peer', hello, onHello },
  )
})

function goodbye(): { code: number; text: string } | undefined {
  const [frame] = transport.ofType(frameTypes.goodbye)
  return frame === undefined ? undefined : decodeReason(frame.payload)
}

test('says hello at once, and is ready when the other one did', async () => {
  expect(transport.sent.map(({ type }) => type)).toEqual([frameTypes.hello])
  expect(decodeHello(transport.sent[0]?.payload ?? empty)).toEqual(hello)
  expect(channel.hello).toBeUndefined()
  transport.receive(helloFrame)
  expect(await channel.ready).toEqual(hello)
  expect(greetings).toBe(1)
})

test('asks for nothing before the hello came', async () => {
  const request = channel.request({
    type: frameTypes.getManifest,
    payload: root.bytes,
    answer: { shape: 'upTo', bytes: 10 },
    signal: never,
  })
  expect(transport.ofType(frameTypes.getManifest)).toHaveLength(0)
  transport.receive(helloFrame)
  expect(transport.ofType(frameTypes.getManifest)).toHaveLength(1)
  transport.receive(encodeFrame(frameTypes.data, 1, Buffer.from('manifest')))
  expect(Buffer.from(await request).toString()).toBe('manifest')
})

test('waits ten seconds for a hello and closes, without calling it a crime', async () => {
  await clock.advance(helloTimeoutMs - 1)
  expect(channel.closed.aborted).toBe(false)
  await clock.advance(1)
  expect(channel.closed.reason).toBeInstanceOf(UnavailableError)
  expect(goodbye()).toEqual({ code: goodbyeCodes.limit, text: 'no hello in time' })
  await expect(channel.ready).rejects.toThrow('no hello in time')
})

test('stays open without a word once it was greeted', async () => {
  transport.receive(helloFrame)
  await settle()
  await clock.advance(3600 * second)
  expect(channel.closed.aborted).toBe(false)
})

test('hello and a broken rule in one read close it, and nobody is left waiting', async () => {
  transport.receive(Buffer.concat([helloFrame, helloFrame]))
  expect(channel.closed.reason).toBeInstanceOf(ProtocolError)
  expect(goodbye()).toEqual({ code: goodbyeCodes.protocol, text: 'a second hello' })
  await settle()
})

test.for([
  ['a frame before hello', encodeFrame(frameTypes.cancel, 1, empty)],
  ['a data frame before hello', encodeFrame(frameTypes.data, 1, Buffer.from('x'))],
  ['an optional frame before hello', encodeHeader({ type: 0x80, flags: 0, id: 0, length: 0 })],
  ['an unknown type', encodeHeader({ type: 0x05, flags: 0, id: 0, length: 0 })],
] as const)('%s breaks the rules', ([, bytes]) => {
  transport.receive(bytes)
  expect(channel.closed.reason).toBeInstanceOf(ProtocolError)
})

test('a goodbye is heard instead of a hello, and is no crime', async () => {
  const payload = encodeReason({ code: goodbyeCodes.limit, text: 'too many peers' })
  transport.receive(encodeFrame(frameTypes.goodbye, 0, payload))
  expect(channel.closed.reason).toBeInstanceOf(UnavailableError)
  await expect(channel.ready).rejects.toThrow('too many peers')
})

test.for([
  ['banned', true, 1],
  ['stopping', true, 0],
  // Turned away at the door for a ban that was told when it came.
  ['banned', false, 0],
] as const)(
  'goodbye %s, greeted before: %s, is heard as a ban %i times',
  ([code, isGreeted, times]) => {
    if (isGreeted) transport.receive(helloFrame)
    const payload = encodeReason({ code: goodbyeCodes[code], text: '' })
    transport.receive(encodeFrame(frameTypes.goodbye, 0, payload))
    expect(bans).toBe(times)
  },
)

test('skips frames of later revisions, for a price', () => {
  transport.receive(helloFrame)
  transport.receive(encodeHeader({ type: 0x90, flags: 9, id: 5, length: 3 }), Buffer.from('abc'))
  expect(channel.closed.aborted).toBe(false)
})

test('passes requests of the other side on', () => {
  transport.receive(helloFrame, encodeFrame(frameTypes.cancel, 7, empty))
  expect(served).toEqual([{ type: frameTypes.cancel, id: 7, flags: 0, length: 0 }])
})

test('lets a peer cause 250 000 units of work at once, and 5 000 more a second', async () => {
  expect(() => port.spend(250_000)).not.toThrow()
  expect(() => port.spend(1)).toThrow(ProtocolError)
  await clock.advance(2 * second)
  expect(() => port.spend(9_999)).not.toThrow()
  await clock.advance(3600 * second)
  expect(() => port.spend(250_001)).toThrow(ProtocolError)
})

test('a limit of ours is told as one, and a bug without its text', () => {
  transport.receive(helloFrame)
  channel.failed(new LimitError('all peers together watch too many files'))
  expect(goodbye()?.code).toBe(goodbyeCodes.limit)
  const other = new FakeTransport()
  const serve = (): Serving => ({
    bytesPending: 0,
    frame: () => undefined,
    wants: () => false,
    banned: () => undefined,
  })
  const second = new SwarmChannel(other, { clock, log: silentLog, serve }, { peer: 'b', hello })
  second.failed(new TypeError('/home/somebody is undefined'))
  const [frame] = other.ofType(frameTypes.goodbye)
  expect(decodeReason(frame?.payload ?? empty).text).toBe('internal error')
})

test('watches in frames of 1024, no more than the peer takes, and lets go on abort', () => {
  transport.receive(helloFrame)
  const stop = new AbortController()
  const files = Array.from({ length: 4000 }, () => ({ root, chunks: 3 }))
  channel.watch(files, () => undefined, stop.signal)
  const watched = transport.ofType(frameTypes.watch).map(({ payload }) => decodeWatch(payload))
  expect(watched.map(({ length }) => length)).toEqual([watchesPerFrameMax, watchesPerFrameMax, 952])
  stop.abort()
  const unwatched = transport.ofType(frameTypes.unwatch).flatMap(({ payload }) => {
    return decodeUnwatch(payload)
  })
  expect(unwatched).toHaveLength(3000)
  // There is room again.
  channel.watch(files.slice(0, 10), () => undefined, never)
  expect(transport.ofType(frameTypes.watch)).toHaveLength(4)
})

test('tells a watcher what the peer says', () => {
  transport.receive(helloFrame)
  const updates: unknown[] = []
  channel.watch([{ root, chunks: 3 }], update => updates.push(update), never)
  const payload = encodeHave([{ ref: 0, kind: 'all' }])
  transport.receive(encodeFrame(frameTypes.have, 0, payload))
  expect(updates).toEqual([{ root, gained: [[0, 3]], lost: [] }])
  expect(channel.filesHeld).toBe(1)
})

test('what is asked for fails with the channel', async () => {
  transport.receive(helloFrame)
  const request = channel.request({
    type: frameTypes.getManifest,
    payload: root.bytes,
    answer: { shape: 'upTo', bytes: 10 },
    signal: never,
  })
  const gone = new UnavailableError('gone')
  transport.abort(gone)
  await expect(request).rejects.toBe(gone)
})

test('whoever is turned away is told why', () => {
  const other = new FakeTransport()
  turnAway(other, 'banned')
  const [frame] = other.ofType(frameTypes.goodbye)
  expect(decodeReason(frame?.payload ?? empty).code).toBe(goodbyeCodes.banned)
  expect(other.closed.aborted).toBe(true)
})
