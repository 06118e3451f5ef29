/** Networks of real nodes on loopback: what is announced is found, also when half of them are gone. */

import { writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { DatabaseSync } from 'node:sqlite'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { CID } from '../../src/core/cid.ts'
import { second } from '../../src/core/units.ts'
import type { Net } from '../../src/net/net.ts'
import { openNetworkDb } from '../../src/net/network-db.ts'
import { silentLog } from '../../src/core/log.ts'
import { systemClock } from '../../src/core/clock.ts'
import {
  aKey,
  type Cluster,
  openCluster,
  openTestNet,
  type TestNet,
  until,
} from '../support/dht-cluster.ts'
import { openScratchFolder, type ScratchFolder } from '../support/scratch-folder.ts'

async function providersOf(net: Net, key: CID): Promise<string[]> {
  const found: string[] = []
  for await (const { peerId } of net.providers(key, AbortSignal.timeout(15_000))) found.push(peerId)
  return found
}

async function foundBy(net: Net, key: CID, peers: string[] = []): Promise<string[]> {
  const found: string[] = []
  const options = { peers, signal: AbortSignal.timeout(15_000) }
  for await (const event of net.finder.find([key], options)) {
    if (event.type === 'round') return found
    found.push(event.source.id)
  }
  return found
}

function at(nodes: readonly TestNet[], index: number): TestNet {
  const node = nodes[index]
  if (node === undefined) throw new Error(`no node ${index}`)
  return node
}

/** One network for the tests that need a large one: 120 handshakes are most of their time. */
describe('in a network of 16 nodes', () => {
  let cluster: Cluster
  beforeAll(async () => {
    cluster = await openCluster(16)
  })
  afterAll(() => cluster[Symbol.asyncDispose]())

  test('a new key is found within seconds, a key nobody has is not found as soon', async () => {
    const [seeder, asker] = [at(cluster.nodes, 3), at(cluster.nodes, 14)]
    const startedMs = performance.now()
    expect(await providersOf(asker.net, aKey('nobody has it'))).toEqual([])
    await foundBy(asker.net, aKey('nobody has it'))
    expect(performance.now() - startedMs).toBeLessThan(12 * second)
    seeder.keys.push(aKey('new'))
    seeder.net.providedChanged()
    await until(() => isAnnounced(seeder), 10 * second)
    expect(await providersOf(asker.net, aKey('new'))).toEqual([seeder.net.peerId])
  })

  test('every key is found from everywhere', async () => {
    const holders = cluster.nodes.slice(0, 8)
    for (const [index, { keys, net }] of holders.entries()) {
      keys.push(aKey(`file ${index}`), aKey('shared'))
      net.providedChanged()
    }
    await until(() => holders.every(node => isAnnounced(node)))
    for (const [index, { net }] of holders.entries()) {
      const asker = at(cluster.nodes, 15 - index)
      expect(await providersOf(asker.net, aKey(`file ${index}`))).toEqual([net.peerId])
    }
    const shared = await providersOf(at(cluster.nodes, 12).net, aKey('shared'))
    expect(new Set(shared).size).toBe(holders.length)
  })

  test('1,000 keys are swept at a rate a library can live with', async () => {
    const seeder = at(cluster.nodes, 0)
    const keys = Array.from({ length: 1000 }, (_, index) => aKey(`library ${index}`))
    seeder.keys.push(...keys)
    const startedMs = performance.now()
    seeder.net.providedChanged()
    await until(() => isAnnounced(seeder))
    const seconds = (performance.now() - startedMs) / 1000
    for (const key of keys.slice(0, 5)) {
      expect(await providersOf(at(cluster.nodes, 11).net, key)).toEqual([seeder.net.peerId])
    }
    // Stock kad-dht: 2 to 8 keys/s on such a network. The bar leaves room for a busy machine.
    expect(1000 / seconds).toBeGreaterThan(40)
  })

  test('when half of them die at once, the rest still find what the rest holds', async () => {
    const { nodes } = cluster
    await Promise.all(nodes.slice(4, 12).map(node => node[Symbol.asyncDispose]()))
    const asker = at(nodes, 15).net
    for (const [index, { net }] of nodes.slice(0, 4).entries()) {
      expect(await providersOf(asker, aKey(`file ${index}`))).toEqual([net.peerId])
    }
    const living = nodes.slice(0, 4).map(({ net }) => net.peerId)
    const sources = await foundBy(asker, aKey('shared'))
    expect(living.filter(peer => !sources.includes(peer))).toEqual([])
  })
})

test('a seeder that started first and alone is found by who joins later, through others', async () => {
  await using seeder = await openTestNet({ keys: [aKey('early')] })
  await using middle = await openTestNet({ bootstrap: [seeder.address] })
  await until(() => isAnnounced(seeder))
  await using late = await openTestNet({ bootstrap: [middle.address] })
  await until(() => late.net.dht().peers >= 1)
  expect(await providersOf(late.net, aKey('early'))).toContain(seeder.net.peerId)
  expect(await foundBy(late.net, aKey('early'))).toContain(seeder.net.peerId)
})

test('a bootstrap node that is not up yet is joined when it comes up', async () => {
  await using folder = await openScratchFolder()
  const first = await openTestNet({ folder })
  const { address } = first
  await first[Symbol.asyncDispose]()
  await using joiner = await openTestNet({ bootstrap: [address] })
  await systemClock.sleep(300)
  const listen = [address.split('/p2p/')[0] ?? '']
  await using again = await openTestNet({ folder, listen })
  await until(() => joiner.net.dht().peers === 1)
  expect(joiner.net.peers().map(({ peerId }) => peerId)).toEqual([again.net.peerId])
})

test('an address given to a download is enough, with no DHT at all', async () => {
  await using seeder = await openTestNet({ keys: [aKey('given')] })
  await using asker = await openTestNet()
  const startedMs = performance.now()
  expect(await foundBy(asker.net, aKey('given'), [seeder.address])).toEqual([seeder.net.peerId])
  // Joining the DHT would be waited for that long.
  expect(performance.now() - startedMs).toBeLessThan(3 * second)
})

test('dead addresses do not hold the first round up', async () => {
  await using asker = await openTestNet()
  await using seeder = await openTestNet()
  const dead = await Promise.all(
    Array.from({ length: 10 }, async () => {
      const net = await openTestNet()
      await net[Symbol.asyncDispose]()
      return net.address
    }),
  )
  // Nothing answers at these: neither a refusal nor a handshake.
  const silent = `/ip4/127.0.0.1/tcp/${await silentPort()}/p2p/${dead[0]?.split('/p2p/')[1]}`
  const startedMs = performance.now()
  const found = await foundBy(asker.net, aKey('x'), [...dead, silent, seeder.address])
  expect(found).toEqual([seeder.net.peerId])
  // A dial is given up after 15.
  expect(performance.now() - startedMs).toBeLessThan(12 * second)
})

test('a whole network restarts from its databases with no bootstrap', async () => {
  const size = 6
  const folders: ScratchFolder[] = []
  await using stack = new AsyncDisposableStack()
  for (let index = 0; index < size; index += 1) folders.push(stack.use(await openScratchFolder()))
  const addresses: string[] = []
  {
    await using first = new AsyncDisposableStack()
    const nodes: TestNet[] = []
    for (const folder of folders) {
      const bootstrap = addresses.slice(0, 1)
      const node = first.use(await openTestNet({ folder, bootstrap, keys: [aKey(folder.path)] }))
      nodes.push(node)
      addresses.push(node.address)
    }
    await until(() => nodes.every(({ net }) => net.dht().peers === size - 1))
    await until(() => nodes.every(node => isAnnounced(node)))
    // Whoever announced to the first few only is about to do it again.
    await until(() => folders.every(folder => holdersIn(folder) * 2 > size - 1))
  }
  const nodes: TestNet[] = []
  for (const [index, folder] of folders.entries()) {
    const listen = [addresses[index]?.split('/p2p/')[0] ?? '']
    nodes.push(stack.use(await openTestNet({ folder, listen, keys: [aKey(folder.path)] })))
  }
  await until(() => nodes.every(({ net }) => net.dht().peers >= size - 2))
  // Nothing was due: what the others hold of us outlived the restart.
  expect(nodes.map(({ net }) => net.announcing().due)).toEqual(nodes.map(() => 0))
  const asker = at(nodes, size - 1).net
  for (const [index, folder] of folders.entries()) {
    expect(await providersOf(asker, aKey(folder.path))).toEqual([at(nodes, index).net.peerId])
  }
})

test('a node that comes back at another port says so at once', async () => {
  await using folder = await openScratchFolder()
  await using other = await openTestNet()
  const keys = [aKey('moves')]
  const before = await openTestNet({ folder, keys, bootstrap: [other.address] })
  await until(() => isAnnounced(before))
  await before[Symbol.asyncDispose]()
  await using after = await openTestNet({ folder, keys, bootstrap: [other.address] })
  expect(after.address).not.toBe(before.address)
  const addressesAt = async (): Promise<readonly string[]> => {
    const key = aKey('moves')
    for await (const found of other.net.providers(key, AbortSignal.timeout(5000))) {
      return found.addresses
    }
    return []
  }
  await until(() => isAnnounced(after))
  expect(await addressesAt()).toEqual([after.address.split('/p2p/')[0]])
})

test('a damaged network database costs what can be learnt again, not the start', async () => {
  await using folder = await openScratchFolder()
  await using other = await openTestNet()
  const before = await openTestNet({ folder, keys: [aKey('kept')] })
  await before[Symbol.asyncDispose]()
  await writeFile(folder.file('network.db'), 'no database at all, and a bit more of nothing')
  await using after = await openTestNet({
    folder,
    keys: [aKey('kept')],
    bootstrap: [other.address],
  })
  expect(after.net.peerId).toBe(before.net.peerId)
  await until(() => isAnnounced(after))
  expect(await providersOf(other.net, aKey('kept'))).toEqual([after.net.peerId])
})

test('the ledger is where a restart finds it', async () => {
  await using folder = await openScratchFolder()
  await using other = await openTestNet()
  const node = await openTestNet({ folder, keys: [aKey('kept')], bootstrap: [other.address] })
  await until(() => isAnnounced(node))
  await node[Symbol.asyncDispose]()
  using network = openNetworkDb({ log: silentLog, clock: systemClock }, folder.file('network.db'))
  expect(network.db.prepare('SELECT holders, failures FROM announced').all()).toEqual([
    { holders: 1, failures: 0 },
  ])
})

/** All its keys are in the ledger, and with servers that took them. */
/** How many took the record of the only key. */
function holdersIn(folder: ScratchFolder): number {
  using db = new DatabaseSync(folder.file('network.db'), { readOnly: true })
  return Number(db.prepare('SELECT holders FROM announced').get()?.['holders'] ?? 0)
}

function isAnnounced({ net, keys }: TestNet): boolean {
  const status = net.announcing()
  return status.keys === keys.length && status.due === 0
}

/** A port that accepts and says nothing. */
async function silentPort(): Promise<number> {
  const server = createServer(() => undefined)
  await new Promise<void>(resolve => {
    server.listen(0, '127.0.0.1', resolve)
  })
  server.unref()
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  return address.port
}
