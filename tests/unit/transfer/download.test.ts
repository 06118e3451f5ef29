/** Downloads into a real store on real files; sources and time are fakes. */

import { mkdir, readdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { Bitfield } from '../../../src/core/bitfield.ts'
import { ConflictError, StorageError, UnavailableError } from '../../../src/core/errors.ts'
import { KiB, minute, second } from '../../../src/core/units.ts'
import { download } from '../../../src/transfer/download.ts'
import type { DownloadDeps } from '../../../src/transfer/request.ts'
import { openDownloadFixture } from '../../support/download-fixture.ts'
import { FakeBulkSource, FakeSource } from '../../support/fake-source.ts'
import { fileOf, testFile, writeTestFile } from '../../support/store-fixture.ts'

const lengths = (count: number, length = 4 * KiB): number[] =>
  Array.from({ length: count }, () => length)

const weights = testFile('weights', [700, ...lengths(40)])
const config = testFile('config', [300])
const empty = testFile('empty', [])
const model = { 'weights.bin': weights, 'sub/config.json': config, 'empty.txt': empty }

test('fetches every file of a model, byte for byte', async () => {
  const source = new FakeSource('a', [weights, config, empty])
  await using run = await openDownloadFixture([source])
  const result = await run.download(model)
  expect(await run.read('weights.bin')).toEqual(weights.bytes)
  expect(await run.read('sub/config.json')).toEqual(config.bytes)
  expect((await run.read('empty.txt')).length).toBe(0)
  const bytes = weights.bytes.length + config.bytes.length
  expect(result).toEqual({ bytesFetched: bytes, bytesReused: 0, sources: [{ id: 'a', bytes }] })
  expect(run.progress.at(-1)).toMatchObject({ filesDone: 3, filesTotal: 3, bytesDone: bytes })
})

test('fetches from several sources at once', async () => {
  const sources = ['a', 'b', 'c'].map(id => new FakeSource(id, [weights]))
  await using run = await openDownloadFixture(sources)
  const { sources: gave } = await run.download({ 'weights.bin': weights })
  expect(gave.length).toBe(3)
  expect(gave.reduce((sum, { bytes }) => sum + bytes, 0)).toBe(weights.bytes.length)
})

test('puts a file together from partial holders', async () => {
  const odd = new Bitfield(41)
  const even = new Bitfield(41)
  for (let index = 0; index < 41; index += 1) (index % 2 === 0 ? even : odd).add(index)
  const sources = [
    new FakeSource('odd', [{ ...weights, held: odd }]),
    new FakeSource('even', [{ ...weights, held: even }]),
  ]
  await using run = await openDownloadFixture(sources)
  await run.download({ 'weights.bin': weights })
  expect(await run.read('weights.bin')).toEqual(weights.bytes)
})

test('does nothing for files that are at their place', async () => {
  const source = new FakeSource('a', [weights, config, empty])
  await using run = await openDownloadFixture([source])
  await run.download(model)
  source.requests.length = 0
  const again = await run.download(model)
  expect(again).toMatchObject({ bytesFetched: 0, sources: [] })
  expect(again.bytesReused).toBe(weights.bytes.length + config.bytes.length)
  expect(source.requests).toEqual([])
})

test('copies a file that another folder has, and leaves that one alone', async () => {
  await using run = await openDownloadFixture()
  const mine = run.scratch.file('mine/weights.bin')
  run.store.addFiles([await writeTestFile(mine, weights)])
  const result = await run.download({ 'weights.bin': weights })
  expect(result).toMatchObject({ bytesFetched: 0, bytesReused: weights.bytes.length })
  const [original, copy] = await Promise.all([stat(mine), stat(join(run.folder, 'weights.bin'))])
  expect(copy.ino).not.toBe(original.ino)
  expect(original.nlink).toBe(1)
})

test('links a file inside our own models folder', async () => {
  await using run = await openDownloadFixture()
  const own = run.scratch.path
  const other = run.scratch.file('other-model/weights.bin')
  run.store.addFiles([await writeTestFile(other, weights)])
  await run.download({ 'weights.bin': weights }, { ownFolder: own })
  const [original, link] = await Promise.all([stat(other), stat(join(run.folder, 'weights.bin'))])
  expect(link.ino).toBe(original.ino)
})

test('does not trust a local file: what rotted there is fetched', async () => {
  const source = new FakeSource('a', [weights])
  await using run = await openDownloadFixture([source])
  const mine = run.scratch.file('mine/weights.bin')
  const written = await writeTestFile(mine, weights)
  const rotten = Buffer.from(weights.bytes)
  rotten[10_000] = (rotten[10_000] ?? 0) ^ 1
  await writeFile(mine, rotten)
  const { mtimeNs, ino } = await stat(mine, { bigint: true })
  run.store.addFiles([{ ...written, stamp: { ...written.stamp, mtimeNs, ino } }])
  const result = await run.download({ 'weights.bin': weights })
  expect(await run.read('weights.bin')).toEqual(weights.bytes)
  expect(result.bytesFetched).toBe(4 * KiB)
})

test('copies single chunks that other files have', async () => {
  const old = testFile('weights', [700, ...lengths(30)])
  const source = new FakeSource('a', [weights])
  await using run = await openDownloadFixture([source])
  run.store.addFiles([await writeTestFile(run.scratch.file('old.bin'), old)])
  const result = await run.download({ 'weights.bin': weights })
  expect(result).toMatchObject({ bytesFetched: 10 * 4 * KiB, bytesReused: 700 + 30 * 4 * KiB })
})

test('fetches a file that is wanted twice only once', async () => {
  const source = new FakeSource('a', [weights])
  await using run = await openDownloadFixture([source])
  const result = await run.download({ 'one.bin': weights, 'two.bin': weights })
  expect(result).toMatchObject({
    bytesFetched: weights.bytes.length,
    bytesReused: weights.bytes.length,
  })
  expect(await run.read('two.bin')).toEqual(weights.bytes)
})

test('keeps what it has when cancelled, and goes on from there', async () => {
  const half = new Bitfield(41)
  for (let index = 0; index < 20; index += 1) half.add(index)
  await using run = await openDownloadFixture([new FakeSource('a', [{ ...weights, held: half }])])
  const cancel = new AbortController()
  const reason = new Error('stopped by the user')
  const started = run.download({ 'weights.bin': weights }, { signal: cancel.signal })
  while (run.progress.at(-1)?.phase !== 'waiting') await new Promise(r => setImmediate(r))
  cancel.abort(reason)
  await expect(started).rejects.toBe(reason)
  run.finder.add(new FakeSource('b', [weights]))
  const result = await run.download({ 'weights.bin': weights })
  expect(result.bytesReused).toBe(700 + 19 * 4 * KiB)
  expect(await run.read('weights.bin')).toEqual(weights.bytes)
})

test('takes back what it asked for when cancelled', async () => {
  const frozen = new FakeSource('a', [weights], { freezes: 'chunks' })
  await using run = await openDownloadFixture([frozen])
  const cancel = new AbortController()
  const reason = new Error('stopped by the user')
  const started = run.download({ 'weights.bin': weights }, { signal: cancel.signal })
  while (frozen.inFlight === 0) await new Promise(r => setImmediate(r))
  cancel.abort(reason)
  await expect(started).rejects.toBe(reason)
  expect(frozen.inFlight).toBe(0)
  expect(frozen.closed.aborted).toBe(false)
})

test('gives up as unavailable when nobody serves a byte for as long as it may wait', async () => {
  await using run = await openDownloadFixture()
  const startMs = run.clock.monotonic()
  const lost = run.download({ 'weights.bin': weights }, { patienceMs: 30 * second })
  await expect(lost).rejects.toThrow(UnavailableError)
  expect(run.clock.monotonic() - startMs).toBeGreaterThanOrEqual(30 * second)
  // Told four times a second until then.
  expect(run.progress.length).toBeLessThan(4 * 32)
  expect(run.progress.at(-1)?.phase).toBe('finding')
})

test('waits when everyone left, says so once, and goes on when one returns', async () => {
  const half = new Bitfield(41)
  for (let index = 0; index < 20; index += 1) half.add(index)
  const leaving = new FakeSource('leaving', [{ ...weights, held: half }])
  await using run = await openDownloadFixture([leaving])
  const fetching = run.download({ 'weights.bin': weights })
  while (run.progress.at(-1)?.phase !== 'waiting') await new Promise(r => setImmediate(r))
  leaving.close()
  while (run.progress.length < 200) await new Promise(r => setImmediate(r))
  expect(run.notices.filter(text => text.includes('waiting')).length).toBe(1)
  run.finder.add(new FakeSource('leaving', [weights]))
  const { sources } = await fetching
  expect(sources).toEqual([{ id: 'leaving', bytes: weights.bytes.length }])
})

test('goes on when a source gains what is missing', async () => {
  const none = new FakeSource('mirror')
  await using run = await openDownloadFixture([none])
  const fetching = run.download({ 'config.json': config })
  while (run.progress.at(-1)?.phase !== 'waiting') await new Promise(r => setImmediate(r))
  none.add(config)
  await fetching
  expect(await run.read('config.json')).toEqual(config.bytes)
})

test('keeps the partial file when every source leaves midway', async () => {
  const half = new Bitfield(41)
  for (let index = 0; index < 20; index += 1) half.add(index)
  await using run = await openDownloadFixture([new FakeSource('a', [{ ...weights, held: half }])])
  const lost = run.download({ 'weights.bin': weights }, { patienceMs: minute })
  await expect(lost).rejects.toMatchObject({ code: 'UNAVAILABLE', hint: expect.any(String) })
  expect((await readdir(join(run.folder, '.commonweight'))).length).toBeGreaterThan(0)
  run.finder.add(new FakeSource('b', [weights]))
  const result = await run.download({ 'weights.bin': weights })
  expect(result).toMatchObject({ bytesReused: 700 + 19 * 4 * KiB, bytesFetched: 21 * 4 * KiB })
})

test('never overwrites a file of the user', async () => {
  await using run = await openDownloadFixture([new FakeSource('a', [weights])])
  await mkdir(run.folder, { recursive: true })
  await writeFile(join(run.folder, 'weights.bin'), 'mine')
  await expect(run.download({ 'weights.bin': weights })).rejects.toThrow(ConflictError)
  expect((await run.read('weights.bin')).toString()).toBe('mine')
})

test('takes a file that lies there already, unknown to the index', async () => {
  await using run = await openDownloadFixture([new FakeSource('a', [weights])])
  await writeTestFile(join(run.folder, 'weights.bin'), weights)
  const result = await run.download({ 'weights.bin': weights })
  expect(result).toMatchObject({ bytesFetched: 0, bytesReused: weights.bytes.length })
})

/** The same with no space on its disk; what was asked for. */
function onFullDisk(deps: DownloadDeps): { deps: DownloadDeps; asked: number[] } {
  const asked: number[] = []
  const store = new Proxy(deps.store, {
    get(target, name) {
      if (name === 'checkSpace') {
        return (_: string, bytes: number) => {
          asked.push(bytes)
          return Promise.reject(new StorageError('the disk is full'))
        }
      }
      const value: unknown = Reflect.get(target, name)
      return typeof value === 'function' ? (value.bind(target) as unknown) : value
    },
  })
  return { deps: { ...deps, store }, asked }
}

test('asks for space before the first byte', async () => {
  const source = new FakeSource('a', [weights])
  await using run = await openDownloadFixture([source])
  const { deps, asked } = onFullDisk(run.deps)
  const request = { keys: [weights.root], folder: run.folder, files: run.wanted({ w: weights }) }
  await expect(download(deps, request, run.options())).rejects.toThrow(StorageError)
  expect(asked).toEqual([weights.bytes.length])
  expect(source.requests).toEqual([])
})

test('asks for the space of all that is to be copied before it copies the first', async ({
  skip,
}) => {
  await using run = await openDownloadFixture()
  const elsewhere = run.scratch.file('elsewhere')
  for (const [name, file] of Object.entries(model)) {
    run.store.addFiles([await writeTestFile(join(elsewhere, name), file)])
  }
  const { deps, asked } = onFullDisk(run.deps)
  const request = { keys: [weights.root], folder: run.folder, files: run.wanted(model) }
  const outcome = download(deps, request, run.options()).then(
    () => 'reflinks',
    (error: unknown) => error,
  )
  if ((await outcome) === 'reflinks') skip('copies take no space on this file system')
  expect(await outcome).toBeInstanceOf(StorageError)
  expect(asked).toEqual([weights.bytes.length + config.bytes.length])
})

test('fetches hundreds of small files with few open at a time', async () => {
  const files = Array.from({ length: 300 }, (_, index) => testFile(`small-${index}`, [100 + index]))
  await using run = await openDownloadFixture([new FakeSource('a', files)])
  const named = Object.fromEntries(files.map((file, index) => [`files/${index}.json`, file]))
  const result = await run.download(named)
  expect(result.bytesFetched).toBe(files.reduce((sum, { bytes }) => sum + bytes.length, 0))
  expect(await run.read('files/299.json')).toEqual(files[299]?.bytes)
  // Generous: each is created, synced and renamed, and a disk may be slow.
}, 60_000)

test('keeps a bounded number of requests at one source', async () => {
  const many = fileOf(lengths(1000, 64).map((length, index) => Buffer.alloc(length, index)))
  const source = new FakeSource('a', [many])
  await using run = await openDownloadFixture([source])
  await run.download({ 'many.bin': many })
  expect(source.inFlightPeak).toBeLessThanOrEqual(64)
})

test('tells no progress more than a few times a second', async () => {
  await using run = await openDownloadFixture()
  const lost = run.download({ 'weights.bin': weights }, { patienceMs: 10 * second })
  await expect(lost).rejects.toThrow(UnavailableError)
  expect(run.progress.length).toBeLessThanOrEqual(4 * 11)
})

test('lets a source check and write past this thread, beside one that does not', async () => {
  const bulk = new FakeBulkSource('bulk', [weights])
  await using run = await openDownloadFixture([bulk, new FakeSource('plain', [config])])
  const { sources, bytesFetched } = await run.download(model)
  expect(await run.read('weights.bin')).toEqual(weights.bytes)
  expect(await run.read('sub/config.json')).toEqual(config.bytes)
  expect(bulk.written.length).toBe(weights.table.count)
  expect(sources.map(({ id }) => id).toSorted()).toEqual(['bulk', 'plain'])
  expect(bytesFetched).toBe(weights.bytes.length + config.bytes.length)
})

test('bans a bulk source for a bad chunk and keeps its good ones', async () => {
  const liar = new FakeBulkSource('liar', [weights], { corrupts: index => index === 20 })
  await using run = await openDownloadFixture([liar])
  const downloading = run.download({ 'weights.bin': weights })
  while (liar.bans.length === 0) await run.clock.advance(50)
  const kept = run.store.chunkTable(weights.root) && [...liar.written]
  run.finder.add(new FakeSource('honest', [weights]))
  const { sources } = await downloading
  expect(await run.read('weights.bin')).toEqual(weights.bytes)
  expect(run.notices.filter(notice => notice.includes('banned liar'))).toEqual([
    expect.stringContaining('it sent wrong bytes of weights.bin'),
  ])
  const fromLiar = sources.find(({ id }) => id === 'liar')?.bytes ?? 0
  expect(fromLiar).toBeGreaterThan(0)
  expect(kept?.length).toBeGreaterThan(0)
})

test('fetches again what was checked and lost on its way to the disk, and blames nobody', async () => {
  const source = new FakeBulkSource('a', [weights])
  const lost = new Set<number>()
  source.loses = index => {
    if (index % 5 !== 0 || lost.has(index)) return undefined
    lost.add(index)
    return new UnavailableError('the thread ended')
  }
  await using run = await openDownloadFixture([source])
  await run.download({ 'weights.bin': weights })
  expect(lost.size).toBe(9)
  expect(source.bans).toEqual([])
  expect(await run.read('weights.bin')).toEqual(weights.bytes)
})

test('goes on over the stream while there is no lane', async () => {
  const source = new FakeBulkSource('a', [weights])
  let asked = 0
  source.isUp = () => (asked += 1) % 3 !== 0
  await using run = await openDownloadFixture([source])
  await run.download({ 'weights.bin': weights })
  expect(source.written.length).toBe(28)
  expect(await run.read('weights.bin')).toEqual(weights.bytes)
})

test('a failed write past this thread ends the download with the path', async () => {
  const source = new FakeBulkSource('a', [weights])
  const full = Object.assign(new Error('ENOSPC: no space left on device, write'), {
    code: 'ENOSPC',
  })
  source.loses = () => new StorageError('writing', { cause: full })
  await using run = await openDownloadFixture([source])
  const downloading = run.download({ 'weights.bin': weights })
  await expect(downloading).rejects.toThrow(/\.part: ENOSPC/)
  expect(source.bans).toEqual([])
})
