/** Two and more real nodes over loopback TCP: what an honest swarm does, and what may happen to it. */

import { beforeAll, expect, test } from 'vitest'
import { Bitfield } from '../../src/core/bitfield.ts'
import type { CID } from '../../src/core/cid.ts'
import { InvalidInputError, ProtocolError, UnavailableError } from '../../src/core/errors.ts'
import { KiB, MiB } from '../../src/core/units.ts'
import { verifyDigest, verifyTable } from '../../src/dag/verify.ts'
import type { PeerHint } from '../../src/net/addresses.ts'
import { dialFailure } from '../../src/net/dial-failure.ts'
import { requestsInFlightMax } from '../../src/net/swarm/served-peer.ts'
import type { HaveUpdate, Source } from '../../src/transfer/source.ts'
import { openSwarmNode, type SwarmNode, until } from '../support/libp2p-pair.ts'
import {
  MemoryReader,
  type SampleFile,
  sampleFile,
  sampleManifest,
} from '../support/memory-reader.ts'

const options = { signal: new AbortController().signal }

interface Pair extends AsyncDisposable {
  readonly seeder: SwarmNode
  readonly leecher: SwarmNode
  readonly source: Source
}

/** A seeder, and a leecher that has dialled it. */
async function openPair(reader = new MemoryReader()): Promise<Pair> {
  await using stack = new AsyncDisposableStack()
  const seeder = stack.use(await openSwarmNode({ reader, agent: 'seeder' }))
  const leecher = stack.use(await openSwarmNode({ agent: 'leecher' }))
  const source = await leecher.swarm.connect(seeder.hint(), options)
  const owned = stack.move()
  return { seeder, leecher, source, [Symbol.asyncDispose]: () => owned.disposeAsync() }
}

/** What a source says it holds of one file, as it changes. */
function follow(source: Source, root: CID, chunks: number, { signal } = options): Bitfield {
  const has = new Bitfield(chunks)
  const each = (ranges: HaveUpdate['gained'], change: (index: number) => void): void => {
    for (const [start, end] of ranges) for (let at = start; at < end; at += 1) change(at)
  }
  const onHave = ({ gained, lost }: HaveUpdate): void => {
    each(gained, at => has.add(at))
    each(lost, at => has.delete(at))
  }
  source.watch([{ root, chunks }], onHave, { signal })
  return has
}

async function fetchChunk(source: Source, file: SampleFile, index: number): Promise<void> {
  const { digest, ...chunk } = file.table.ref(index)
  verifyDigest(digest, await source.fetchChunk({ root: file.root, index, ...chunk }, options))
}

let file: SampleFile
beforeAll(() => {
  file = sampleFile(200 * 16 * KiB, 16 * KiB)
})

test('both sides greet, and each is a source for the other', async () => {
  await using nodes = await openPair()
  const { seeder, leecher, source } = nodes
  await until(() => seeder.swarm.sources().length === 1)
  expect(source.id).toBe(seeder.id)
  expect(source.requestsMax).toBe(requestsInFlightMax)
  expect(leecher.swarm.peers()).toMatchObject([{ peerId: seeder.id, agent: 'seeder' }])
  expect(seeder.swarm.peers()).toMatchObject([{ peerId: leecher.id, agent: 'leecher' }])
})

test('gives manifest, table and chunks of a file, each as it is', async () => {
  const large = sampleFile(3 * MiB + 5)
  const manifest = sampleManifest(300_000)
  await using nodes = await openPair(new MemoryReader().addFile(large).addManifest(manifest))
  const { source } = nodes
  const got = await source.fetchManifest(manifest.cid, options)
  expect(Buffer.compare(got, manifest.bytes)).toBe(0)
  const size = large.bytes.length
  const table = verifyTable(large.root, size, await source.fetchTable(large.root, size, options))
  expect(table.count).toBe(4)
  for (let index = 0; index < table.count; index += 1) await fetchChunk(source, large, index)
})

test('gives the table by the SHA-256 of the whole file too, to one who does not know its size', async () => {
  await using nodes = await openPair(new MemoryReader().addFile(file))
  const bytes = await nodes.source.fetchTable(file.whole, undefined, options)
  expect(verifyTable(file.root, file.bytes.length, bytes).count).toBe(file.table.count)
})

test('an empty file has an empty table', async () => {
  const none = sampleFile(0)
  await using nodes = await openPair(new MemoryReader().addFile(none))
  expect(await nodes.source.fetchTable(none.root, 0, options)).toHaveLength(0)
})

test('a partial holder says what it has, and what it gains and loses', async () => {
  const reader = new MemoryReader().addFile(file, [1, 2, 3, 7])
  await using nodes = await openPair(reader)
  const has = follow(nodes.source, file.root, file.table.count)
  await until(() => has.count === 4)
  expect([...has.runs()]).toEqual([
    [1, 4],
    [7, 8],
  ])
  reader.gain(file, 0, 4, 199)
  await until(() => has.count === 7)
  reader.lose(file, 2)
  await until(() => has.count === 6)
  expect([...has.runs()]).toEqual([
    [0, 2],
    [3, 5],
    [7, 8],
    [199, 200],
  ])
  expect(nodes.leecher.swarm.peers()[0]?.files).toBe(1)
})

test('tells nothing more once the watch is over', async () => {
  const reader = new MemoryReader().addFile(file, [0])
  await using nodes = await openPair(reader)
  const stop = new AbortController()
  const has = follow(nodes.source, file.root, file.table.count, { signal: stop.signal })
  const kept = follow(nodes.source, file.root, file.table.count)
  await until(() => has.count === 1 && kept.count === 1)
  stop.abort()
  reader.gain(file, 5)
  await until(() => kept.count === 2)
  expect(has.count).toBe(1)
})

test('a file that is not held is said to be so by silence, and refused when asked for', async () => {
  await using nodes = await openPair()
  const has = follow(nodes.source, file.root, file.table.count)
  await expect(fetchChunk(nodes.source, file, 0)).rejects.toThrow(UnavailableError)
  await expect(nodes.source.fetchTable(file.root, 10, options)).rejects.toThrow('not held')
  await expect(nodes.source.fetchManifest(sampleManifest().cid, options)).rejects.toThrow(
    'not held',
  )
  expect(has.count).toBe(0)
  expect(nodes.source.closed.aborted).toBe(false)
})

test('who asks for a chunk that was lost is told that it is', async () => {
  const reader = new MemoryReader().addFile(file)
  await using nodes = await openPair(reader)
  const has = follow(nodes.source, file.root, file.table.count)
  await until(() => has.isFull)
  reader.loseSilently(file, 5)
  await expect(fetchChunk(nodes.source, file, 5)).rejects.toThrow('not held')
  await until(() => !has.has(5))
})

test('a read error is refused without its path, and ends nothing', async () => {
  const reader = new MemoryReader().addFile(file)
  await using nodes = await openPair(reader)
  reader.beforeRead = index => {
    if (index === 3) throw new Error('EIO: /home/somebody/secret')
  }
  const failed = fetchChunk(nodes.source, file, 3)
  await expect(failed).rejects.toThrow(UnavailableError)
  await expect(failed).rejects.not.toThrow('secret')
  await fetchChunk(nodes.source, file, 4)
})

test('keeps many requests in flight, none above what the other side takes', async () => {
  const reader = new MemoryReader().addFile(file)
  await using nodes = await openPair(reader)
  await Promise.all([...Array(200).keys()].map(index => fetchChunk(nodes.source, file, index)))
  expect(reader.reads).toBe(200)
})

test('a cancelled request is not read from disk, and the next ones are answered', async () => {
  const reader = new MemoryReader().addFile(file)
  await using nodes = await openPair(reader)
  const gate = Promise.withResolvers<void>()
  reader.beforeRead = () => gate.promise
  const stop = new AbortController()
  const { source } = nodes
  const cancelled = [...Array(20).keys()].map(index =>
    source.fetchChunk(
      { root: file.root, index, offset: index * 16 * KiB, length: 16 * KiB },
      { signal: stop.signal },
    ),
  )
  const kept = fetchChunk(source, file, 30)
  stop.abort(new Error('enough'))
  const results = await Promise.allSettled(cancelled)
  expect(results.every(({ status }) => status === 'rejected')).toBe(true)
  // The cancels have to be there before the reads go on: a question that came after them is answered.
  await nodes.leecher.swarm.exchange([file.root], options)
  gate.resolve()
  await kept
  expect(reader.reads).toBeLessThanOrEqual(3)
})

test('two that dial each other at the same time both get what they want', async () => {
  const other = sampleFile(100_000, 16 * KiB)
  await using a = await openSwarmNode({ reader: new MemoryReader().addFile(file) })
  await using b = await openSwarmNode({ reader: new MemoryReader().addFile(other) })
  const [toB, toA] = await Promise.all([
    a.swarm.connect(b.hint(), options),
    b.swarm.connect(a.hint(), options),
  ])
  await Promise.all([fetchChunk(toB, other, 1), fetchChunk(toA, file, 1)])
  expect(a.swarm.sources()).toHaveLength(1)
  expect(b.swarm.sources()).toHaveLength(1)
})

test('many that ask for the same peer share one stream', async () => {
  await using seeder = await openSwarmNode()
  await using leecher = await openSwarmNode()
  const sources = await Promise.all(
    [...Array(10).keys()].map(() => leecher.swarm.connect(seeder.hint(), options)),
  )
  expect(new Set(sources).size).toBe(1)
})

test('a lost connection ends the source; the next one is another with the same id', async () => {
  await using nodes = await openPair(new MemoryReader().addFile(file))
  const { seeder, leecher, source } = nodes
  const seen: Source[] = []
  leecher.swarm.onSource(found => seen.push(found))
  const pending = source.fetchChunk(
    { root: file.root, index: 0, offset: 0, length: 16 * KiB },
    options,
  )
  for (const connection of leecher.libp2p.getConnections()) connection.abort(new Error('cut'))
  await expect(pending).rejects.toThrow(UnavailableError)
  expect(source.closed.aborted).toBe(true)
  await until(() => seeder.swarm.sources().length === 0)
  const again = await leecher.swarm.connect(seeder.hint(), options)
  expect(again).not.toBe(source)
  expect(again.id).toBe(source.id)
  expect(seen).toEqual([again])
  await fetchChunk(again, file, 1)
})

test('a banned peer is cut off, and neither dialled nor let in again', async () => {
  await using nodes = await openPair(new MemoryReader().addFile(file))
  const { seeder, leecher, source } = nodes
  source.ban(new ProtocolError('sent a bad chunk'))
  expect(source.closed.aborted).toBe(true)
  await expect(leecher.swarm.connect(seeder.hint(), options)).rejects.toThrow('sent a bad chunk')
  await until(() => seeder.swarm.sources().length === 0)
  await expect(seeder.swarm.connect(leecher.hint(), options)).rejects.toThrow(UnavailableError)
  expect(leecher.swarm.sources()).toEqual([])
})

test('who is banned checks what it served, once for bans of the same minute', async () => {
  const reader = new MemoryReader()
  await using pair = await openPair(reader)
  await using another = await openSwarmNode()
  const source = await another.swarm.connect(pair.seeder.hint(), options)
  expect(reader.rechecks).toBe(0)
  pair.source.ban(new ProtocolError('wrong bytes'))
  source.ban(new ProtocolError('wrong bytes'))
  await until(() => pair.seeder.swarm.peers().length === 0)
  expect(reader.rechecks).toBe(1)
})

test('who stops says goodbye, and the other side knows why', async () => {
  await using leecher = await openSwarmNode()
  const seeder = await openSwarmNode()
  const source = await leecher.swarm.connect(seeder.hint(), options)
  await seeder[Symbol.asyncDispose]()
  await until(() => source.closed.aborted)
  expect(String(source.closed.reason)).toMatch('this node is stopping')
  expect(leecher.swarm.peers()).toEqual([])
})

test('a peer too many is turned away with the reason, and no peer is dialled past the bound', async () => {
  await using small = await openSwarmNode({ peersMax: 1 })
  await using first = await openSwarmNode()
  await using second = await openSwarmNode()
  await first.swarm.connect(small.hint(), options)
  await expect(second.swarm.connect(small.hint(), options)).rejects.toThrow('goodbye')
  await expect(small.swarm.connect(second.hint(), options)).rejects.toThrow('too many peers')
})

test('does not dial itself, and does not wait for one that is not there', async () => {
  await using node = await openSwarmNode()
  await expect(node.swarm.connect(node.hint(), options)).rejects.toThrow(InvalidInputError)
  const gone = await openSwarmNode()
  const hint = gone.hint()
  await gone[Symbol.asyncDispose]()
  await expect(node.swarm.connect(hint, options)).rejects.toThrow(UnavailableError)
})

test('a dial that hangs ends with the signal of the one who asked', async () => {
  await using nodes = await openPair()
  const stop = new AbortController()
  stop.abort(new Error('enough'))
  await expect(
    nodes.leecher.swarm.connect(nodes.seeder.hint(), { signal: stop.signal }),
  ).rejects.toThrow('enough')
})

test('peers tell of others that hold or want the same, and of nobody else', async () => {
  const manifest = sampleManifest()
  await using hub = await openSwarmNode({ reader: new MemoryReader().addManifest(manifest) })
  await using wanting = await openSwarmNode()
  await using holding = await openSwarmNode({ reader: new MemoryReader().addFile(file) })
  await using bystander = await openSwarmNode()
  await using asker = await openSwarmNode()
  const fromHub = await wanting.swarm.connect(hub.hint(), options)
  await fromHub.fetchManifest(manifest.cid, options)
  const toHolder = await hub.swarm.connect(holding.hint(), options)
  const has = follow(toHolder, file.root, file.table.count)
  await until(() => has.isFull)
  await bystander.swarm.connect(hub.hint(), options)
  await asker.swarm.connect(hub.hint(), options)
  const idsFor = async (...keys: CID[]): Promise<string[]> => {
    const hints = await asker.swarm.exchange(keys, options)
    return hints.map(({ peer }) => peer.toString()).toSorted()
  }
  // Identify has to have told the hub where they listen.
  await expect.poll(() => idsFor(manifest.cid)).toEqual([wanting.id])
  await expect.poll(() => idsFor(file.root)).toEqual([holding.id])
  expect(await idsFor(manifest.cid, file.root)).toEqual([wanting.id, holding.id].toSorted())
  expect(await idsFor(sampleManifest().cid)).toEqual([])
  const [hint] = await asker.swarm.exchange([file.root], options)
  if (hint === undefined) throw new Error('no hint')
  const source = await asker.swarm.connect(hint, options)
  await fetchChunk(source, file, 0)
})

test('a node on the public network neither tells nor believes private addresses', async () => {
  const manifest = sampleManifest()
  const reader = new MemoryReader().addManifest(manifest)
  await using discreet = await openSwarmNode({ reader, shareable: () => [] })
  await using talkative = await openSwarmNode({ reader })
  await using wanting = await openSwarmNode()
  await using asker = await openSwarmNode({ shareable: () => [] })
  for (const hub of [discreet, talkative]) {
    const source = await wanting.swarm.connect(hub.hint(), options)
    await source.fetchManifest(manifest.cid, options)
  }
  await asker.swarm.connect(discreet.hint(), options)
  expect(await asker.swarm.exchange([manifest.cid], options)).toEqual([])
  await asker.swarm.connect(talkative.hint(), options)
  await expect
    .poll(async () => (await asker.swarm.exchange([manifest.cid], options)).length)
    .toBe(1)
  const [hint] = await asker.swarm.exchange([manifest.cid], options)
  expect(hint?.addresses).toEqual([])
})

test('whoever is connected for another reason becomes a source by itself', async () => {
  await using a = await openSwarmNode()
  await using b = await openSwarmNode()
  await a.libp2p.dial(b.libp2p.getMultiaddrs())
  await expect.poll(() => a.swarm.sources().map(({ id }) => id)).toEqual([b.id])
  await expect.poll(() => b.swarm.sources().map(({ id }) => id)).toEqual([a.id])
})

test('says in plain words why a peer was not reached', async () => {
  await using node = await openSwarmNode()
  await using other = await openSwarmNode()
  const hint = await closedNode()
  const at = other.libp2p.getMultiaddrs().map(address => address.decapsulate('/p2p'))
  const failure = async (addresses: PeerHint['addresses']): Promise<string> => {
    const error = await node.swarm.connect({ ...hint, addresses }, options).catch(caught => caught)
    return dialFailure(error)
  }
  const refused = /^connection refused \(127\.0\.0\.1:\d+\)/u
  expect(await failure(hint.addresses)).toMatch(refused)
  const another = `another peer answers there (${other.id})`
  expect(await failure(at)).toContain(another)
  const both = await failure([...hint.addresses, ...at])
  expect(both).toMatch(refused)
  expect(both).toContain(another)
})

/** Nobody listens where it was. */
async function closedNode(): Promise<PeerHint> {
  await using node = await openSwarmNode()
  return node.hint()
}
