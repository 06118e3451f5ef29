/**
 * What src/bulk/port-share.ts takes for granted of libp2p and its TCP transport. When an upgrade makes
 * one of these fail, that file is what has to follow.
 */

import { connect, Server, type Socket } from 'node:net'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { identify } from '@libp2p/identify'
import type { Libp2p } from '@libp2p/interface'
import { tcp } from '@libp2p/tcp'
import { lpStream } from '@libp2p/utils'
import { webSockets } from '@libp2p/websockets'
import { createLibp2p } from 'libp2p'
import { expect, test } from 'vitest'
import { shareListeners } from '../../src/bulk/port-share.ts'
import { InvalidInputError } from '../../src/core/errors.ts'
import { MiB } from '../../src/core/units.ts'
import { guardPorts } from '../../src/net/swarm/lane-port.ts'
import { boundLengthPrefixes } from '../../src/net/host/length-prefixes.ts'
import { silentLog } from '../../src/core/log.ts'
import { until } from '../support/libp2p-pair.ts'
import { longestTurnMs } from '../support/cpu-time.ts'

interface Inside {
  components: { transportManager: { getListeners(): { server?: Server }[] } }
}

/** All transports of our host. */
async function openNode(listen: string[]): Promise<Libp2p & AsyncDisposable> {
  const libp2p = await createLibp2p({
    addresses: { listen },
    transports: [tcp(), webSockets(), circuitRelayTransport()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    services: { identify: identify() },
    // Everybody comes from one address here.
    connectionManager: { inboundConnectionThreshold: 1000, maxIncomingPendingConnections: 1000 },
    connectionMonitor: { enabled: false },
  })
  return Object.assign(libp2p, { [Symbol.asyncDispose]: async () => libp2p.stop() })
}

const everywhere = [
  '/ip4/127.0.0.1/tcp/0',
  '/ip4/0.0.0.0/tcp/0',
  '/ip6/::1/tcp/0',
  '/ip4/127.0.0.1/tcp/0/ws',
]

function listenersOf(libp2p: Libp2p): { server?: Server }[] {
  return (libp2p as unknown as Inside).components.transportManager.getListeners()
}

function portOf(libp2p: Libp2p, isWebSocket: boolean): number {
  const address = libp2p.getMultiaddrs().find(each => {
    const names = each.getComponents().map(({ name }) => name)
    return names[0] === 'ip4' && names.includes('ws') === isWebSocket
  })
  return Number(address?.getComponents()[1]?.value)
}

test("each TCP listener has a net.Server with one listener of libp2p's, and WebSockets are left alone", async () => {
  await using libp2p = await openNode(everywhere)
  const servers = listenersOf(libp2p).map(({ server }) => server)
  expect(servers).toHaveLength(4)
  expect(servers.every(server => server instanceof Server)).toBe(true)
  expect(servers.map(server => server?.listenerCount('connection'))).toEqual([1, 1, 1, 1])
  const before = servers.map(server => server?.listeners('connection')[0])
  {
    using shared = shareListeners(libp2p, socket => socket.destroy())
    expect(shared.listeners).toBe(3)
    const during = servers.map(server => server?.listeners('connection')[0])
    expect(during.filter((listener, index) => listener === before[index])).toHaveLength(1)
    expect(servers.map(server => server?.listenerCount('connection'))).toEqual([1, 1, 1, 1])
  }
  expect(servers.map(server => server?.listeners('connection')[0])).toEqual(before)
})

test('libp2p is reached over TCP and WebSockets, before, while and after it shares', async () => {
  await using libp2p = await openNode(everywhere)
  await expectLibp2p(libp2p)
  {
    using shared = shareListeners(libp2p, socket => socket.destroy())
    expect(shared.listeners).toBe(3)
    await expectLibp2p(libp2p)
  }
  await expectLibp2p(libp2p)
})

test('TLS is handed over with its first byte still to be read; a WebSocket port keeps its own', async () => {
  await using libp2p = await openNode(everywhere)
  const taken: Socket[] = []
  using stack = new DisposableStack()
  using _shared = shareListeners(libp2p, socket => taken.push(socket))
  const hello = Buffer.from('16030100050200000100', 'hex')
  const sockets = [false, true].map(isWebSocket => {
    const socket = connect({ host: '127.0.0.1', port: portOf(libp2p, isWebSocket) })
    stack.defer(() => socket.destroy())
    return socket.on('error', () => undefined)
  })
  for (const socket of sockets) socket.write(hello)
  await until(() => taken.length === 1)
  stack.defer(() => taken[0]?.destroy())
  const got: Buffer[] = []
  taken[0]?.on('data', bytes => got.push(bytes))
  await until(() => Buffer.concat(got).equals(hello))
  expect(taken).toHaveLength(1)
})

const header = Buffer.from('\x13/multistream/1.0.0\n')

function open(libp2p: Libp2p, isWebSocket = false): Socket & Disposable {
  const socket = connect({ host: '127.0.0.1', port: portOf(libp2p, isWebSocket) })
  socket.setNoDelay().on('error', () => undefined)
  return Object.assign(socket, { [Symbol.dispose]: () => void socket.destroy() })
}

/** With an error or without. */
async function untilClosed(socket: Socket): Promise<void> {
  await new Promise<void>(resolve => socket.once('close', () => resolve()))
}

async function expectLibp2p(libp2p: Libp2p): Promise<void> {
  await using other = await openNode([])
  for (const address of libp2p.getMultiaddrs()) {
    const connection = await other.dial(address, { force: true })
    expect(connection.remotePeer.equals(libp2p.peerId)).toBe(true)
    await connection.close()
  }
}

/** The longest turn of the event loop until all of `flood` is sent or refused, and libp2p was dialled. */
function longestBlockMs(libp2p: Libp2p, flood: Uint8Array, count: number): Promise<number> {
  return longestTurnMs(async () => {
    using stack = new DisposableStack()
    const closed = Array.from({ length: count }, async () => {
      const socket = stack.use(open(libp2p))
      socket.resume().write(flood)
      await untilClosed(socket)
    })
    await expectLibp2p(libp2p)
    await Promise.all(closed)
  })
}

test('the libp2p header may come in any number of packets, and what follows it is not lost', async () => {
  await using libp2p = await openNode(everywhere)
  using shared = shareListeners(libp2p, socket => socket.destroy())
  using socket = open(libp2p)
  const got: Buffer[] = []
  socket.on('data', bytes => got.push(bytes))
  const noise = Buffer.from('\x07/noise\n')
  const sent = Buffer.concat([header, noise])
  for (const byte of sent.subarray(0, header.length - 1)) {
    socket.write(Buffer.of(byte))
    await new Promise(resolve => setTimeout(resolve, 2))
  }
  await until(() => shared.waiting === 1)
  expect(got).toEqual([])
  socket.write(sent.subarray(header.length - 1))
  await until(() => Buffer.concat(got).equals(sent))
  expect(shared.waiting).toBe(0)
})

test('a connection that is neither libp2p nor TLS is closed at the first byte that tells', async () => {
  await using libp2p = await openNode(everywhere)
  using shared = shareListeners(libp2p, socket => socket.destroy())
  const wrong = Buffer.from(header)
  wrong[wrong.length - 1] = 0
  for (const bytes of [wrong, Buffer.from('GET / HTTP/1.1\r\n\r\n'), Buffer.of(0xff)]) {
    using socket = open(libp2p)
    const got: Buffer[] = []
    socket.on('data', data => got.push(data)).write(bytes)
    await untilClosed(socket)
    expect(got).toEqual([])
  }
  expect(shared.waiting).toBe(0)
})

test('a header that comes too slowly is not waited for', async () => {
  await using libp2p = await openNode(everywhere)
  using _shared = shareListeners(libp2p, socket => socket.destroy(), { firstBytesMs: 200 })
  using socket = open(libp2p)
  let sent = 0
  const drip = setInterval(() => socket.write(header.subarray(sent, (sent += 1))), 100)
  await untilClosed(socket.resume())
  clearInterval(drip)
  expect(sent).toBeLessThan(header.length)
})

test('without lanes, the ports take libp2p and neither TLS nor anything else', async () => {
  await using libp2p = await openNode(everywhere)
  using _guard = guardPorts({ libp2p, log: silentLog })
  for (const first of [0x16, 0xff]) {
    using socket = open(libp2p)
    socket.resume().write(Buffer.of(first))
    await untilClosed(socket)
  }
  expect(await longestBlockMs(libp2p, Buffer.alloc(MiB, 0xff), 20)).toBeLessThan(300)
})

test('20 connections of 1 MiB of 0xff each do not hold the process, and libp2p is reached', async () => {
  await using libp2p = await openNode(everywhere)
  using _shared = shareListeners(libp2p, socket => socket.destroy())
  expect(await longestBlockMs(libp2p, Buffer.alloc(MiB, 0xff), 20)).toBeLessThan(300)
})

test('nor do they when the flood comes after the header, as an endless length', async () => {
  boundLengthPrefixes()
  await using libp2p = await openNode(everywhere)
  using _shared = shareListeners(libp2p, socket => socket.destroy())
  const flood = Buffer.concat([header, Buffer.alloc(MiB, 0xff)])
  expect(await longestBlockMs(libp2p, flood, 20)).toBeLessThan(300)
})

test('an endless length on a stream of an encrypted connection is an error at its ninth byte', async () => {
  boundLengthPrefixes()
  await using libp2p = await openNode(everywhere)
  await using other = await openNode([])
  const failures: unknown[] = []
  const protocol = '/test/1.0.0'
  await libp2p.handle(protocol, async stream => {
    await lpStream(stream)
      .read()
      .catch((error: unknown) => failures.push(error))
  })
  for (const address of libp2p.getMultiaddrs()) {
    const stream = await other.dialProtocol(address, protocol, { force: true })
    stream.send(Buffer.alloc(9, 0xff))
  }
  await until(() => failures.length === libp2p.getMultiaddrs().length)
  expect(failures.every(failure => failure instanceof InvalidInputError)).toBe(true)
})

test('a node that does not listen, or only to WebSockets, shares nothing', async () => {
  for (const listen of [[], ['/ip4/127.0.0.1/tcp/0/ws']]) {
    await using libp2p = await openNode(listen)
    using shared = shareListeners(libp2p, socket => socket.destroy())
    expect(shared.listeners).toBe(0)
  }
})

test('a libp2p that is not as expected is left as it is', () => {
  const tcpAddress = { getComponents: () => [{ name: 'ip4', value: '' }, { name: 'tcp' }] }
  const withServer = (server: unknown): Libp2p => {
    const listeners = [{ getAddrs: () => [tcpAddress], server }]
    return { components: { transportManager: { getListeners: () => listeners } } } as never
  }
  const share = (libp2p: Libp2p) => (): unknown => shareListeners(libp2p, () => undefined)
  expect(share({} as Libp2p)).toThrow(TypeError)
  expect(share(withServer(undefined))).toThrow(TypeError)
  expect(share(withServer(new Server()))).toThrow(TypeError)
  const crowded = new Server().on('connection', () => undefined).on('connection', () => undefined)
  expect(share(withServer(crowded))).toThrow(TypeError)
  expect(crowded.listenerCount('connection')).toBe(2)
})
