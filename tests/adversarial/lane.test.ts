/** Lanes over real sockets: what the two ends promise, and what strangers may try on the port. */

import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { connect as connectTls, type ConnectionOptions } from 'node:tls'
import { createHash, randomBytes, X509Certificate } from 'node:crypto'
import type { Libp2p } from '@libp2p/interface'
import fc from 'fast-check'
import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { makeLaneIdentity } from '../../src/bulk/certificate.ts'
import {
  dialLane,
  laneProtocol,
  type LaneServer,
  openLaneServer,
  type LaneLimits,
} from '../../src/bulk/lane.ts'
import { type SharedPorts, shareListeners, type ShareOptions } from '../../src/bulk/port-share.ts'
import { systemClock } from '../../src/core/clock.ts'
import { UnavailableError } from '../../src/core/errors.ts'
import { silentLog } from '../../src/core/log.ts'
import { KiB, MiB } from '../../src/core/units.ts'
import { encodeHeader, type FrameHeader, type FrameReceiver } from '../../src/wire/frames.ts'
import type { FrameTransport } from '../../src/wire/transport.ts'
import { fuzzTimeoutMs, untilTime } from '../support/fuzz.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { forge, type Forgery, makePeer, type TestPeer } from '../support/lane-certificates.ts'
import { openLibp2p, until } from '../support/libp2p-pair.ts'
import { longestTurnMs } from '../support/cpu-time.ts'

const signal = new AbortController().signal
/** A type that every receiver here takes. */
const type = 0x90

let client: TestPeer
let stranger: TestPeer
beforeAll(async () => {
  client = await makePeer()
  stranger = await makePeer()
})

/** A libp2p node whose TCP port takes lanes too. */
interface LaneHost extends AsyncDisposable {
  readonly libp2p: Libp2p
  readonly id: string
  readonly port: number
  readonly server: LaneServer
  readonly shared: SharedPorts
  /** In the order they came. */
  readonly lanes: { readonly peer: string; readonly lane: End }[]
}

interface HostOptions extends ShareOptions {
  readonly limits?: Partial<LaneLimits>
  readonly clock?: FakeClock
}

async function openHost({ limits, clock, ...share }: HostOptions = {}): Promise<LaneHost> {
  const libp2p = await openLibp2p()
  const { id, identity } = await makePeerOf(libp2p)
  const lanes: LaneHost['lanes'] = []
  const server = openLaneServer(
    {
      identity,
      clock: clock ?? systemClock,
      log: silentLog,
      onLane: (peer, transport) => lanes.push({ peer, lane: new End(transport) }),
    },
    limits,
  )
  const shared = shareListeners(libp2p, socket => server.accept(socket), share)
  const port = Number(libp2p.getMultiaddrs()[0]?.getComponents()[1]?.value)
  return {
    libp2p,
    id,
    port,
    server,
    shared,
    lanes,
    async [Symbol.asyncDispose]() {
      shared[Symbol.dispose]()
      server[Symbol.dispose]()
      await libp2p.stop()
    },
  }
}

async function makePeerOf(libp2p: Libp2p): Promise<Pick<TestPeer, 'id' | 'identity'>> {
  const { components } = libp2p as unknown as { components: { privateKey: TestPeer['key'] } }
  return {
    id: libp2p.peerId.toString(),
    identity: await makeLaneIdentity(components.privateKey),
  }
}

/** One end of a lane: what came over it. */
class End implements FrameReceiver {
  readonly transport: FrameTransport
  readonly frames: (FrameHeader & { readonly payload: Uint8Array })[] = []
  failure: Error | undefined

  constructor(transport: FrameTransport) {
    this.transport = transport
    transport.start(this)
  }

  place(header: FrameHeader): Uint8Array {
    return new Uint8Array(header.length)
  }

  frame(header: FrameHeader, payload: Uint8Array = new Uint8Array(0)): void {
    this.frames.push({ ...header, payload })
  }

  failed(error: Error): void {
    this.failure = error
    this.transport.abort(error)
  }

  send(payload: Uint8Array, id = 1): boolean {
    return this.transport.send(
      encodeHeader({ type, flags: 0, id, length: payload.length }),
      payload,
    )
  }

  /** Why it closed. */
  async closed(): Promise<Error> {
    const { closed } = this.transport
    if (!closed.aborted) await once(closed, 'abort')
    return closed.reason as Error
  }
}

let host: LaneHost
beforeEach(async () => {
  host = await openHost()
})
afterEach(() => host[Symbol.asyncDispose]())

async function dial(to = host, peer = client): Promise<End> {
  const address = { host: '127.0.0.1', port: to.port }
  const { identity } = peer
  return new End(await dialLane(address, { identity, peer: to.id, signal }))
}

async function openLane(to = host): Promise<[End, End]> {
  const count = to.lanes.length
  const near = await dial(to)
  await until(() => to.lanes.length > count)
  const far = to.lanes[count]?.lane
  if (far === undefined) throw new Error('no lane came')
  return [near, far]
}

/** A node that was not there before reaches the host over libp2p. */
async function expectLibp2p(to = host): Promise<void> {
  const other = await openLibp2p([])
  try {
    const connection = await other.dial(to.libp2p.getMultiaddrs(), {
      signal: AbortSignal.timeout(10_000),
    })
    expect(connection.remotePeer.toString()).toBe(to.id)
  } finally {
    await other.stop()
  }
}

function laneOptions(to = host): ConnectionOptions {
  return { host: '127.0.0.1', port: to.port, ...honest, ...client.identity }
}

/** Resolves when the host closed it, with the bytes that it sent before. */
async function untilClosed(socket: Socket): Promise<Uint8Array> {
  const got: Uint8Array[] = []
  socket.on('data', bytes => got.push(bytes))
  if (!socket.closed) {
    await new Promise(resolve => {
      socket.once('close', resolve)
      socket.on('error', () => undefined)
    })
  }
  return Buffer.concat(got)
}

async function openSocket(to = host): Promise<Socket> {
  const socket = connect({ host: '127.0.0.1', port: to.port })
  await once(socket, 'connect')
  socket.on('error', () => undefined)
  return socket
}

test('lanes and libp2p share a port, and each end knows the other', async () => {
  await expectLibp2p()
  const [near, far] = await openLane()
  expect(host.lanes[0]?.peer).toBe(client.id)
  near.send(Buffer.from('ask'))
  far.send(Buffer.from('answer'))
  await until(() => near.frames.length === 1 && far.frames.length === 1)
  expect(Buffer.from(near.frames[0]?.payload ?? []).toString()).toBe('answer')
  expect(Buffer.from(far.frames[0]?.payload ?? []).toString()).toBe('ask')
  await expectLibp2p()
  expect(near.transport.bytesReceived).toBe(far.transport.bytesSent)
  expect(near.transport.bytesSent).toBe(far.transport.bytesReceived)
})

test('every byte arrives, in order, whatever the sizes of frames, both ways at once', async () => {
  const [near, far] = await openLane()
  const sent = [createHash('sha256'), createHash('sha256')] as const
  const send = async (end: End, hash: (typeof sent)[0]): Promise<void> => {
    for (let index = 0; index < 300; index += 1) {
      const payload = randomBytes(index % 5 === 0 ? 1 + ((index * 977) % (256 * KiB)) : index % 700)
      hash.update(payload)
      await end.transport.drained()
      end.send(payload)
    }
  }
  await Promise.all([send(near, sent[0]), send(far, sent[1])])
  await until(() => near.frames.length === 300 && far.frames.length === 300)
  const got = [far, near].map(({ frames }) => {
    const hash = createHash('sha256')
    for (const { payload } of frames) hash.update(payload)
    return hash.digest('hex')
  })
  expect(got).toEqual(sent.map(hash => hash.digest('hex')))
  expect([near.failure, far.failure]).toEqual([undefined, undefined])
})

test('asks for patience when the other end does not read, and goes on when it does', async () => {
  const socket = connectTls(laneOptions())
  await once(socket, 'secureConnect')
  await until(() => host.lanes.length === 1)
  const far = host.lanes[0]?.lane
  const isHeldBack = async (): Promise<boolean> => {
    const late = AbortSignal.timeout(300)
    await far?.transport.drained(late).catch(() => undefined)
    return late.aborted
  }
  // What the kernel takes of it is gone; after that the transport says stop.
  do {
    far?.send(Buffer.alloc(256 * KiB))
    expect(far?.transport.bytesSent).toBeLessThan(50 * MiB)
  } while (!(await isHeldBack()))
  socket.resume()
  await far?.transport.drained()
  socket.destroy()
})

test('drops an end that lets control frames pile up', async () => {
  const socket = connectTls(laneOptions())
  await once(socket, 'secureConnect')
  await until(() => host.lanes.length === 1)
  const far = host.lanes[0]?.lane
  while (far?.transport.closed.aborted === false) {
    far.send(Buffer.alloc(512 * KiB))
    await new Promise(resolve => setImmediate(resolve))
    expect(far.transport.bytesSent).toBeLessThan(100 * MiB)
  }
  expect(far?.transport.closed.reason).toMatchObject({ code: 'LIMIT' })
  socket.destroy()
})

test('closing lets the last frames out first', async () => {
  const [near, far] = await openLane()
  const last = randomBytes(3 * MiB)
  for (let at = 0; at < last.length; at += 256 * KiB) far.send(last.subarray(at, at + 256 * KiB))
  await far.transport.close(new UnavailableError('enough'))
  expect((await near.closed()).message).toBe('the peer closed the lane')
  expect(Buffer.concat(near.frames.map(({ payload }) => payload)).equals(last)).toBe(true)
  expect(far.send(Buffer.from('more'))).toBe(false)
  await expect(far.transport.drained()).rejects.toThrow('enough')
})

test('an end that is cut inside a frame says so, and breaks no rule', async () => {
  const [near, far] = await openLane()
  // All that TLS says by itself is read then: what is cut unread is a reset, not an end.
  far.send(Buffer.from('first'))
  await until(() => near.frames.length === 1)
  const before = far.transport.bytesReceived
  near.transport.send(encodeHeader({ type, flags: 0, id: 1, length: 10 }), Buffer.from('half'))
  await until(() => far.transport.bytesReceived > before)
  near.transport.abort(new UnavailableError('killed'))
  const reason = await far.closed()
  expect(reason).toBeInstanceOf(UnavailableError)
  expect(reason.message).toBe('the peer closed the lane inside a frame')
})

test('bytes that break the rules end the delivery', async () => {
  const [near, far] = await openLane()
  near.transport.send(encodeHeader({ type: 0x05, flags: 0, id: 0, length: 0 }))
  near.send(Buffer.from('after'))
  await until(() => far.failure !== undefined)
  expect(far.failure).toMatchObject({ code: 'PROTOCOL' })
  expect(far.frames).toEqual([])
})

test('dialling somebody else fails, and neither end takes it for a lane', async () => {
  const address = { host: '127.0.0.1', port: host.port }
  const { identity } = client
  const dialled = dialLane(address, { identity, peer: stranger.id, signal })
  await expect(dialled).rejects.toThrow(`another peer answers there: ${host.id}`)
  await expect(dialled).rejects.toThrow(UnavailableError)
  await until(() => host.server.connections === 0)
  await expectLibp2p()
})

test('dialling stops when told, and where nobody listens or nobody answers', async () => {
  const { identity } = client
  const stop = new AbortController()
  const why = new Error('not needed any more')
  let port: number
  {
    await using silent = await listenSilently()
    ;({ port } = silent)
    const options = { identity, peer: host.id, signal: stop.signal }
    const dialled = dialLane({ host: '127.0.0.1', port }, options)
    setTimeout(() => stop.abort(why), 50)
    await expect(dialled).rejects.toBe(why)
  }
  const options = { identity, peer: host.id, signal }
  await expect(dialLane({ host: '127.0.0.1', port }, options)).rejects.toThrow(UnavailableError)
})

/** A server that accepts and says nothing. */
async function listenSilently(): Promise<AsyncDisposable & { readonly port: number }> {
  const sockets: Socket[] = []
  const server = createServer(socket => sockets.push(socket))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}

const honest = {
  minVersion: 'TLSv1.3',
  rejectUnauthorized: false,
  ALPNProtocols: [laneProtocol],
} as const

const refusals: [string, () => Promise<ConnectionOptions>][] = [
  ['without a certificate', async () => ({ ...honest })],
  [
    'with a certificate that proves nothing',
    async () => ({ ...honest, ...(await forged({ extensions: () => [] })) }),
  ],
  [
    'with a certificate that another key signed',
    async () => ({ ...honest, ...(await forged({ prefix: 'x:' })) }),
  ],
  ["with another's proof", async () => ({ ...honest, ...(await stolen()) })],
  [
    'with an expired certificate',
    async () => ({ ...honest, ...(await forged({ notAfter: '210101000000Z' })) }),
  ],
  ['without ALPN', async () => ({ ...honest, ALPNProtocols: [], ...client.identity })],
  [
    'with another ALPN',
    async () => ({ ...honest, ALPNProtocols: ['h2', 'http/1.1'], ...client.identity }),
  ],
  [
    'with TLS 1.2 only',
    async () => ({ ...honest, minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2', ...client.identity }),
  ],
]

/** The stranger's word for its own key, in a certificate of somebody else's. */
function stolen(): ReturnType<typeof forge> {
  const { publicKey } = new X509Certificate(stranger.identity.cert)
  return forge({ host: stranger.key, vouched: publicKey })
}

function forged(how: Omit<Forgery, 'host'>): ReturnType<typeof forge> {
  return forge({ host: client.key, ...how })
}

test.for(refusals)('refuses TLS %s, and libp2p goes on', async ([, optionsOf]) => {
  const options = await optionsOf()
  const socket = connectTls({ host: '127.0.0.1', port: host.port, ...options })
  expect(await untilClosed(socket)).toHaveLength(0)
  await until(() => host.server.connections === 0)
  expect(host.lanes).toEqual([])
  await expectLibp2p()
})

test('a session is not resumed, which would stand in for a certificate', async () => {
  const options = laneOptions()
  const first = connectTls(options)
  const [session] = (await once(first, 'session')) as [Buffer]
  await until(() => host.lanes.length === 1)
  const second = connectTls({ ...options, session })
  await once(second, 'secureConnect')
  expect(second.isSessionReused()).toBe(true)
  await untilClosed(second)
  expect(host.lanes).toHaveLength(1)
  first.destroy()
})

const firstWords: [string, Uint8Array][] = [
  ['an HTTP request', Buffer.from('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')],
  ['garbage', randomBytes(4096).fill(0xff, 0, 1)],
  [
    'garbage that begins like TLS',
    Buffer.concat([Buffer.from([0x16, 3, 1, 2, 0, 1]), randomBytes(600)]),
  ],
  ['a TLS record that is never a ClientHello', Buffer.from('16030100050200000100', 'hex')],
  ['one byte of TLS', Buffer.from([0x16])],
  ['nothing', new Uint8Array(0)],
]

test.for(firstWords)('%s and a goodbye leave nothing behind', async ([, bytes]) => {
  const socket = await openSocket()
  if (bytes.length > 0) socket.write(bytes)
  await new Promise(resolve => setTimeout(resolve, 20))
  socket.end()
  await untilClosed(socket)
  await until(() => host.server.connections === 0 && host.shared.waiting === 0)
  expect(host.lanes).toEqual([])
  await expectLibp2p()
})

test('ends handshakes and silences that take too long', async () => {
  // Long enough for a busy machine to see them wait, and for libp2p to come in meanwhile.
  const options = { limits: { handshakeMs: 3000 }, firstBytesMs: 3000 }
  await using hasty = await openHost(options)
  const silent = await openSocket(hasty)
  const slow = await openSocket(hasty)
  slow.write(Buffer.from([0x16]))
  const drip = setInterval(() => slow.write(Buffer.from([3])), 50)
  await until(() => hasty.shared.waiting === 1 && hasty.server.connections === 1)
  await expectLibp2p(hasty)
  await Promise.all([untilClosed(silent), untilClosed(slow)])
  clearInterval(drip)
  await until(() => hasty.shared.waiting === 0 && hasty.server.connections === 0)
  expect(hasty.lanes).toEqual([])
  await expectLibp2p(hasty)
})

test('a half-open lane, and one on which nothing moves, is closed', async () => {
  const clock = new FakeClock()
  await using quiet = await openHost({ clock, limits: { idleMs: 1000 } })
  const [near, far] = await openLane(quiet)
  const [busy, other] = await openLane(quiet)
  for (let round = 0; round < 8; round += 1) {
    const count = other.frames.length
    busy.send(Buffer.from('still here'))
    await until(() => other.frames.length > count)
    await clock.advance(250)
  }
  expect((await far.closed()).message).toBe('the lane was idle')
  expect((await near.closed()).message).toBe('the peer closed the lane')
  expect(busy.transport.closed.aborted).toBe(false)
  expect(other.transport.closed.aborted).toBe(false)
})

async function openMany(count: number, first?: Uint8Array): Promise<Disposable> {
  const sockets = await Promise.all(
    Array.from({ length: count }, async () => {
      const socket = connect({ host: '127.0.0.1', port: host.port })
      socket.on('error', () => undefined)
      await Promise.race([once(socket, 'connect'), once(socket, 'close')])
      if (first !== undefined && !socket.destroyed) socket.write(first)
      return socket
    }),
  )
  return { [Symbol.dispose]: () => sockets.forEach(socket => socket.destroy()) }
}

test('1,000 connections from one address that say nothing: others get in, few are kept', async () => {
  using _many = await openMany(1000)
  await until(() => host.shared.waiting > 0)
  expect(host.shared.waiting).toBeLessThanOrEqual(64)
  await expectLibp2p()
  await openLane()
  expect(host.shared.waiting).toBeLessThanOrEqual(64)
})

test('1,000 handshakes from one address: the caps hold, and libp2p gets its turn', async () => {
  const blockedMs = await longestTurnMs(async () => {
    using _many = await openMany(1000, Buffer.from('160301', 'hex'))
    await until(() => host.server.connections > 0)
    expect(host.server.connections).toBeLessThanOrEqual(128)
    await expectLibp2p()
  })
  expect(blockedMs).toBeLessThan(1000)
  await until(() => host.server.connections === 0)
  // A second later, the address may come again.
  await new Promise(resolve => setTimeout(resolve, 1100))
  await openLane()
})

test('lanes of one address are bounded in number', async () => {
  await using small = await openHost({ limits: { perAddressMax: 2 } })
  const [first] = await openLane(small)
  await openLane(small)
  await expect(dial(small)).rejects.toThrow(UnavailableError)
  await first.transport.close(new UnavailableError('done'))
  await until(() => small.server.connections === 1)
  await openLane(small)
})

test(
  'the host goes on, whatever bytes come to the port or over a lane',
  { timeout: fuzzTimeoutMs() },
  async () => {
    await using open = await openHost({ limits: { perAddressPerSecondMax: 1e6 } })
    const bytes = fc.oneof(
      fc.uint8Array({ minLength: 1, maxLength: 2000 }),
      // Headers that may be right, and payloads of other sizes.
      fc
        .record({
          type: fc.nat(255),
          length: fc.nat(2000),
          id: fc.nat(3),
          payload: fc.uint8Array(),
        })
        .map(({ payload, ...header }) =>
          Buffer.concat([encodeHeader({ ...header, flags: 0 }), payload]),
        ),
    )
    const parts = fc.array(bytes, { minLength: 1, maxLength: 5 })
    const run = async (onLane: boolean, sent: Uint8Array[]): Promise<void> => {
      const socket = onLane ? connectTls(laneOptions(open)) : connect(open.port, '127.0.0.1')
      socket.on('error', () => undefined)
      socket.write(Buffer.concat(sent))
      socket.end()
      await untilClosed(socket)
    }
    // However few a busy machine comes to.
    await run(true, [Buffer.of(0)])
    await fc.assert(fc.asyncProperty(fc.boolean(), parts, run), {
      plugins: [untilTime()],
      numRuns: 1e6,
    })
    // The last connection may be gone before it was accepted.
    await until(() => open.server.connections === 0 && open.shared.waiting === 0)
    expect(open.lanes.length).toBeGreaterThan(0)
    await expectLibp2p(open)
  },
)

test('stopping ends lanes, handshakes and silent connections, and libp2p stops at once', async () => {
  const other = await openHost()
  const [near] = await openLane(other)
  const silent = await openSocket(other)
  const slow = await openSocket(other)
  slow.write(Buffer.from([0x16]))
  await until(() => other.shared.waiting === 1 && other.server.connections === 2)
  const beganMs = performance.now()
  await other[Symbol.asyncDispose]()
  // And not after the ten seconds that handshakes and silences have.
  expect(performance.now() - beganMs).toBeLessThan(5000)
  await Promise.all([near.closed(), untilClosed(silent), untilClosed(slow)])
})
