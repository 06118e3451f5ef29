import { rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { silentLog } from '../../../src/core/log.ts'
import { minute } from '../../../src/core/units.ts'
import type { NewModel, Store } from '../../../src/store/store.ts'
import { FakeClock } from '../../support/fake-clock.ts'
import { openScratchFolder } from '../../support/scratch-folder.ts'
import {
  openTestStore,
  partialSpec,
  type TestFile,
  testFile,
  testModel,
  writeChunks,
} from '../../support/store-fixture.ts'

const files = { 'a.bin': testFile('a', [700, 300]), 'b.bin': testFile('b', [500, 500, 500]) }
const whole = [0, 1, 2]

interface Bench extends AsyncDisposable {
  readonly clock: FakeClock
  readonly store: Store
  readonly model: NewModel
  readonly folder: string
  /** As the gateway does, as far as these chunks. */
  fetch(path: keyof typeof files, chunks?: readonly number[]): Promise<string>
  /** As after a restart. */
  again(): Promise<Bench>
}

async function openBench(rest: Partial<NewModel> = {}): Promise<Bench> {
  await using opening = new AsyncDisposableStack()
  const scratch = opening.use(await openScratchFolder())
  const folder = scratch.file('models/org/model')
  const model = testModel(folder, files, { origin: 'pulled', pinned: false, ...rest })
  const clock = new FakeClock()
  const parts = opening.move()
  const open = async (): Promise<Bench> => {
    const store = await openTestStore(scratch.path, silentLog, clock)
    return {
      clock,
      store,
      model,
      folder,
      async fetch(path, chunks = whole) {
        const file: TestFile = files[path]
        const place = join(folder, path)
        store.cacheFile(place)
        await using partial = await store.openPartial(partialSpec(folder, path, file))
        await writeChunks(partial, file, chunks.slice(0, file.blocks.length))
        if (partial.held.isFull) await partial.publish()
        return place
      },
      async again() {
        await store[Symbol.asyncDispose]()
        return open()
      },
      async [Symbol.asyncDispose]() {
        await store[Symbol.asyncDispose]()
        await parts.disposeAsync()
      },
    }
  }
  const bench = await open()
  bench.store.addModel(model)
  return bench
}

async function read(store: Store, file: TestFile): Promise<void> {
  await store.readSpan(file.root, { offset: 0, end: 1 }, Buffer.alloc(1))
}

function paths(store: Store): string[] {
  return store.cachedFiles().map(({ place }) => place.split('/').at(-1) ?? '')
}

test('knows what was read longest ago, over a restart too', async () => {
  await using first = await openBench()
  await first.fetch('a.bin')
  await first.clock.advance(minute)
  await first.fetch('b.bin')
  expect(paths(first.store)).toEqual(['a.bin', 'b.bin'])
  await first.clock.advance(minute)
  await read(first.store, files['a.bin'])
  expect(paths(first.store)).toEqual(['b.bin', 'a.bin'])
  await using second = await first.again()
  expect(paths(second.store)).toEqual(['b.bin', 'a.bin'])
  expect(second.store.cachedFiles()).toMatchObject([
    { size: 1500, bytesHeld: 1500, pinned: false, servedAtMs: undefined },
    { size: 1000, bytesHeld: 1000, pinned: false, servedAtMs: undefined },
  ])
})

test('a kill loses the times of the last minutes only', async () => {
  await using bench = await openBench()
  await bench.fetch('a.bin')
  await bench.fetch('b.bin')
  await bench.clock.advance(9 * minute)
  await read(bench.store, files['a.bin'])
  await bench.clock.advance(2 * minute)
  // This read comes ten minutes after the last time that they were saved.
  await read(bench.store, files['b.bin'])
  await bench.clock.advance(minute)
  await read(bench.store, files['a.bin'])
  // Another reader of the same databases knows what a kill would leave.
  await using left = await openTestStore(join(bench.folder, '../../..'))
  expect(paths(left)).toEqual(['a.bin', 'b.bin'])
})

test('a chunk given to a peer is a read, and known as one of a peer', async () => {
  await using bench = await openBench()
  await bench.fetch('a.bin')
  await bench.fetch('b.bin')
  await bench.clock.advance(minute)
  await bench.store.readChunk(files['a.bin'].root, 0)
  const now = bench.clock.now()
  expect(bench.store.cachedFiles()).toMatchObject([
    { servedAtMs: undefined },
    { readAtMs: now, servedAtMs: now },
  ])
})

test('an evicted file is gone from the disk, and its model is known as before', async () => {
  await using bench = await openBench()
  const place = await bench.fetch('a.bin')
  const lost: unknown[] = []
  bench.store.onHeldChange(change => lost.push(change.lost))
  expect(await bench.store.evict(place)).toEqual({ filesDeleted: 1, bytesFreed: 1000, kept: [] })
  await expect(stat(place)).rejects.toMatchObject({ code: 'ENOENT' })
  expect(lost).toEqual([[[0, 2]]])
  expect(bench.store.present(files['a.bin'].root)).toBeUndefined()
  expect(bench.store.model(bench.model.manifest)).toMatchObject({ files: 2, bytesHeld: 0 })
  expect(bench.store.manifestBlock(bench.model.manifest)).toBeDefined()
  expect(paths(bench.store)).toEqual([])
  // And it can be fetched again.
  await bench.fetch('a.bin')
  expect(bench.store.present(files['a.bin'].root)?.isFull).toBe(true)
})

test('what was fetched in part is cached as far as it is here, and evicted too', async () => {
  await using bench = await openBench()
  const place = await bench.fetch('b.bin', [1])
  expect(bench.store.cachedFiles()).toMatchObject([{ size: 1500, bytesHeld: 500 }])
  expect(await bench.store.evict(place)).toMatchObject({ filesDeleted: 1 })
  expect(bench.store.present(files['b.bin'].root)).toBeUndefined()
})

test('nothing is evicted of a pinned model', async () => {
  await using bench = await openBench()
  const place = await bench.fetch('a.bin')
  bench.store.setPinned(bench.model.manifest, true)
  expect(bench.store.cachedFiles()).toMatchObject([{ pinned: true }])
  expect(await bench.store.evict(place)).toMatchObject({ filesDeleted: 0 })
  expect((await stat(place)).size).toBe(1000)
})

test('nothing is evicted that is being fetched', async () => {
  await using bench = await openBench()
  const place = join(bench.folder, 'a.bin')
  bench.store.cacheFile(place)
  const spec = partialSpec(bench.folder, 'a.bin', files['a.bin'])
  await using partial = await bench.store.openPartial(spec)
  await writeChunks(partial, files['a.bin'], [0])
  expect(await bench.store.evict(place)).toMatchObject({ filesDeleted: 0 })
  await writeChunks(partial, files['a.bin'], [1])
  await partial.publish()
  expect((await stat(place)).size).toBe(1000)
})

test('what was here before a reader came is not cached', async () => {
  await using bench = await openBench()
  const spec = partialSpec(bench.folder, 'b.bin', files['b.bin'])
  {
    await using partial = await bench.store.openPartial(spec)
    await writeChunks(partial, files['b.bin'], [0])
  }
  const place = await bench.fetch('b.bin')
  expect(bench.store.cachedFiles()).toEqual([])
  expect(await bench.store.evict(place)).toMatchObject({ filesDeleted: 0 })
})

test('what was pulled on purpose is not cached any more', async () => {
  await using bench = await openBench()
  await bench.fetch('a.bin')
  await bench.fetch('b.bin')
  const [a] = bench.model.files
  bench.store.addModel({ ...bench.model, files: a === undefined ? [] : [a] })
  expect(paths(bench.store)).toEqual(['b.bin'])
})

test('a file that its user changed stays where it is', async () => {
  await using bench = await openBench()
  const place = await bench.fetch('a.bin')
  await rm(place)
  await writeFile(place, 'mine now')
  expect(await bench.store.evict(place)).toEqual({ filesDeleted: 0, bytesFreed: 0, kept: [place] })
  expect((await stat(place)).size).toBe(8)
  expect(paths(bench.store)).toEqual([])
})

test('gc deletes what is cached, and forgets that it was', async () => {
  await using bench = await openBench()
  await bench.fetch('a.bin')
  expect(await bench.store.gc({ dryRun: false })).toMatchObject({ filesDeleted: 1 })
  bench.store.addModel(bench.model)
  const spec = partialSpec(bench.folder, 'a.bin', files['a.bin'])
  await using partial = await bench.store.openPartial(spec)
  await writeChunks(partial, files['a.bin'])
  await partial.publish()
  expect(bench.store.cachedFiles()).toEqual([])
})

test('goes with its model, even when the files of a model stay: nobody asked for it', async () => {
  await using bench = await openBench()
  bench.store.addModel(bench.model)
  const place = await bench.fetch('a.bin')
  expect(await bench.store.removeModel(bench.model.manifest, { deleteFiles: false })).toMatchObject(
    {
      filesDeleted: 1,
    },
  )
  await expect(stat(place)).rejects.toThrow('ENOENT')
})

test('stays without its model once that was promised to be kept', async () => {
  await using bench = await openBench()
  bench.store.addModel(bench.model)
  const place = await bench.fetch('a.bin')
  bench.store.setPinned(bench.model.manifest, true)
  await bench.store.removeModel(bench.model.manifest, { deleteFiles: false })
  expect((await stat(place)).isFile()).toBe(true)
})

test('is discarded when it comes after its model was removed, and not while a model wants it', async () => {
  await using bench = await openBench()
  bench.store.addModel(bench.model)
  const wanted = await bench.fetch('b.bin')
  expect((await bench.store.discard(wanted)).filesDeleted).toBe(0)
  await bench.store.removeModel(bench.model.manifest, { deleteFiles: false })
  const late = await bench.fetch('a.bin')
  expect((await bench.store.discard(late)).filesDeleted).toBe(1)
  await expect(stat(late)).rejects.toThrow('ENOENT')
})
