/** Sources that lie, stall and vanish: they cost time, never a byte. */

import { expect, test } from 'vitest'
import { Bitfield } from '../../src/core/bitfield.ts'
import { codecs, makeCid, rawCid } from '../../src/core/cid.ts'
import { digestBytes, sha256 } from '../../src/core/digest.ts'
import {
  IntegrityError,
  InvalidInputError,
  NotFoundError,
  ProtocolError,
  UnavailableError,
} from '../../src/core/errors.ts'
import { KiB, minute, second } from '../../src/core/units.ts'
import { encodeManifest, makeManifest, manifestCid } from '../../src/manifest/manifest.ts'
import { download } from '../../src/transfer/download.ts'
import { fetchFileTable } from '../../src/transfer/fetch-table.ts'
import { fetchManifest } from '../../src/transfer/fetch-manifest.ts'
import { openDownloadFixture } from '../support/download-fixture.ts'
import { FakeSource } from '../support/fake-source.ts'
import { testFile, writeTestFile } from '../support/store-fixture.ts'

const lengths = (count: number): number[] => Array.from({ length: count }, () => 4 * KiB)
const weights = testFile('weights', lengths(60))
const other = testFile('other', lengths(60))

function honest(id: string): FakeSource {
  return new FakeSource(id, [weights])
}

test('bans a source after one bad chunk, and no bad byte reaches the disk', async () => {
  const liar = new FakeSource('liar', [weights], { corrupts: index => index % 7 === 3 })
  await using run = await openDownloadFixture([liar])
  const fetching = run.download({ 'weights.bin': weights })
  while (liar.bans.length === 0) await new Promise(resolve => setImmediate(resolve))
  run.finder.add(honest('honest'))
  const result = await fetching
  expect(await run.read('weights.bin')).toEqual(weights.bytes)
  expect(liar.bans[0]).toBeInstanceOf(IntegrityError)
  // The digests are kept for the log.
  expect(liar.bans[0]?.cause).toMatchObject({ message: expect.stringContaining('SHA-256') })
  expect(liar.bans.length).toBe(1)
  expect(run.notices).toContain('warn: banned liar: it sent wrong bytes of weights.bin')
  // Its good chunks are kept: nothing is fetched twice.
  expect(result.bytesFetched).toBe(weights.bytes.length)
})

test.for([
  ['short', (bytes: Uint8Array) => bytes.subarray(1)],
  ['long', (bytes: Uint8Array) => Buffer.concat([bytes, Buffer.alloc(1)])],
  ['empty', () => new Uint8Array(0)],
] as const)('bans a source that sends a chunk too %s', async ([, mangles]) => {
  const liar = new FakeSource('liar', [weights], { mangles })
  await using run = await openDownloadFixture([liar, honest('honest')])
  const result = await run.download({ 'weights.bin': weights })
  expect(await run.read('weights.bin')).toEqual(weights.bytes)
  expect(liar.bans[0]).toBeInstanceOf(ProtocolError)
  expect(result.sources).toEqual([{ id: 'honest', bytes: weights.bytes.length }])
})

test('completes when all but one of eight lie', async () => {
  const liars = Array.from({ length: 7 }, (_, index) => {
    return new FakeSource(`liar-${index}`, [weights], { corrupts: () => true })
  })
  await using run = await openDownloadFixture([...liars, honest('honest')])
  const result = await run.download({ 'weights.bin': weights })
  expect(await run.read('weights.bin')).toEqual(weights.bytes)
  expect(result.sources).toEqual([{ id: 'honest', bytes: weights.bytes.length }])
  // Whoever was asked is banned, once.
  for (const { bans, requests } of liars) expect(bans.length).toBe(Math.min(1, requests.length))
})

test('gives up, with the good bytes kept, when everybody lies', async () => {
  const liar = new FakeSource('liar', [weights], { corrupts: index => index > 30 })
  await using run = await openDownloadFixture([liar])
  const lost = run.download({ 'weights.bin': weights }, { patienceMs: minute })
  await expect(lost).rejects.toThrow(UnavailableError)
  run.finder.add(honest('honest'))
  const result = await run.download({ 'weights.bin': weights })
  expect(result.bytesReused + result.bytesFetched).toBe(weights.bytes.length)
})

test('fetches around sources that accept every request and answer none', async () => {
  const frozen = ['x', 'y', 'z'].map(id => new FakeSource(id, [weights], { freezes: 'chunks' }))
  await using run = await openDownloadFixture([...frozen, honest('honest')])
  const result = await run.download({ 'weights.bin': weights })
  expect(result.sources).toEqual([{ id: 'honest', bytes: weights.bytes.length }])
  for (const { bans } of frozen) expect(bans).toEqual([])
})

test('fetches around sources that refuse what they claim', async () => {
  const boaster = new FakeSource('boaster', [weights], { refuses: true })
  await using run = await openDownloadFixture([boaster, honest('honest')])
  await run.download({ 'weights.bin': weights })
  expect(await run.read('weights.bin')).toEqual(weights.bytes)
  expect(boaster.bans).toEqual([])
  // Sixteen at first, one after each of two refusals, and no more after the third.
  expect(boaster.requests.length).toBeLessThanOrEqual(18)
})

test('goes on with others when a source vanishes with requests in flight', async () => {
  const leaving = new FakeSource('leaving', [weights], { freezes: 'chunks' })
  await using run = await openDownloadFixture([leaving])
  const fetching = run.download({ 'weights.bin': weights })
  while (leaving.inFlight === 0) await new Promise(resolve => setImmediate(resolve))
  leaving.close()
  run.finder.add(honest('honest'))
  await fetching
  expect(await run.read('weights.bin')).toEqual(weights.bytes)
})

test('keeps a banned source out when it reconnects', async () => {
  const half = new Bitfield(60)
  for (let index = 0; index < 30; index += 1) half.add(index)
  const liar = new FakeSource('liar', [weights], { corrupts: () => true })
  await using run = await openDownloadFixture([liar])
  const fetching = run.download({ 'weights.bin': weights })
  while (liar.bans.length === 0) await new Promise(resolve => setImmediate(resolve))
  const back = new FakeSource('liar', [weights], { corrupts: () => true })
  run.finder.add(back)
  while (back.bans.length === 0) await new Promise(resolve => setImmediate(resolve))
  expect(back.requests).toEqual([])
  run.finder.add(new FakeSource('partial', [{ ...weights, held: half }]))
  run.finder.add(honest('honest'))
  await fetching
})

test('ignores claims on chunks and files that do not exist', async () => {
  const odd = honest('odd')
  await using run = await openDownloadFixture([odd])
  const fetching = run.download({ 'weights.bin': weights })
  while (odd.requests.length === 0) await new Promise(resolve => setImmediate(resolve))
  odd.tell(weights.root, { gained: [[50, 5000]] })
  odd.tell(weights.root, { lost: [[1_000_000, 2_000_000]] })
  odd.tell(other.root, { gained: [[0, 60]] })
  await fetching
  expect(await run.read('weights.bin')).toEqual(weights.bytes)
})

test('bans a source that claims and takes back everything without end', async () => {
  const restless = new FakeSource('restless', [weights], { freezes: 'chunks' })
  await using run = await openDownloadFixture([restless])
  const fetching = run.download({ 'weights.bin': weights })
  while (restless.requests.length === 0) await new Promise(resolve => setImmediate(resolve))
  let told = 0
  for (; restless.bans.length === 0 && told < 1_000_000; told += 1) {
    restless.tell(weights.root, { lost: [[0, 60]] })
    restless.tell(weights.root, { gained: [[0, 60]] })
  }
  expect(restless.bans[0]).toBeInstanceOf(ProtocolError)
  run.finder.add(honest('honest'))
  await fetching
})

test('bans a source with a chunk table that does not make the root', async () => {
  const liar = new FakeSource('liar', [weights], { table: other.table.bytes })
  await using run = await openDownloadFixture([liar])
  const fetching = run.download({ 'weights.bin': weights })
  while (liar.bans.length === 0) await new Promise(resolve => setImmediate(resolve))
  run.finder.add(honest('honest'))
  await fetching
  expect(liar.bans[0]).toBeInstanceOf(IntegrityError)
  expect(liar.requests).toEqual([])
})

test.for([
  ['cut short', weights.table.bytes.subarray(0, 100)],
  ['of chunks of no bytes', new Uint8Array(36)],
  ['of garbage', Buffer.alloc(72, 0xff)],
  ['of nothing', new Uint8Array(0)],
] as const)('bans a source with a chunk table %s', async ([, table]) => {
  const liar = new FakeSource('liar', [], { table })
  await using run = await openDownloadFixture([liar, honest('honest')])
  // Asked until the liar was asked too.
  for (let round = 0; liar.bans.length === 0 && round < 20; round += 1) {
    const found = await run.passTime(fetchFileTable(run.deps, weights.root, run.options()))
    expect(found.table.bytes).toEqual(weights.table.bytes)
  }
  expect(liar.bans[0]).toBeInstanceOf(IntegrityError)
})

const sha256Key = rawCid(weights.sha256)

test('fetches a file by its SHA-256 alone', async () => {
  const source = honest('honest')
  source.addTable(sha256Key, weights.table)
  await using run = await openDownloadFixture([source])
  const { root, table } = await run.passTime(fetchFileTable(run.deps, sha256Key, run.options()))
  expect(root.equals(weights.root)).toBe(true)
  expect(table.size).toBe(weights.bytes.length)
})

test('blames who gave a false table for a SHA-256, once the whole is here', async () => {
  const liar = new FakeSource('liar', [other])
  liar.addTable(sha256Key, other.table)
  await using run = await openDownloadFixture([liar])
  const table = await run.passTime(fetchFileTable(run.deps, sha256Key, run.options()))
  const [wanted] = run.wanted({ 'weights.bin': other })
  const files = wanted === undefined ? [] : [{ ...wanted, sha256: weights.sha256, table }]
  const request = { keys: [sha256Key], folder: run.folder, files }
  const fetching = run.passTime(download(run.deps, request, run.options()))
  await expect(fetching).rejects.toThrow(IntegrityError)
  expect(liar.bans[0]).toBeInstanceOf(IntegrityError)
  await expect(run.read('weights.bin')).rejects.toThrow('ENOENT')
})

const manifest = encodeManifest(
  makeManifest([
    {
      path: 'weights.bin',
      size: weights.bytes.length,
      sha256: weights.sha256,
      root: weights.root,
    },
  ]),
)
const cid = manifestCid(manifest)

test('bans a source with a manifest that does not hash, and takes it from another', async () => {
  const liar = new FakeSource('liar', [], { manifest: Buffer.from('not it') })
  await using run = await openDownloadFixture([liar])
  const fetching = run.passTime(fetchManifest(run.deps, cid, run.options()))
  while (liar.bans.length === 0) await new Promise(resolve => setImmediate(resolve))
  const good = honest('honest')
  good.manifests.set(cid.toString(), manifest)
  run.finder.add(good)
  const fetched = await fetching
  expect(fetched.block).toEqual(manifest)
  expect(fetched.manifest.files[0]?.path).toBe('weights.bin')
})

test('refuses bytes that hash and are no manifest, and blames nobody', async () => {
  const junk = Buffer.from('hashes, and is no manifest')
  const junkCid = makeCid(codecs.dagCbor, sha256(junk))
  const source = honest('honest')
  source.manifests.set(junkCid.toString(), junk)
  await using run = await openDownloadFixture([source])
  const fetching = run.passTime(fetchManifest(run.deps, junkCid, run.options()))
  await expect(fetching).rejects.toThrow(InvalidInputError)
  expect(source.bans).toEqual([])
})

test('is not held up by sources that never answer for a manifest', async () => {
  const frozen = Array.from({ length: 15 }, (_, index) => {
    return new FakeSource(`frozen-${index}`, [], { freezes: 'all' })
  })
  const good = honest('honest')
  good.manifests.set(cid.toString(), manifest)
  await using run = await openDownloadFixture([...frozen, good])
  const fetching = fetchManifest(run.deps, cid, run.options({ patienceMs: 20 * second }))
  await expect(run.passTime(fetching)).resolves.toMatchObject({ block: manifest })
})

test('asks a source again that had nothing before', async () => {
  const late = honest('late')
  await using run = await openDownloadFixture([late])
  const fetching = run.passTime(fetchManifest(run.deps, cid, run.options()))
  await new Promise(resolve => setTimeout(resolve, 20))
  late.manifests.set(cid.toString(), manifest)
  run.finder.round()
  await expect(fetching).resolves.toMatchObject({ block: manifest })
})

test('says not found, in time, when nobody has it', async () => {
  const frozen = new FakeSource('frozen', [], { freezes: 'all' })
  await using run = await openDownloadFixture([honest('a'), honest('b'), frozen])
  const startMs = run.clock.monotonic()
  const unknown = makeCid(codecs.dagCbor, new Uint8Array(digestBytes))
  const fetching = fetchManifest(run.deps, unknown, run.options({ patienceMs: 30 * second }))
  await expect(run.passTime(fetching)).rejects.toThrow(NotFoundError)
  expect(run.clock.monotonic() - startMs).toBeLessThan(32 * second)
})

test('says not found for a file nobody has, and takes one from the store without asking', async () => {
  await using run = await openDownloadFixture()
  const options = run.options({ patienceMs: 10 * second })
  const fetching = fetchFileTable(run.deps, weights.root, options)
  await expect(run.passTime(fetching)).rejects.toThrow(NotFoundError)
  run.store.addFiles([await writeTestFile(run.scratch.file('mine.bin'), weights)])
  const { table } = await fetchFileTable(run.deps, weights.root, options)
  expect(table.size).toBe(weights.table.size)
})
