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
import { webSockets } from '@libp2p/websockets'
import { createLibp2p } from 'libp2p'
import { expect, test } from 'vitest'
import { shareListeners } from '../../src/bulk/port-share.ts'
import { until } from '../support/libp2p-pair.ts'

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
  const dialEach = async (): Promise<void> => {
    await using other = await openNode([])
    for (const address of libp2p.getMultiaddrs()) {
      const connection = await other.dial(address, { force: true })
      expect(connection.remotePeer.equals(libp2p.peerId)).toBe(true)
      await connection.close()
    }
  }
  await dialEach()
  {
    using _shared = shareListeners(libp2p, socket => socket.destroy())
    await dialEach()
  }
  await dialEach()
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
