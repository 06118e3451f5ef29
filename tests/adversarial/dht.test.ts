/**
 * The defects of kad-dht that docs/spec/discovery.md lists, against real nodes. Where it is cheap, the
 * defect is shown in kad-dht itself too: when such a test fails, the countermeasure may go.
 */

import { createHash, randomBytes } from 'node:crypto'
import { identify } from '@libp2p/identify'
import type { Libp2p } from '@libp2p/interface'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { ping } from '@libp2p/ping'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import { create } from 'multiformats/hashes/digest'
import { expect, test } from 'vitest'
import { ProtocolError } from '../../src/core/errors.ts'
import { hour, minute, second } from '../../src/core/units.ts'
import { dhtProtocol, openDht } from '../../src/net/dht/dht.ts'
import { internalsOf } from '../../src/net/dht/dht-guard.ts'
import { kadAddressesMax, messageTypes } from '../../src/net/dht/kad-messages.ts'
import { providerLimits } from '../../src/net/dht/provider-records.ts'
import { silentLog } from '../../src/core/log.ts'
import { aKey, askDht, openTestHost, openTestNet, selfOf, until } from '../support/dht-cluster.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { openLibp2p } from '../support/libp2p-pair.ts'

const { addProvider, findNode, getProviders, getValue, putValue } = messageTypes
const pingMessage = { type: messageTypes.ping, key: new Uint8Array() }

/** A DHT client that is stopped at the end of the test. */
async function openClient(): Promise<Libp2p & AsyncDisposable> {
  const libp2p = await openLibp2p()
  return Object.assign(libp2p, { [Symbol.asyncDispose]: async () => libp2p.stop() })
}

/** kad-dht as it comes, to see whether a defect is still there. */
async function openStockServer() {
  const libp2p = await openLibp2p()
  const extra = {
    identify: identify()(componentsOf(libp2p) as never),
    ping: ping()(componentsOf(libp2p) as never),
  }
  const kad = kadDHT({
    protocol: dhtProtocol,
    clientMode: false,
    peerInfoMapper: passthroughMapper,
    validators: { seq: () => Promise.resolve() },
    selectors: {
      seq: (_key, records) => ((records[0]?.[0] ?? 0) >= (records[1]?.[0] ?? 0) ? 0 : 1),
    },
  })({ ...extra, ...partsOf(libp2p) } as never)
  await (kad as unknown as { start(): Promise<void> }).start()
  return {
    libp2p,
    async [Symbol.asyncDispose]() {
      await (kad as unknown as { stop(): Promise<void> }).stop()
      await libp2p.stop()
    },
  }
}

function componentsOf(libp2p: Libp2p): Record<string, unknown> {
  return (libp2p as unknown as { components: Record<string, unknown> }).components
}

function partsOf(libp2p: Libp2p): Record<string, unknown> {
  const all = componentsOf(libp2p)
  const names = ['peerId', 'privateKey', 'registrar', 'addressManager', 'peerStore']
  const more = ['connectionManager', 'datastore', 'events', 'logger']
  return Object.fromEntries([...names, ...more].map(name => [name, all[name]]))
}

async function provide(client: Libp2p, server: Libp2p, keys: Uint8Array[]): Promise<void> {
  const providers = [selfOf(client)]
  const records = keys.map(key => ({ type: addProvider, key, providers }))
  await askDht(client, server.getMultiaddrs()[0], [...records, pingMessage], 1)
}

async function providersOf(client: Libp2p, server: Libp2p, key: Uint8Array): Promise<string[]> {
  const ask = { type: getProviders, key }
  const [answer] = await askDht(client, server.getMultiaddrs()[0], [ask], 1)
  return (answer?.providers ?? []).map(({ id }) => Buffer.from(id).toString('hex')).sort()
}

const idOf = (client: Libp2p): string =>
  Buffer.from(client.peerId.toMultihash().bytes).toString('hex')
const key = aKey('a key').multihash.bytes

test('dht.expiry (A): a provider the peer store forgot is still told, and hides no other', async () => {
  await using server = await openTestHost()
  const { libp2p } = server.host
  await using gone = await openClient()
  await using there = await openClient()
  await provide(gone, libp2p, [key])
  await provide(there, libp2p, [key])
  await gone.stop()
  await until(() => libp2p.getConnections(gone.peerId).length === 0)
  await libp2p.peerStore.delete(gone.peerId)
  expect(await providersOf(there, libp2p, key)).toEqual([idOf(gone), idOf(there)].sort())
})

test('dht.expiry (A): kad-dht itself still resets the whole key', async () => {
  await using server = await openStockServer()
  await using gone = await openClient()
  await using there = await openClient()
  await provide(gone, server.libp2p, [key])
  await provide(there, server.libp2p, [key])
  await gone.stop()
  await until(() => server.libp2p.getConnections(gone.peerId).length === 0)
  await server.libp2p.peerStore.delete(gone.peerId)
  await expect(providersOf(there, server.libp2p, key)).rejects.toThrow(/reset|closed|EOF|end/iu)
})

test('dht.expiry (A, K): a record is told for 48 hours and no longer', async () => {
  const clock = new FakeClock()
  await using server = await openTestHost({}, clock)
  await using client = await openClient()
  await provide(client, server.host.libp2p, [key])
  clock.jump(clock.now() + 47.9 * hour)
  expect(await providersOf(client, server.host.libp2p, key)).toEqual([idOf(client)])
  clock.jump(clock.now() + 0.2 * hour)
  expect(await providersOf(client, server.host.libp2p, key)).toEqual([])
  expect(server.records.sweep()).toBe(1)
})

test('dht.rollback (B, C): no value record is taken, so none can be rolled back or poison a read', async () => {
  await using server = await openTestHost()
  await using client = await openClient()
  const { libp2p } = server.host
  const [address] = libp2p.getMultiaddrs()
  const name = Buffer.from('/seq/name')
  const record = Buffer.concat([Buffer.from([0x0a, name.length]), name, Buffer.from([0x12, 1, 9])])
  await expect(askDht(client, address, [{ type: putValue, key: name, record }], 1)).rejects.toThrow(
    /reset|closed|EOF|end/iu,
  )
  const [answer] = await askDht(client, address, [{ type: getValue, key: name }], 1)
  expect(answer?.record).toBeUndefined()
  // Not even a peer's public key, which kad-dht gives out of its peer store.
  const pk = Buffer.concat([Buffer.from('/pk/'), client.peerId.toMultihash().bytes])
  const [publicKey] = await askDht(client, address, [{ type: getValue, key: pk }], 1)
  expect(publicKey?.record).toBeUndefined()
})

test('dht.rollback (B): kad-dht itself still lets an older record replace a newer one', async () => {
  await using server = await openStockServer()
  await using client = await openClient()
  const [address] = server.libp2p.getMultiaddrs()
  const name = Buffer.from('/seq/name')
  const recordOf = (sequence: number): Uint8Array =>
    Buffer.concat([Buffer.from([0x0a, name.length]), name, Buffer.from([0x12, 1, sequence])])
  for (const sequence of [9, 1]) {
    const put = { type: putValue, key: name, record: recordOf(sequence) }
    await askDht(client, address, [put], 1)
  }
  const [answer] = await askDht(client, address, [{ type: getValue, key: name }], 1)
  expect(Buffer.from(answer?.record ?? []).includes(Buffer.from([0x12, 1, 1]))).toBe(true)
})

test('dht.hashes (D): only sha2-256 keys are stored; asking for others is answered', async () => {
  await using server = await openTestHost()
  await using client = await openClient()
  const { libp2p } = server.host
  const other = create(0x13, createHash('sha512').update('a').digest()).bytes
  await expect(provide(client, libp2p, [other])).rejects.toThrow(/reset|closed|EOF|end/iu)
  expect(await providersOf(client, libp2p, other)).toEqual([])
  expect(server.records.size()).toBe(0)
})

test('dht.addrleak (E): a public node tells no private address, in records or by identify', async () => {
  const open = '/ip4/8.8.8.8/tcp/4011'
  await using server = await openTestHost({ announce: ['/ip4/8.8.4.4/tcp/4011'] })
  const { libp2p } = server.host
  const heard: string[] = []
  const bootstrap = [`${listenedOn(libp2p)}/p2p/${libp2p.peerId.toString()}`]
  await using node = await openTestNet({
    announce: ['/ip4/192.168.1.7/tcp/4011', open, '/ip6/fd00::7/tcp/4011'],
    bootstrap,
    keys: [aKey('held')],
  })
  await until(() => server.records.size() === 1)
  for (const { addresses } of server.records.get(aKey('held').multihash.bytes)) {
    heard.push(...addresses.map(bytes => multiaddr(bytes).toString()))
  }
  const [peer] = await libp2p.peerStore.all()
  heard.push(...(peer?.addresses ?? []).map(address => address.multiaddr.toString()))
  expect(new Set(heard)).toEqual(new Set([open]))
  expect(node.net.addresses()).toEqual([`${open}/p2p/${node.net.peerId}`])
})

test('dht.addrleak (E): a public node passes on no private address of others', async () => {
  await using server = await openTestHost({ announce: ['/ip4/8.8.4.4/tcp/4011'] })
  await using client = await openClient()
  const { libp2p } = server.host
  const target = multiaddr(`${listenedOn(libp2p)}/p2p/${libp2p.peerId.toString()}`)
  const mixed = selfOf(client, [
    multiaddr('/ip4/192.168.1.7/tcp/1'),
    multiaddr('/ip4/8.8.8.8/tcp/1'),
  ])
  const record = { type: addProvider, key, providers: [mixed] }
  const ask = { type: getProviders, key }
  const [answer] = await askDht(client, target, [record, ask], 1)
  const told = answer?.providers.flatMap(({ addresses }) => addresses) ?? []
  expect(told.map(bytes => multiaddr(bytes).toString())).toEqual(['/ip4/8.8.8.8/tcp/1'])
  const all = [getValue, findNode].map(type => ({ type, key }))
  const answers = await askDht(client, target, all, 2)
  expect(answers.flatMap(({ closer }) => closer)).toEqual([])
})

test('dht.flood (H): one sender fills no more than its burst, and others are served meanwhile', async () => {
  await using server = await openTestHost()
  await using flooder = await openClient()
  await using honest = await openClient()
  const { libp2p } = server.host
  const keys = Array.from({ length: providerLimits.peerBurst + 3000 }, (_, index) => {
    return aKey(`flood ${index}`).multihash.bytes
  })
  const flood = provide(flooder, libp2p, keys)
  const [outcome] = await Promise.allSettled([flood, provide(honest, libp2p, [key])])
  expect(outcome.status).toBe('rejected')
  expect(server.records.size()).toBeLessThan(providerLimits.peerBurst * 1.2)
  expect(await providersOf(honest, libp2p, key)).toEqual([idOf(honest)])
})

test('dht.flood (H): a record keeps as many addresses as a node can have', async () => {
  await using server = await openTestHost()
  await using client = await openClient()
  const addresses = Array.from({ length: 5000 }, () => multiaddr('/ip4/192.0.2.1/tcp/1'))
  const padded = selfOf(client, addresses)
  // Encoded by hand: our own codec sends no such thing.
  const peer = Buffer.concat([
    field(1, padded.id),
    ...padded.addresses.map(address => field(2, address)),
  ])
  const message = Buffer.concat([Buffer.from([0x08, addProvider]), field(2, key), field(9, peer)])
  await sendRaw(client, server.host.libp2p, message)
  await until(() => server.records.size() === 1)
  expect(server.records.get(key)[0]?.addresses.length).toBeLessThanOrEqual(kadAddressesMax)
})

test('dht.forgery (H): nobody can announce another peer, or nobody at all', async () => {
  await using server = await openTestHost()
  await using client = await openClient()
  await using victim = await openClient()
  const target = server.host.libp2p.getMultiaddrs()[0]
  const nobody = { id: randomBytes(34), addresses: selfOf(client).addresses }
  const nowhere = { ...selfOf(client), addresses: [Uint8Array.of(255, 255)] }
  const records = [selfOf(victim), nobody, nowhere].map(provider => {
    return { type: addProvider, key, providers: [provider] }
  })
  await askDht(client, target, [...records, pingMessage], 1)
  expect(await providersOf(client, server.host.libp2p, key)).toEqual([])
})

test('dht.dead (I): a server that is gone leaves the table within minutes', async () => {
  const clock = new FakeClock()
  await using here = await openTestHost()
  const there = await openTestHost()
  const { libp2p, kad, table } = here.host
  await using dht = openDht({ libp2p, kad, table, records: here.records, clock, log: silentLog })
  const [address] = there.host.libp2p.getMultiaddrs()
  await libp2p.dial(address as NonNullable<typeof address>)
  await until(() => dht.size() === 1)
  await there[Symbol.asyncDispose]()
  await until(() => libp2p.getConnections().length === 0)
  expect(dht.size()).toBe(1)
  await clock.advance(5 * minute)
  await until(() => dht.size() === 0)
})

test('dht.join: a join whose first requests nobody answers is made up for within seconds', async () => {
  const clock = new FakeClock()
  await using server = await openTestHost()
  await using other = await openTestHost()
  await using here = await openTestHost()
  const { libp2p, kad, table } = here.host
  const address = server.host.libp2p.getMultiaddrs()[0] as Multiaddr
  await other.host.libp2p.dial(address)
  await until(() => server.host.table.size === 1)
  const { rpc } = internalsOf(server.host.kad)
  const answer = rpc.handleMessage.bind(rpc)
  let isMute = true
  rpc.handleMessage = (peer, request) => {
    if (isMute && request.type === 'FIND_NODE') throw new ProtocolError('too busy')
    return answer(peer, request)
  }
  await using dht = openDht({ libp2p, kad, table, records: here.records, clock, log: silentLog })
  await libp2p.dial(address)
  // Upkeep is two of them; the third is the join, which waits for its next turn.
  await until(() => clock.sleepers === 3)
  expect(dht.size()).toBe(1)
  isMute = false
  await clock.advance(2 * second)
  await until(() => dht.size() === 2)
})

test(
  'dht.garbage: bytes that are no message, huge lengths and idle streams do no harm',
  async () => {
    await using server = await openTestHost()
    await using client = await openClient()
    const { libp2p } = server.host
    for (const bytes of [randomBytes(1000), Buffer.from('ffffffff7f', 'hex'), Buffer.alloc(0)]) {
      const stream = await client.dialProtocol(libp2p.getMultiaddrs(), dhtProtocol)
      stream.send(bytes)
    }
    const malformed = [
      { type: addProvider, key: new Uint8Array() },
      { type: getProviders, key: randomBytes(200) },
    ] as const
    for (const message of malformed) {
      const ask = message.key.length > 128 ? { ...message, key: message.key } : message
      await expect(
        askDht(client, libp2p.getMultiaddrs()[0], [ask, pingMessage], 1),
      ).rejects.toThrow(/reset|closed|EOF|end/iu)
    }
    await provide(client, libp2p, [key])
    expect(await providersOf(client, libp2p, key)).toEqual([idOf(client)])
  },
  20 * second,
)

test('a node answers for what it provides itself, before any record of it is anywhere', async () => {
  await using server = await openTestHost()
  await using client = await openClient()
  server.provided.add(Buffer.from(key).toString('hex'))
  expect(await providersOf(client, server.host.libp2p, key)).toEqual([idOf(server.host.libp2p)])
})

function listenedOn(libp2p: Libp2p): string {
  const manager = componentsOf(libp2p)['transportManager'] as { getAddrs(): unknown[] }
  return String(manager.getAddrs()[0])
}

function field(number: number, bytes: Uint8Array): Buffer {
  const length: number[] = []
  for (let rest = bytes.length; ; rest = Math.floor(rest / 128)) {
    length.push(rest > 127 ? (rest % 128) | 128 : rest)
    if (rest <= 127) break
  }
  return Buffer.concat([Buffer.from([(number << 3) | 2, ...length]), bytes])
}

async function sendRaw(client: Libp2p, server: Libp2p, message: Uint8Array): Promise<void> {
  const stream = await client.dialProtocol(server.getMultiaddrs(), dhtProtocol)
  stream.send(field(0, message).subarray(1))
  await stream.close()
}
