/** Whole nets of src/net on loopback, each with its own key and database, and a plain DHT client. */

import { lpStream } from '@libp2p/utils'
import type { Libp2p } from '@libp2p/interface'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import { type CID, rawCid } from '../../src/core/cid.ts'
import { type Clock, systemClock } from '../../src/core/clock.ts'
import { sha256 } from '../../src/core/digest.ts'
import { type Logger, silentLog } from '../../src/core/log.ts'
import { openDatastore } from '../../src/net/host/datastore.ts'
import { dhtProtocol } from '../../src/net/dht/dht.ts'
import { type Host, openHost } from '../../src/net/host/host.ts'
import { loadIdentity } from '../../src/net/host/identity.ts'
import {
  decodeKadMessage,
  encodeKadMessage,
  type KadMessage,
} from '../../src/net/dht/kad-messages.ts'
import { type Net, type NetOptions, openNet } from '../../src/net/net.ts'
import { openNetworkDb } from '../../src/net/network-db.ts'
import { openProviderRecords, type ProviderRecords } from '../../src/net/dht/provider-records.ts'
import { MemoryReader } from './memory-reader.ts'
import { openScratchFolder, type ScratchFolder } from './scratch-folder.ts'

export const loopback: NetOptions = {
  listen: ['/ip4/127.0.0.1/tcp/0'],
  announce: [],
  bootstrap: [],
  network: 'auto',
  mdns: false,
  relay: false,
  lane: false,
  agent: 'commonweight-test/0',
}

export interface TestNet extends AsyncDisposable {
  readonly net: Net
  /** With /p2p/, to be a bootstrap address. */
  readonly address: string
  /** What it provides; call net.providedChanged() after a change. */
  readonly keys: CID[]
}

export interface TestNetOptions extends Partial<NetOptions> {
  readonly keys?: CID[]
  /** Where key and database lie; a folder of its own otherwise. */
  readonly folder?: ScratchFolder
  readonly log?: Logger
}

export async function openTestNet(options: TestNetOptions = {}): Promise<TestNet> {
  const { folder, keys = [], log = silentLog, ...given } = options
  await using stack = new AsyncDisposableStack()
  const home = folder ?? stack.use(await openScratchFolder())
  const net = stack.use(
    await openNet(
      { reader: new MemoryReader(), providedKeys: () => keys, clock: systemClock, log },
      { ...loopback, ...given },
      { key: home.file('key'), database: home.file('network.db') },
    ),
  )
  const all = stack.move()
  return {
    net,
    keys,
    address: net.addresses()[0] ?? '',
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  }
}

export interface Cluster extends AsyncDisposable {
  readonly nodes: TestNet[]
}

/** That many nets, joined through the first, each with most others in its table. */
export async function openCluster(size: number): Promise<Cluster> {
  await using stack = new AsyncDisposableStack()
  const first = stack.use(await openTestNet())
  const nodes = [first]
  while (nodes.length < size) {
    nodes.push(stack.use(await openTestNet({ bootstrap: [first.address] })))
  }
  await until(() => nodes.every(({ net }) => net.dht().peers >= (size - 1) * 0.7), 200_000)
  const all = stack.move()
  return { nodes, [Symbol.asyncDispose]: () => all.disposeAsync() }
}

export interface TestHost extends AsyncDisposable {
  readonly host: Host
  readonly records: ProviderRecords
  /** Multihashes it answers for itself. */
  readonly provided: Set<string>
}

/** A host alone, with what a test wants to look into. */
export async function openTestHost(
  given: Partial<NetOptions> = {},
  clock: Clock = systemClock,
): Promise<TestHost> {
  await using stack = new AsyncDisposableStack()
  const home = stack.use(await openScratchFolder())
  const { db } = stack.use(openNetworkDb({ clock, log: silentLog }, ':memory:'))
  const records = openProviderRecords({ db, clock })
  const provided = new Set<string>()
  const host = stack.use(
    await openHost(
      {
        key: await loadIdentity(home.file('key')),
        datastore: openDatastore(db, silentLog),
        records,
        provides: key => provided.has(Buffer.from(key).toString('hex')),
        clock,
        log: silentLog,
      },
      { ...loopback, ...given },
    ),
  )
  const all = stack.move()
  return { host, records, provided, [Symbol.asyncDispose]: () => all.disposeAsync() }
}

/** Sends DHT messages on one stream; resolves with as many answers as are asked for, or rejects. */
export async function askDht(
  client: Libp2p,
  server: Multiaddr | undefined,
  messages: readonly (Pick<KadMessage, 'type' | 'key'> & Partial<KadMessage>)[],
  answers: number,
): Promise<KadMessage[]> {
  if (server === undefined) throw new Error('the server has no address')
  const options = { signal: AbortSignal.timeout(10_000) }
  const stream = await client.dialProtocol(server, dhtProtocol, options)
  const frames = lpStream(stream)
  await frames.writeV(
    messages.map(message => encodeKadMessage(message)),
    options,
  )
  const found: KadMessage[] = []
  while (found.length < answers) {
    found.push(decodeKadMessage((await frames.read(options)).subarray()))
  }
  await stream.close(options)
  return found
}

/** This client as a provider record names it. */
export function selfOf(client: Libp2p, addresses = client.getMultiaddrs()) {
  return {
    id: client.peerId.toMultihash().bytes,
    addresses: addresses.map(address => multiaddr(address.toString().split('/p2p/')[0]).bytes),
  }
}

export function aKey(name: string): CID {
  return rawCid(sha256(Buffer.from(name)))
}

/** Waits for real time to bring something about; a busy machine may need it all. */
export async function until(isTrue: () => boolean, ms = 40_000): Promise<void> {
  const endMs = performance.now() + ms
  while (!isTrue()) {
    if (performance.now() > endMs)
      throw new Error(`still not so after ${ms} ms: ${isTrue.toString()}`)
    await systemClock.sleep(20)
  }
}
