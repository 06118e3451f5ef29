/** Lanes between real swarm nodes: who may open one, what goes over it, and what ends it. */

import { once } from 'node:events'
import { open, readFile } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import type { PeerId } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import { beforeAll, beforeEach, expect, test } from 'vitest'
import { type LaneIdentity, makeLaneIdentity } from '../../src/bulk/certificate.ts'
import { dialLane } from '../../src/bulk/lane.ts'
import { MiB } from '../../src/core/units.ts'
import { verifyDigest } from '../../src/dag/verify.ts'
import { lanesPerPeerMax } from '../../src/net/swarm/peer-lanes.ts'
import { swarmProtocol } from '../../src/net/swarm/open-stream.ts'
import type { BulkSource, Source } from '../../src/transfer/source.ts'
import { encodeFrame, encodeHeader, type FrameHeader, frameTypes } from '../../src/wire/frames.ts'
import { decodeReason, goodbyeCodes, laneFeatures } from '../../src/wire/messages.ts'
import type { FrameTransport } from '../../src/wire/transport.ts'
import {
  helloFrame,
  type HostilePeer,
  openHostilePeer,
  type RawChannel,
} from '../support/hostile-peer.ts'
import { keyOf, openSwarmNode, type SwarmNode, until } from '../support/libp2p-pair.ts'
import { MemoryReader, type SampleFile, sampleFile } from '../support/memory-reader.ts'
import { openScratchFolder } from '../support/scratch-folder.ts'

const options = { signal: new AbortController().signal }
const nothing = new Uint8Array(0)
const allFeatures = [laneFeatures.lane, laneFeatures.laneDial]

let file: SampleFile
beforeAll(() => {
  file = sampleFile(8 * MiB + 5)
})
let reader: MemoryReader
beforeEach(() => {
  reader = new MemoryReader().addFile(file)
})

async function fetchChunk(source: Source, index: number): Promise<void> {
  const { digest, ...chunk } = file.table.ref(index)
  verifyDigest(digest, await source.fetchChunk({ root: file.root, index, ...chunk }, options))
}

/** One chunk comes over the stream while a lane is opened; the next one waits for it. */
async function lanesOf(source: Source): Promise<BulkSource> {
  const [stream, lanes] = await Promise.all([
    source.bulk?.(MiB, options),
    source.bulk?.(MiB, options),
  ])
  expect(stream).toBeUndefined()
  await fetchChunk(source, 0)
  if (lanes === undefined) throw new Error('no lane')
  return lanes
}

function portOf({ libp2p }: Pick<SwarmNode, 'libp2p'>): number {
  return Number(libp2p.getMultiaddrs()[0]?.getComponents()[1]?.value)
}

/** Identify may come after the hello. */
async function untilIdentified({ libp2p }: SwarmNode, peerId: PeerId): Promise<void> {
  await expect
    .poll(async () => {
      const peer = await libp2p.peerStore.get(peerId).catch(() => undefined)
      return peer?.metadata.has('AgentVersion')
    })
    .toBe(true)
}

/** Bytes that come over the stream from now on. */
function countStream({ libp2p }: SwarmNode): () => number {
  let bytes = 0
  const streams = libp2p.getConnections().flatMap(connection => connection.streams)
  const [stream] = streams.filter(({ protocol }) => protocol === swarmProtocol)
  expect(stream).toBeDefined()
  stream?.addEventListener('message', ({ data }) => (bytes += data.byteLength))
  return () => bytes
}

test('a download takes to lanes, and both sides say so', async () => {
  await using seeder = await openSwarmNode({ reader, hasLanes: true })
  await using leecher = await openSwarmNode({ hasLanes: true })
  const source = await leecher.swarm.connect(seeder.hint(), options)
  expect(leecher.swarm.peers()[0]?.path).toEqual({
    path: 'stream',
    pathReason: 'nothing was asked for yet',
  })
  const lanes = await lanesOf(source)
  expect(leecher.swarm.peers()[0]?.path).toEqual({ path: 'lane' })
  expect(seeder.swarm.peers()[0]?.path).toEqual({ path: 'lane' })

  await using folder = await openScratchFolder()
  const place = join(folder.path, 'file')
  {
    await using target = await open(place, 'w+')
    for (let index = 0; index < file.table.count; index += 1) {
      const { digest, length } = file.table.ref(index)
      const offset = file.table.offset(index)
      await lanes.fetchChunkTo(
        { root: file.root, index, offset, length, digest },
        { fd: target.fd, offset, length },
        { ...options, onChecked: () => undefined },
      )
    }
  }
  expect((await readFile(place)).equals(file.bytes)).toBe(true)
  const [seen] = leecher.swarm.peers()
  expect(seen?.bytesReceived).toBeGreaterThan(file.bytes.length + MiB)
  expect(seeder.swarm.peers()[0]?.bytesSent).toBeGreaterThan(file.bytes.length + MiB)
  expect(seeder.swarm.sources()).toHaveLength(1)
})

test('where lanes are off at either end, the stream carries all, and peers says why', async () => {
  await using seeder = await openSwarmNode({ reader })
  await using leecher = await openSwarmNode({ hasLanes: true })
  const source = await leecher.swarm.connect(seeder.hint(), options)
  for (let index = 0; index < 4; index += 1) await fetchChunk(source, index)
  await until(() => seeder.swarm.peers().length === 1)
  const reasons = [leecher, seeder].map(({ swarm }) => swarm.peers()[0]?.path)
  expect(reasons).toEqual([
    { path: 'stream', pathReason: 'the peer has no lanes' },
    { path: 'stream', pathReason: 'lanes are off here' },
  ])
  expect(await source.bulk?.(MiB, options)).toBeUndefined()
})

test('a seeder that dialled us is dialled at the port that it signed', async () => {
  await using leecher = await openSwarmNode({ hasLanes: true })
  await using seeder = await openSwarmNode({ reader, hasLanes: true })
  await seeder.swarm.connect(leecher.hint(), options)
  await until(() => leecher.swarm.sources().length === 1)
  await untilIdentified(leecher, seeder.libp2p.peerId)
  const [source] = leecher.swarm.sources()
  if (source === undefined) throw new Error('no source')
  await lanesOf(source)
  expect(leecher.swarm.peers()[0]?.path).toEqual({ path: 'lane' })
})

test('a seeder that nobody can dial is asked to, and its lane carries the chunks', async () => {
  await using leecher = await openSwarmNode({ hasLanes: true })
  await using seeder = await openSwarmNode({ reader, hasLanes: true, listen: [] })
  await seeder.swarm.connect(leecher.hint(), options)
  await until(() => leecher.swarm.sources().length === 1)
  const [source] = leecher.swarm.sources()
  if (source === undefined) throw new Error('no source')
  expect(await source.bulk?.(MiB, options)).toBeUndefined()
  await until(() => leecher.swarm.peers()[0]?.path.path === 'lane')
  await until(() => seeder.swarm.peers()[0]?.path.path === 'lane')
  const streamed = countStream(leecher)
  // The hello on the lane may still be on its way: once it is there, the lane has what is fetched.
  await expect
    .poll(async () => {
      const bytes = streamed()
      await fetchChunk(source, 1)
      return streamed() - bytes
    })
    .toBeLessThan(1000)
  const streamedBefore = streamed()
  const [before] = leecher.swarm.peers()
  for (let index = 0; index < 4; index += 1) await fetchChunk(source, index)
  const [after] = leecher.swarm.peers()
  expect((after?.bytesReceived ?? 0) - (before?.bytesReceived ?? 0)).toBeGreaterThan(4 * MiB)
  expect(streamed() - streamedBefore).toBeLessThan(1000)
  await seeder.swarm[Symbol.asyncDispose]()
  await until(() => leecher.swarm.peers().length === 0)
})

/** A peer with a stream to a node, which dials lanes to it by hand. */
interface Stranger extends AsyncDisposable {
  readonly peer: HostilePeer
  readonly stream: RawChannel
  dial(): Promise<RawLane>
}

class RawLane {
  readonly transport: FrameTransport
  readonly frames: { type: number; payload: Uint8Array }[] = []

  constructor(transport: FrameTransport) {
    this.transport = transport
    transport.start({
      place: (header: FrameHeader) => new Uint8Array(header.length),
      frame: ({ type }: FrameHeader, payload = nothing) => this.frames.push({ type, payload }),
      failed: error => transport.abort(error),
    })
  }

  hello(features: readonly string[] = []): void {
    this.transport.send(helloFrame({ features }))
  }

  /** The code of the goodbye, once the lane is closed. */
  async goodbye(): Promise<number | undefined> {
    const { closed } = this.transport
    if (!closed.aborted) await once(closed, 'abort')
    const frame = this.frames.find(({ type }) => type === frameTypes.goodbye)
    return frame && decodeReason(frame.payload).code
  }
}

async function openStranger(
  victim: SwarmNode,
  features: readonly string[] = allFeatures,
): Promise<Stranger> {
  await using stack = new AsyncDisposableStack()
  const peer = stack.use(await openHostilePeer())
  const identity: LaneIdentity = await makeLaneIdentity(keyOf(peer.libp2p))
  const stream = await peer.dial(victim.hint())
  stream.hello({ features: [...features] })
  await until(() => victim.swarm.peers().some(({ peerId }) => peerId === peer.id))
  const address = { host: '127.0.0.1', port: portOf(victim) }
  const owned = stack.move()
  return {
    peer,
    stream,
    dial: async () =>
      new RawLane(await dialLane(address, { identity, peer: victim.id, ...options })),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

test('a lane answers like a stream; one of a peer without a stream is turned away', async () => {
  await using victim = await openSwarmNode({ reader, hasLanes: true })
  await using stranger = await openStranger(victim)
  const lane = await stranger.dial()
  lane.hello()
  await until(() => lane.frames.length > 0)
  expect(lane.frames[0]?.type).toBe(frameTypes.hello)
  const ask = Buffer.concat([file.root.bytes, Buffer.alloc(4)])
  lane.transport.send(encodeFrame(frameTypes.getChunk, 1, ask))
  const got = (): RawLane['frames'] => lane.frames.filter(({ type }) => type === frameTypes.data)
  await until(() => Buffer.concat(got().map(({ payload }) => payload)).length === MiB)

  await stranger.stream.stream.close()
  expect(await lane.goodbye()).toBe(goodbyeCodes.stopping)
  await until(() => victim.swarm.peers().length === 0)
  const late = await stranger.dial()
  expect(await late.goodbye()).toBe(goodbyeCodes.limit)
})

test('a peer has at most so many lanes', async () => {
  await using victim = await openSwarmNode({ reader, hasLanes: true })
  await using stranger = await openStranger(victim)
  const lanes = await Promise.all(Array.from({ length: lanesPerPeerMax }, () => stranger.dial()))
  for (const lane of lanes) lane.hello()
  await until(() => lanes.every(({ frames }) => frames.length > 0))
  const more = await stranger.dial()
  expect(await more.goodbye()).toBe(goodbyeCodes.limit)
  expect(lanes.every(({ transport }) => !transport.closed.aborted)).toBe(true)
})

test('a rule broken on a lane ends the stream, the other lanes, and the welcome', async () => {
  await using victim = await openSwarmNode({ reader, hasLanes: true })
  await using stranger = await openStranger(victim)
  const [bad, good] = [await stranger.dial(), await stranger.dial()]
  bad.hello()
  good.hello()
  bad.transport.send(encodeHeader({ type: 0x05, flags: 0, id: 0, length: 0 }))
  expect(await bad.goodbye()).toBe(goodbyeCodes.protocol)
  expect(await good.goodbye()).toBe(goodbyeCodes.banned)
  await stranger.stream.closed
  await until(() => victim.swarm.peers().length === 0)
  const again = await stranger.dial()
  expect(await again.goodbye()).toBe(goodbyeCodes.banned)
})

test('a rule broken on the stream ends the lanes', async () => {
  await using victim = await openSwarmNode({ reader, hasLanes: true })
  await using stranger = await openStranger(victim)
  const lane = await stranger.dial()
  lane.hello()
  await until(() => lane.frames.length > 0)
  stranger.stream.send(encodeHeader({ type: 0x05, flags: 0, id: 0, length: 0 }))
  expect(await lane.goodbye()).toBe(goodbyeCodes.banned)
})

/** Listens on loopback and counts who comes. */
async function openTrap(
  host: string,
): Promise<AsyncDisposable & { port: number; count(): number }> {
  let count = 0
  const server = createServer(socket => {
    count += 1
    socket.on('error', () => undefined).destroy()
  })
  server.listen(0, host)
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    count: () => count,
    async [Symbol.asyncDispose]() {
      server.close()
      await once(server, 'close')
    },
  }
}

const askToDial = encodeFrame(frameTypes.dialLane, 0, nothing)

/** The victim knows these addresses of the stranger, as if it had signed them, or as hearsay. */
async function tell(
  victim: SwarmNode,
  stranger: Stranger,
  { addresses, isCertified = true }: { addresses: readonly string[]; isCertified?: boolean },
): Promise<void> {
  const { peerId } = stranger.peer.libp2p
  const { peerStore } = victim.libp2p
  // What identify found is replaced.
  await untilIdentified(victim, peerId)
  await peerStore.patch(peerId, {
    addresses: addresses.map(text => ({ multiaddr: multiaddr(text), isCertified })),
  })
}

test('dials back to the machine that asks, once, and nowhere else', async () => {
  await using victim = await openSwarmNode({ reader, hasLanes: true })
  await using here = await openTrap('127.0.0.1')
  await using elsewhere = await openTrap('127.0.0.2')
  await using stranger = await openStranger(victim)
  await tell(victim, stranger, {
    addresses: [
      `/ip4/127.0.0.2/tcp/${elsewhere.port}`,
      `/dns4/localhost/tcp/${elsewhere.port}`,
      `/ip4/127.0.0.2/tcp/${elsewhere.port}/ws`,
      `/ip4/127.0.0.1/tcp/${here.port}`,
    ],
  })
  for (let time = 0; time < 10; time += 1) stranger.stream.send(askToDial)
  await until(() => here.count() === 1)
  await new Promise(resolve => setTimeout(resolve, 200))
  expect([here.count(), elsewhere.count()]).toEqual([1, 0])
  expect(victim.swarm.peers()).toHaveLength(1)
})

test.for([
  ['that only others told of', { isCertified: false }, allFeatures],
  ['of a peer that takes no lanes', {}, [laneFeatures.laneDial]],
] as const)('does not dial an address %s', async ([, how, features]) => {
  await using victim = await openSwarmNode({ reader, hasLanes: true })
  await using here = await openTrap('127.0.0.1')
  await using stranger = await openStranger(victim, features)
  await tell(victim, stranger, { addresses: [`/ip4/127.0.0.1/tcp/${here.port}`], ...how })
  stranger.stream.send(askToDial)
  await new Promise(resolve => setTimeout(resolve, 200))
  expect(here.count()).toBe(0)
})

test('asking to be dialled without end is paid for', async () => {
  await using victim = await openSwarmNode({ reader, hasLanes: true })
  await using stranger = await openStranger(victim)
  for (let time = 0; time < 6000; time += 1) stranger.stream.send(askToDial)
  await stranger.stream.closed
  expect(victim.swarm.peers()).toEqual([])
})

test('stopping closes lanes with a word', async () => {
  const victim = await openSwarmNode({ reader, hasLanes: true })
  await using stranger = await openStranger(victim)
  const lane = await stranger.dial()
  lane.hello()
  await until(() => lane.frames.length > 0)
  await victim[Symbol.asyncDispose]()
  expect(await lane.goodbye()).toBe(goodbyeCodes.stopping)
})
