import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { CID } from '../../../../src/core/cid.ts'
import { StorageError } from '../../../../src/core/errors.ts'
import { silentLog } from '../../../../src/core/log.ts'
import { minute } from '../../../../src/core/units.ts'
import { type CacheOptions, type ComingFile, FileCache } from '../../../../src/ops/gateway/cache.ts'
import { openWork } from '../../../../src/ops/work.ts'
import type { Store } from '../../../../src/store/store.ts'
import { FakeClock } from '../../../support/fake-clock.ts'
import { openScratchFolder } from '../../../support/scratch-folder.ts'
import {
  openTestStore,
  partialSpec,
  type TestFile,
  testFile,
  testModel,
  writeChunks,
} from '../../../support/store-fixture.ts'

/** Files of 1,000 bytes each. */
const names = ['a', 'b', 'c', 'd', 'e'] as const
type Name = (typeof names)[number]
const files = Object.fromEntries(names.map(name => [name, testFile(name, [600, 400])])) as Record<
  Name,
  TestFile
>

interface Bench extends AsyncDisposable {
  readonly clock: FakeClock
  readonly store: Store
  readonly cache: FileCache
  /** Read at this moment, by a reader of the gateway. */
  readonly readers: Set<string>
  /** Bytes that the disk has left; beyond them nothing fits. */
  disk: number
  coming(name: Name): ComingFile
  /** Room is made, all of it is fetched, a moment passes. */
  fetch(name: Name): Promise<void>
  read(name: Name): Promise<void>
  /** What is on the disk. */
  held(): Promise<string>
  pin(pinned: boolean): void
}

async function openBench(options: Partial<CacheOptions> = {}): Promise<Bench> {
  await using opening = new AsyncDisposableStack()
  const scratch = opening.use(await openScratchFolder())
  const clock = new FakeClock()
  const real = opening.use(await openTestStore(scratch.path, silentLog, clock))
  const work = opening.use(openWork())
  const folder = scratch.file('models/org/model')
  const model = testModel(folder, files, { origin: 'pulled', pinned: false, name: 'org/model' })
  real.addModel(model)
  const readers = new Set<string>()
  const isRead = (root: CID): boolean => readers.has(root.toString())
  const held = async (): Promise<string> => {
    const found = await Promise.all(
      names.map(name =>
        stat(join(folder, name)).then(
          () => name,
          () => '',
        ),
      ),
    )
    return found.join('')
  }
  const store: Store = Object.assign(Object.create(real) as Store, {
    async checkSpace(_: string, bytes: number) {
      if (bytes > bench.disk - (await held()).length * 1000) throw new StorageError('full')
    },
  })
  for (const method of ['cachedFiles', 'cacheFile', 'evict', 'present', 'setPinned'] as const) {
    Object.assign(store, { [method]: real[method].bind(real) })
  }
  const net = { providedChanged: () => undefined }
  const cache = new FileCache(
    { store, net, work, clock, log: silentLog, modelsFolder: scratch.file('models') },
    { keep: 'cache', cacheBytes: undefined, ...options },
    isRead,
  )
  const parts = opening.move()
  const bench: Bench = {
    clock,
    store: real,
    cache,
    readers,
    disk: Infinity,
    coming(name) {
      const { root, sha256, table } = files[name]
      const named = { name: 'org/model', manifest: model.manifest }
      return {
        model: { ...named, addedAtMs: undefined, link: undefined },
        file: { path: name, size: table.size, sha256, root },
        folder,
        place: join(folder, name),
      }
    },
    async fetch(name) {
      await cache.expect(this.coming(name))
      {
        await using partial = await real.openPartial(partialSpec(folder, name, files[name]))
        await writeChunks(partial, files[name])
        await partial.publish()
      }
      cache.arrived(this.coming(name))
      await clock.advance(minute)
    },
    async read(name) {
      await real.readSpan(files[name].root, { offset: 0, end: 600 }, Buffer.alloc(600))
      await clock.advance(minute)
    },
    held,
    pin: pinned => real.setPinned(model.manifest, pinned),
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  }
  return bench
}

test('what was read longest ago makes room for what is asked for', async () => {
  await using bench = await openBench({ cacheBytes: 3000 })
  for (const name of ['a', 'b', 'c'] as const) await bench.fetch(name)
  expect(await bench.held()).toBe('abc')
  await bench.read('a')
  await bench.fetch('d')
  // To somewhat below the budget: not one file at a time.
  expect(await bench.held()).toBe('ad')
  await bench.fetch('e')
  expect(await bench.held()).toBe('ade')
})

test('without a budget everything stays', async () => {
  await using bench = await openBench()
  for (const name of names) await bench.fetch(name)
  expect(await bench.held()).toBe('abcde')
})

test('what is being read stays, and goes once it is not', async () => {
  await using bench = await openBench({ cacheBytes: 1000 })
  await bench.fetch('a')
  bench.readers.add(files.a.root.toString())
  await bench.fetch('b')
  expect(await bench.held()).toContain('a')
  await bench.cache.expect(bench.coming('c'))
  expect(await bench.held()).toBe('a')
  bench.readers.clear()
  await bench.cache.left(files.a.root)
  expect(await bench.held()).toBe('')
})

test('what a peer fetches stays, and the cache is looked at again soon', async () => {
  await using bench = await openBench({ cacheBytes: 1500 })
  await bench.fetch('a')
  await bench.store.readChunk(files.a.root, 0)
  const coming = bench.coming('b')
  await bench.cache.expect(coming)
  expect(await bench.held()).toBe('a')
  await bench.clock.advance(2 * minute)
  await expect.poll(() => bench.held()).toBe('')
})

test('what is still coming counts with all that it will take', async () => {
  await using bench = await openBench({ cacheBytes: 2000 })
  await bench.fetch('a')
  await bench.cache.expect(bench.coming('b'))
  await bench.cache.expect(bench.coming('c'))
  expect(await bench.held()).toBe('')
})

test('a pinned model counts for nothing and loses nothing', async () => {
  await using bench = await openBench({ cacheBytes: 1000 })
  await bench.fetch('a')
  bench.pin(true)
  await bench.fetch('b')
  await bench.fetch('c')
  expect(await bench.held()).toBe('abc')
  bench.pin(false)
  await bench.fetch('d')
  expect(await bench.held()).toBe('d')
})

test('a disk that fills gets back what the cache has, and says when that is not enough', async () => {
  await using bench = await openBench()
  for (const name of ['a', 'b', 'c'] as const) await bench.fetch(name)
  bench.disk = 3500
  await bench.fetch('d')
  expect(await bench.held()).toBe('bcd')
  bench.disk = 500
  const refused = bench.cache.expect(bench.coming('e'))
  await expect(refused).rejects.toMatchObject({ code: 'STORAGE' })
  // Nothing is written at a place of the cache by somebody who was refused.
  bench.cache.arrived(bench.coming('e'))
  expect(await bench.held()).toBe('')
})

test('a smaller budget holds from the next start on', async () => {
  await using bench = await openBench()
  for (const name of ['a', 'b', 'c'] as const) await bench.fetch(name)
  const net = { providedChanged: () => undefined }
  const modelsFolder = join(bench.coming('a').folder, '../..')
  const deps = { store: bench.store, net, log: silentLog, modelsFolder }
  await using work = openWork()
  const smaller = { keep: 'cache' as const, cacheBytes: 2500 }
  await new FileCache({ ...deps, work, clock: bench.clock }, smaller, () => false).open()
  expect(await bench.held()).toBe('bc')
})

test('keep none: dropped after the last reader, and by the next start at the latest', async () => {
  await using bench = await openBench({ keep: 'none' })
  await bench.fetch('a')
  bench.readers.add(files.a.root.toString())
  await bench.cache.left(files.a.root)
  expect(await bench.held()).toBe('a')
  bench.readers.clear()
  await bench.cache.left(files.a.root)
  expect(await bench.held()).toBe('')
  // A kill before that leaves it.
  await bench.fetch('b')
  await bench.cache.open()
  expect(await bench.held()).toBe('')
})

test('keep none: only what was fetched for a reader is dropped, and nothing of a pinned model', async () => {
  await using bench = await openBench({ keep: 'none' })
  const place = bench.coming('a').place
  await using partial = await bench.store.openPartial(partialSpec(join(place, '..'), 'a', files.a))
  await writeChunks(partial, files.a)
  await partial.publish()
  await bench.cache.left(files.a.root)
  expect(await bench.held()).toBe('a')
  await bench.fetch('b')
  bench.pin(true)
  await bench.cache.left(files.b.root)
  expect(await bench.held()).toBe('ab')
})

test('a file that goes into a folder of the user is not cached', async () => {
  await using bench = await openBench({ keep: 'none' })
  const coming = bench.coming('a')
  const place = join(coming.folder, '../../../elsewhere/a')
  await bench.cache.expect({ ...coming, folder: join(place, '..'), place })
  bench.store.addModel(testModel(join(place, '..'), { a: files.a }, { pinned: false }))
  await using partial = await bench.store.openPartial(partialSpec(join(place, '..'), 'a', files.a))
  await writeChunks(partial, files.a)
  await partial.publish()
  bench.cache.arrived(coming)
  await bench.cache.left(files.a.root)
  expect(bench.store.cachedFiles()).toEqual([])
  expect((await stat(place)).size).toBe(1000)
})

test('keep pin: the model of what is read is pinned', async () => {
  await using bench = await openBench({ keep: 'pin', cacheBytes: 500 })
  await bench.fetch('a')
  await bench.fetch('b')
  expect(await bench.held()).toBe('ab')
  expect(bench.store.model(bench.coming('a').model.manifest)?.pinned).toBe(true)
})
