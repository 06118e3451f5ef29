import { beforeEach, expect, test } from 'vitest'
import type { LaneAddress } from '../../../../src/bulk/lane.ts'
import { ProtocolError, UnavailableError } from '../../../../src/core/errors.ts'
import { silentLog } from '../../../../src/core/log.ts'
import {
  dialBackIntervalMs,
  dialBacksMax,
  lanesPerPeerMax,
  type LaneShare,
  PeerLanes,
} from '../../../../src/net/swarm/peer-lanes.ts'
import { SwarmChannel } from '../../../../src/net/swarm/swarm-channel.ts'
import { encodeFrame, frameTypes } from '../../../../src/wire/frames.ts'
import { encodeHello, goodbyeCodes, laneFeatures, revision } from '../../../../src/wire/messages.ts'
import { FakeClock } from '../../../support/fake-clock.ts'
import { FakeTransport } from '../../../support/fake-transport.ts'

const remote = { host: '192.0.2.1', port: 50_001 }
const both = [laneFeatures.lane, laneFeatures.laneDial]
const gone = new UnavailableError('gone')

function helloWith(features: readonly string[]): Uint8Array {
  const hello = { revision, requestsInFlightMax: 8, watchesMax: 8, agent: '', features }
  return encodeFrame(frameTypes.hello, 0, encodeHello(hello))
}

let clock: FakeClock
let share: LaneShare
let streamTransport: FakeTransport
let stream: SwarmChannel | undefined
let bans: Error[]
let lookups: number
let addresses: () => Promise<LaneAddress[]>
let lanes: PeerLanes

function channelOver(transport: FakeTransport): SwarmChannel {
  const serve = (): SwarmChannel['serving'] => ({
    bytesPending: 0,
    frame: () => undefined,
    wants: () => false,
    banned: () => undefined,
  })
  const hello = { revision, requestsInFlightMax: 8, watchesMax: 8, agent: '', features: [] }
  return new SwarmChannel(transport, { clock, log: silentLog, serve }, { peer: 'them', hello })
}

function openStream(features: readonly string[]): void {
  streamTransport = new FakeTransport()
  stream = channelOver(streamTransport)
  streamTransport.receive(helloWith(features))
}

function makeLanes(peer = 'them'): PeerLanes {
  return new PeerLanes(share, {
    peer,
    addresses: () => {
      lookups += 1
      return addresses()
    },
    open: transport => channelOver(transport as FakeTransport),
    stream: () => stream,
    ban: reason => bans.push(reason),
  })
}

beforeEach(() => {
  clock = new FakeClock()
  const port = { identity: { key: '', cert: '' }, isOpen: true }
  share = { clock, log: silentLog, port, dialBacks: 0, stop: new AbortController().signal }
  bans = []
  lookups = 0
  addresses = () => Promise.resolve([])
  lanes = makeLanes()
  openStream(both)
})

const asked = (): number => streamTransport.ofType(frameTypes.dialLane).length
const settle = (): Promise<void> => new Promise(resolve => setImmediate(resolve))

function accept(): FakeTransport {
  const transport = new FakeTransport()
  lanes.take(transport, remote)
  return transport
}

test('shows the stream and why, a lane while there is one, and why it is gone', () => {
  expect(lanes.path).toEqual({ path: 'stream', pathReason: 'nothing was asked for yet' })
  const transport = accept()
  expect(lanes.path).toEqual({ path: 'lane' })
  transport.abort(gone)
  expect(lanes.path).toEqual({ path: 'stream', pathReason: 'the lane is closed: gone' })
})

test('without lanes at either end none is wanted', () => {
  openStream([])
  expect(lanes.isWanted).toBe(false)
  expect(lanes.path).toMatchObject({ pathReason: 'the peer has no lanes' })
  openStream(both)
  lanes = new PeerLanes({ ...share, port: undefined }, {} as never)
  expect(lanes.path).toMatchObject({ pathReason: 'lanes are off here' })
})

test('a peer that takes no lanes has no address for them', async () => {
  addresses = () => Promise.resolve([remote])
  openStream([laneFeatures.laneDial])
  expect(lanes.isWanted).toBe(true)
  expect(await lanes.addresses()).toEqual([])
  openStream(both)
  expect(await lanes.addresses()).toEqual([remote])
})

test('asks a peer to dial, not again for half a minute, and only one that does', async () => {
  expect(lanes.askBack('no address')).toBe(true)
  expect(lanes.askBack('no address')).toBe(true)
  expect(asked()).toBe(1)
  expect(lanes.path).toMatchObject({ pathReason: 'no address; the peer was asked to dial' })
  await clock.advance(dialBackIntervalMs)
  lanes.askBack('no address')
  expect(asked()).toBe(2)
  openStream([laneFeatures.lane])
  expect(lanes.askBack('no address')).toBe(false)
  expect(asked()).toBe(0)
  expect(lanes.path).toMatchObject({ pathReason: 'no address' })
})

test('asks nobody to dial a node that takes no lanes', () => {
  share = { ...share, port: { identity: { key: '', cert: '' }, isOpen: false } }
  lanes = makeLanes()
  expect(lanes.askBack('no address')).toBe(false)
  expect(asked()).toBe(0)
})

test('only a lane that was dialled for us is one to ask on', () => {
  const plain = accept()
  plain.receive(helloWith([]))
  expect(lanes.back).toBeUndefined()
  const back = accept()
  expect(lanes.back).toBeUndefined()
  back.receive(helloWith([laneFeatures.laneBack]))
  expect(lanes.back?.transport).toBe(back)
  back.abort(gone)
  expect(lanes.back).toBeUndefined()
})

test('takes eight lanes and turns the ninth away', () => {
  const taken = Array.from({ length: lanesPerPeerMax }, accept)
  const more = accept()
  expect(more.ofType(frameTypes.goodbye)).toHaveLength(1)
  expect(more.closed.aborted).toBe(true)
  taken[0]?.abort(gone)
  expect(accept().closed.aborted).toBe(false)
})

test('turns a lane away when the stream is gone', () => {
  stream = undefined
  expect(accept().closed.aborted).toBe(true)
  expect(lanes.path.path).toBe('stream')
})

test('counts the bytes of all lanes, also of those that are gone', () => {
  const transport = accept()
  transport.bytesReceived = 500
  const closing = new AbortController()
  const counted = { closed: closing.signal, bytesReceived: 0 }
  lanes.add(counted)
  counted.bytesReceived = 7000
  const { bytesSent } = transport
  expect([lanes.bytesReceived, lanes.bytesSent]).toEqual([7500, bytesSent])
  closing.abort(gone)
  transport.abort(gone)
  expect([lanes.bytesReceived, lanes.bytesSent]).toEqual([7500, bytesSent])
  expect(lanes.path.path).toBe('stream')
  lanes.add(counted)
  expect(lanes.path.path).toBe('stream')
})

test('a rule broken on a lane bans the peer, a lane that ends does not', () => {
  accept().abort(gone)
  expect(bans).toEqual([])
  accept().receive(Buffer.from('ffffffffff0000000000000000', 'hex'))
  expect(bans).toHaveLength(1)
  expect(bans[0]).toBeInstanceOf(ProtocolError)
})

test('says goodbye on every lane', async () => {
  const transports = [accept(), accept()]
  await lanes.close(goodbyeCodes.stopping, gone)
  for (const transport of transports) {
    expect(transport.ofType(frameTypes.goodbye)).toHaveLength(1)
    expect(transport.closed.aborted).toBe(true)
  }
})

test('dials back once at a time and in half a minute', async () => {
  lanes.dialBack()
  lanes.dialBack()
  await settle()
  lanes.dialBack()
  await settle()
  expect(lookups).toBe(1)
  await clock.advance(dialBackIntervalMs)
  lanes.dialBack()
  await settle()
  expect(lookups).toBe(2)
  expect(share.dialBacks).toBe(0)
})

test('dials back for so many peers at a time', async () => {
  const { promise, resolve } = Promise.withResolvers<LaneAddress[]>()
  addresses = () => promise
  const peers = Array.from({ length: dialBacksMax + 2 }, (_, index) => makeLanes(`peer ${index}`))
  for (const peer of peers) peer.dialBack()
  expect(lookups).toBe(dialBacksMax)
  expect(share.dialBacks).toBe(dialBacksMax)
  resolve([])
  await settle()
  expect(share.dialBacks).toBe(0)
  peers.at(-1)?.dialBack()
  await settle()
  expect(lookups).toBe(dialBacksMax + 1)
})

test('does not dial back when lanes are off, or the node stops', async () => {
  const stop = new AbortController()
  share = { ...share, stop: stop.signal }
  stop.abort(gone)
  makeLanes().dialBack()
  share = { ...share, stop: new AbortController().signal, port: undefined }
  makeLanes().dialBack()
  await settle()
  expect(lookups).toBe(0)
})
