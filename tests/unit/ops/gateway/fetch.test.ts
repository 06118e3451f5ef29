import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { silentLog } from '../../../../src/core/log.ts'
import { second } from '../../../../src/core/units.ts'
import { makeManifest, sealManifest } from '../../../../src/manifest/manifest.ts'
import { openBandwidth } from '../../../../src/net/upload/bandwidth.ts'
import type { FileCache } from '../../../../src/ops/gateway/cache.ts'
import { type FileFetch, Fetches } from '../../../../src/ops/gateway/fetch.ts'
import { openWork } from '../../../../src/ops/work.ts'
import type { NamedModel } from '../../../../src/store/store.ts'
import { FakeClock, settle } from '../../../support/fake-clock.ts'
import { FakeFinder, FakeSource } from '../../../support/fake-source.ts'
import { openScratchFolder } from '../../../support/scratch-folder.ts'
import { openTestStore, testFile } from '../../../support/store-fixture.ts'

const content = testFile('fetched', [700, 300, 900])
const file = {
  path: 'model.bin',
  size: content.table.size,
  sha256: content.sha256,
  root: content.root,
}
const sealed = sealManifest(makeManifest([file]).files)
const model: NamedModel = {
  name: 'org/model',
  manifest: sealed.cid,
  addedAtMs: undefined,
  link: undefined,
}

interface Bench extends AsyncDisposable {
  readonly clock: FakeClock
  readonly fetches: Fetches
  readonly store: Awaited<ReturnType<typeof openTestStore>>
  isOver(fetch: FileFetch): Promise<boolean>
}

async function openBench(
  sources: readonly FakeSource[],
  cache: Pick<FileCache, 'arrived' | 'expect'> = {
    expect: async () => undefined,
    arrived: () => undefined,
  },
): Promise<Bench> {
  await using opening = new AsyncDisposableStack()
  const scratch = opening.use(await openScratchFolder())
  const store = opening.use(await openTestStore(scratch.path))
  const work = opening.use(openWork())
  const clock = new FakeClock()
  const fetches = new Fetches({
    store,
    finder: new FakeFinder(sources),
    net: { bandwidth: openBandwidth(clock), providedChanged: () => undefined },
    clock,
    log: silentLog,
    work,
    home: scratch.path,
    modelsFolder: join(scratch.path, 'models'),
    webSeeds: { allowPrivate: false, agent: 'test' },
    random: () => 0,
    cache,
    pool: { sha256: nothingHashed, hashFile: nothingHashed },
  })
  const parts = opening.move()
  return {
    clock,
    fetches,
    store,
    async isOver(fetch) {
      await settle()
      return Promise.race([fetch.ended.then(() => true), settle().then(() => false)])
    },
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  }
}

const nothingHashed = (): Promise<never> => Promise.reject(new Error('nothing is hashed here'))

function holder(faults: FakeSource['faults'] = {}): FakeSource {
  const source = new FakeSource('far', [content], faults)
  source.manifests.set(model.manifest.toString(), sealed.block)
  return source
}

const signal = new AbortController().signal

test('keeps a model of which nothing is here yet, without a promise to keep it', async () => {
  await using bench = await openBench([holder()])
  const manifest = await bench.fetches.manifest(model)
  expect(manifest.files.map(({ path }) => path)).toEqual(['model.bin'])
  expect(bench.store.model(model.manifest)).toMatchObject({
    name: 'org/model',
    pinned: false,
    seeding: true,
    bytesHeld: 0,
  })
})

test('gives every chunk to whoever waits for it', async () => {
  await using bench = await openBench([holder()])
  await bench.fetches.manifest(model)
  const fetch = bench.fetches.join(model, file)
  await Promise.all([2, 0, 1].map(chunk => fetch.whenHere(content.table.offset(chunk), signal)))
  expect(bench.store.present(content.root)?.isFull).toBe(true)
})

test('is one download for all readers of a file, and ends when they have left', async () => {
  await using bench = await openBench([holder({ freezes: 'chunks' })])
  await bench.fetches.manifest(model)
  const fetch = bench.fetches.join(model, file)
  expect(bench.fetches.join(model, file)).toBe(fetch)
  expect(await bench.isOver(fetch)).toBe(false)
  await bench.fetches.left(file.root)
  expect(await bench.isOver(fetch)).toBe(true)
  expect(bench.fetches.join(model, file)).not.toBe(fetch)
  await expect(fetch.whenHere(0, signal)).rejects.toMatchObject({ code: 'UNAVAILABLE' })
})

test('fetches no more than was asked for while nobody reads, and goes on for the next reader', async () => {
  const long = testFile(
    'long',
    Array.from({ length: 40 }, () => 100),
  )
  const whole = { path: 'model.bin', size: 4000, sha256: long.sha256, root: long.root }
  const { block, cid } = sealManifest(makeManifest([whole]).files)
  const source = new FakeSource('far', [long])
  source.manifests.set(cid.toString(), block)
  await using bench = await openBench([source])
  const named = { ...model, manifest: cid }
  await bench.fetches.manifest(named)
  const fetch = bench.fetches.join(named, whole)
  await fetch.whenHere(2000, signal)
  bench.fetches.pause(long.root)
  for (let turn = 0; turn < 20; turn += 1) await bench.clock.advance(second)
  const here = bench.store.present(long.root)
  expect(here?.has(20)).toBe(true)
  expect(here?.count).toBeLessThan(20)
  await fetch.whenHere(100, signal)
  const isFull = (): boolean => bench.store.present(long.root)?.isFull === true
  // Time is ours, the disk's is not.
  const endMs = performance.now() + 15 * second
  while (performance.now() < endMs && !isFull()) await bench.clock.advance(second)
  expect(isFull()).toBe(true)
})

test('goes on without readers when the model is pinned', async () => {
  await using bench = await openBench([holder({ freezes: 'chunks' })])
  await bench.fetches.manifest(model)
  bench.store.setPinned(model.manifest, true)
  const fetch = bench.fetches.join(model, file)
  await bench.fetches.left(file.root)
  expect(await bench.isOver(fetch)).toBe(false)
})

test('tells its readers when nobody serves it', async () => {
  await using bench = await openBench([holder({ refuses: true })])
  await bench.fetches.manifest(model)
  const waited = bench.fetches
    .join(model, file)
    .whenHere(0, signal)
    .catch((error: unknown) => error)
  // It has a disk to ask before it begins to wait: the clock goes slowly enough for that.
  const ended = waited.then(() => true)
  let isOver = false
  for (let turn = 0; turn < 5000 && !isOver; turn += 1) {
    await bench.clock.advance(second)
    isOver = await Promise.race([ended, settle().then(() => false)])
  }
  expect(isOver).toBe(true)
  expect(await waited).toMatchObject({ code: 'UNAVAILABLE' })
})

test('fetches again what was removed and then bound to its name again', async () => {
  await using bench = await openBench([holder()])
  const link = `cw://${model.manifest.toString()}`
  await bench.fetches.manifest(model)
  await bench.store.removeModel(model.manifest, { deleteFiles: false })
  bench.store.bindName(model.name, { manifest: model.manifest, link })
  await bench.fetches.join(model, file).whenHere(0, signal)
  expect(bench.store.model(model.manifest)).toMatchObject({ name: 'org/model' })
})

test('what was removed and has no name any more is not fetched again', async () => {
  await using bench = await openBench([holder()])
  await bench.fetches.manifest(model)
  await bench.store.removeModel(model.manifest, { deleteFiles: false })
  const waited = bench.fetches.join(model, file).whenHere(0, signal)
  await expect(waited).rejects.toThrow('the model was removed')
})

test('leaves nothing behind when its model is removed before the first byte comes', async () => {
  const gate = Promise.withResolvers<void>()
  const expected = Promise.withResolvers<string>()
  await using bench = await openBench([holder()], {
    arrived: () => undefined,
    async expect({ place }) {
      expected.resolve(place)
      await gate.promise
    },
  })
  await bench.fetches.manifest(model)
  const fetch = bench.fetches.join(model, file)
  const place = await expected.promise
  await bench.store.removeModel(model.manifest, { deleteFiles: false })
  gate.resolve()
  // Time is ours, the disk's is not.
  const endMs = performance.now() + 15 * second
  while (performance.now() < endMs && !(await bench.isOver(fetch))) {
    await bench.clock.advance(second)
  }
  expect(await bench.isOver(fetch)).toBe(true)
  await expect(stat(place)).rejects.toThrow('ENOENT')
})
