/** The host towards the machine it runs on and towards whoever connects. */

import { Socket as UdpSocket } from 'node:dgram'
import { createServer, Socket } from 'node:net'
import { expect, test, vi } from 'vitest'
import { systemClock } from '../../src/core/clock.ts'
import {
  CommonweightError,
  ConflictError,
  InvalidInputError,
  UnavailableError,
} from '../../src/core/errors.ts'
import { second } from '../../src/core/units.ts'
import { dhtProtocol } from '../../src/net/dht/dht.ts'
import { swarmProtocol } from '../../src/net/swarm/open-stream.ts'
import { aKey, openTestHost, openTestNet, until } from '../support/dht-cluster.ts'
import { openLibp2p } from '../support/libp2p-pair.ts'

const somebody = '12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8'

async function failureOf(work: Promise<unknown>): Promise<CommonweightError> {
  const error = await work.catch((reason: unknown) => reason)
  if (!(error instanceof CommonweightError)) throw new Error('no error of ours', { cause: error })
  return error
}

test('a port in use is a conflict, with what to do about it', async () => {
  const server = createServer()
  await new Promise<void>(resolve => {
    server.listen(0, '127.0.0.1', resolve)
  })
  const { port } = server.address() as { port: number }
  const error = await failureOf(openTestNet({ listen: [`/ip4/127.0.0.1/tcp/${port}`] }))
  server.close()
  expect(error).toBeInstanceOf(ConflictError)
  expect(error.message).toContain(String(port))
  expect(error.hint).toContain('--listen')
})

test.for([
  ['an address of another machine', { listen: ['/ip4/8.8.8.8/tcp/4011'] }],
  ['a transport we do not have', { listen: ['/ip4/127.0.0.1/udp/4011/quic-v1'] }],
  ['no multiaddr to listen on', { listen: ['127.0.0.1:4011'] }],
  ['no multiaddr to announce', { announce: ['node.example.org'] }],
  ['a bootstrap address without a peer', { bootstrap: ['/ip4/127.0.0.1/tcp/4011'] }],
] as const)('%s is refused before anything runs', async ([, options]) => {
  const error = await failureOf(openTestNet(options))
  expect(error).toBeInstanceOf(InvalidInputError)
  expect(error.hint).toBeDefined()
})

test('IPv6 that this machine lacks does not keep IPv4 from listening', async () => {
  await using node = await openTestNet({
    listen: ['/ip4/127.0.0.1/tcp/0', '/ip6/::1/tcp/0', '/ip4/127.0.0.1/tcp/0/ws'],
  })
  expect(node.net.addresses().some(address => address.includes('/ip4/127.0.0.1/tcp/'))).toBe(true)
  expect(node.net.addresses().some(address => address.includes('/ws/'))).toBe(true)
})

test('nodes reach each other by WebSocket', async () => {
  await using server = await openTestNet({ listen: ['/ip4/127.0.0.1/tcp/0/ws'] })
  await using client = await openTestNet()
  const { peerId } = await client.net.connect(server.address, AbortSignal.timeout(5000))
  expect(peerId).toBe(server.net.peerId)
  await until(() => client.net.peers().some(({ agent }) => agent === 'commonweight-test/0'))
})

test.for(['lan', 'auto', 'public'] as const)(
  'phones nobody with network %s and nobody configured',
  async network => {
    const connects = vi.spyOn(Socket.prototype, 'connect')
    const datagrams = vi.spyOn(UdpSocket.prototype, 'send')
    try {
      await using node = await openTestNet({ network, keys: [aKey('held')] })
      await foundNothing(
        node.net.finder.find([aKey('wanted')], {
          peers: [],
          signal: AbortSignal.timeout(10_000),
        }),
      )
      await systemClock.sleep(1500)
      expect(connects).not.toHaveBeenCalled()
      expect(datagrams).not.toHaveBeenCalled()
    } finally {
      connects.mockRestore()
      datagrams.mockRestore()
    }
  },
)

test('network lan refuses to dial outside', async () => {
  await using node = await openTestNet({ network: 'lan' })
  const connects = vi.spyOn(Socket.prototype, 'connect')
  const outside = `/ip4/8.8.8.8/tcp/4011/p2p/${somebody}`
  const error = await failureOf(node.net.connect(outside, AbortSignal.timeout(5000)))
  expect(error).toBeInstanceOf(UnavailableError)
  expect(connects).not.toHaveBeenCalled()
  connects.mockRestore()
})

test('a node that cannot be reached asks the DHT and does not serve it', async () => {
  await using hidden = await openTestHost({ network: 'public' })
  expect(hidden.host.reach()).toBe('nat')
  expect(hidden.host.kad.getMode()).toBe('client')
  expect(hidden.host.addresses()).toEqual([])
  await using open = await openTestHost()
  expect(open.host.reach()).toBe('lan')
  expect(open.host.kad.getMode()).toBe('server')
})

test('connecting to nobody, to itself and to nonsense are errors a person can act on', async () => {
  await using node = await openTestNet()
  const gone = await openTestNet()
  await gone[Symbol.asyncDispose]()
  const connect = (address: string): Promise<CommonweightError> =>
    failureOf(node.net.connect(address, AbortSignal.timeout(5000)))
  expect(await connect(gone.address)).toBeInstanceOf(UnavailableError)
  expect(await connect(node.address)).toBeInstanceOf(InvalidInputError)
  expect(await connect('nonsense')).toBeInstanceOf(InvalidInputError)
  await using other = await openTestNet()
  const wrong = other.address.replace(other.net.peerId, somebody)
  expect(await connect(wrong)).toBeInstanceOf(UnavailableError)
})

test('closes within three seconds although a peer holds on to its streams', async () => {
  const node = await openTestNet()
  const busy = await openLibp2p()
  await using _ = { [Symbol.asyncDispose]: async () => busy.stop() }
  const { multiaddr } = await import('@multiformats/multiaddr')
  for (const protocol of [dhtProtocol, swarmProtocol, '/ipfs/ping/1.0.0']) {
    const stream = await busy.dialProtocol(multiaddr(node.address), protocol)
    stream.pause()
  }
  const startedMs = performance.now()
  await node[Symbol.asyncDispose]()
  expect(performance.now() - startedMs).toBeLessThan(3 * second)
})

test('leaves no timer behind that would keep the process', async () => {
  const timers: NodeJS.Timeout[] = []
  const setTimer = globalThis.setTimeout
  const watch = vi.spyOn(globalThis, 'setTimeout').mockImplementation((...args) => {
    const timer = setTimer(...args)
    timers.push(timer)
    return timer
  })
  try {
    const node = await openTestNet({})
    await node[Symbol.asyncDispose]()
    // Public on every Timeout, and in no type.
    const isDone = (timer: NodeJS.Timeout): boolean =>
      (timer as unknown as { _destroyed: boolean })._destroyed || !timer.hasRef()
    expect(timers.length).toBeGreaterThan(0)
    expect(timers.filter(timer => !isDone(timer))).toEqual([])
  } finally {
    watch.mockRestore()
  }
})

test('shows who is connected, by which address and since when', async () => {
  await using server = await openTestNet({ agent: 'commonweight/1.2.3' })
  await using client = await openTestNet({ bootstrap: [server.address] })
  await until(() => client.net.peers()[0]?.swarm !== undefined)
  const [peer] = client.net.peers()
  expect(peer).toMatchObject({
    peerId: server.net.peerId,
    address: server.address,
    direction: 'outbound',
    agent: 'commonweight/1.2.3',
  })
  expect(Math.abs(Date.now() - (peer?.connectedAtMs ?? 0))).toBeLessThan(60 * second)
})

async function foundNothing(found: AsyncIterable<{ type: string }>): Promise<void> {
  for await (const { type } of found) {
    expect(type).toBe('round')
    return
  }
}
