/** A store whose databases, files and folders are changed behind its back. */

import { execFileSync } from 'node:child_process'
import {
  appendFile,
  link,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { expect, test } from 'vitest'
import { equalBytes } from '../../src/core/bytes.ts'
import { ConflictError, IntegrityError, StorageError } from '../../src/core/errors.ts'
import { silentLog } from '../../src/core/log.ts'
import { seenForMs } from '../../src/store/holdings.ts'
import { openFilesMax } from '../../src/store/open-files.ts'
import type { Store } from '../../src/store/store.ts'
import { flipByteKeepingStamp } from '../support/bit-rot.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { openScratchFolder, type ScratchFolder } from '../support/scratch-folder.ts'
import {
  asNewFile,
  bytesOf,
  openTestStore,
  partialSpec,
  recordingLog,
  seedModel,
  testFile,
  testModel,
  writeChunks,
} from '../support/store-fixture.ts'

const weights = testFile(
  'weights',
  Array.from({ length: 200 }, () => 50),
)

/** A store with one seeded model, closed again. */
async function seededStore(scratch: ScratchFolder): Promise<void> {
  await using store = await openTestStore(scratch.path)
  await seedModel(store, scratch.file('user'), { 'weights.bin': weights }, { name: 'org/model' })
}

/** Opens the store as a node does that finds its index damaged, and imports what was lost. */
async function rebuild(scratch: ScratchFolder): Promise<void> {
  const { log, lines } = recordingLog()
  await using store = await openTestStore(scratch.path, log)
  expect(lines).toEqual(['warn: database damaged: moved aside'])
  expect((await readdir(scratch.path)).some(name => name.startsWith('index.db.damaged-'))).toBe(
    true,
  )
  expect(store.held(weights.root)).toBeUndefined()
  const [lost] = store.lostModels()
  expect(lost).toMatchObject({ name: 'org/model', pinned: true, folder: scratch.file('user') })
  if (lost === undefined) return

  // What the node does about it: hash the files again.
  for (const { place } of store.filesOf(lost.manifest))
    store.addFiles([await asNewFile(place, weights)])
  expect(store.lostModels()).toEqual([])
  expect(store.held(weights.root)?.isFull).toBe(true)
  expect((await store.readChunk(weights.root, 7)).length).toBe(50)
}

test.for([
  ['of random bytes', async (path: string) => writeFile(path, bytesOf('noise', 100_000))],
  ['of text', async (path: string) => writeFile(path, 'not a database')],
  [
    'cut in the middle',
    async (path: string) => truncate(path, Math.floor((await stat(path)).size / 2 / 4096) * 4096),
  ],
  [
    'with one page overwritten',
    async (path: string) => {
      await using file = await open(path, 'r+')
      await file.write(bytesOf('page', 4096), 0, 4096, 4096 * 3)
    },
  ],
  [
    'replaced by a folder',
    async (path: string) => {
      await rm(path)
      await mkdir(path)
    },
  ],
] as const)('moves aside an index %s and rebuilds it by re-import', async ([, damage]) => {
  await using scratch = await openScratchFolder()
  await seededStore(scratch)
  await damage(scratch.file('index.db'))
  await rebuild(scratch)
  expect(await readdir(scratch.file('user'))).toEqual(['weights.bin'])
})

test.for(['deleted', 'emptied'])('notices an index that was %s', async how => {
  await using scratch = await openScratchFolder()
  await seededStore(scratch)
  await rm(scratch.file('index.db'))
  if (how === 'emptied') await writeFile(scratch.file('index.db'), '')
  await using store = await openTestStore(scratch.path)
  expect(store.lostModels().map(({ name }) => name)).toEqual(['org/model'])
  expect(store.models().map(({ state }) => state)).toEqual(['partial'])
})

test('lists a lost model no more once its files were looked for', async () => {
  await using scratch = await openScratchFolder()
  await seededStore(scratch)
  await rm(scratch.file('index.db'))
  await rm(scratch.file('user/weights.bin'))
  await using store = await openTestStore(scratch.path)
  const [lost] = store.lostModels()
  if (lost !== undefined) store.clearLost(lost.manifest)
  expect(store.lostModels()).toEqual([])
})

test.for(['damaged', 'gone'])(
  'goes back to the models of the last start when the state is %s',
  async how => {
    await using scratch = await openScratchFolder()
    await seededStore(scratch)
    // A start that finds all well keeps a copy.
    await (await openTestStore(scratch.path))[Symbol.asyncDispose]()
    if (how === 'gone') await rm(scratch.file('state.db'))
    else await writeFile(scratch.file('state.db'), bytesOf('noise', 50_000))
    const { log, lines } = recordingLog()
    await using store = await openTestStore(scratch.path, log)
    expect(lines.some(line => line.startsWith('error: models, names and pins are back'))).toBe(true)
    expect(store.models()).toMatchObject([{ name: 'org/model', pinned: true, state: 'complete' }])
    expect(store.lostModels()).toEqual([])
  },
)

test.for(['gone', 'damaged'])('starts without models when the copy is %s too', async how => {
  await using scratch = await openScratchFolder()
  await seededStore(scratch)
  await writeFile(scratch.file('state.db'), bytesOf('noise', 50_000))
  if (how === 'gone') await rm(scratch.file('state.db.backup'))
  else await writeFile(scratch.file('state.db.backup'), 'not a database')
  const { log, lines } = recordingLog()
  await using store = await openTestStore(scratch.path, log)
  expect(lines.some(line => line.startsWith('error: models, names and pins are lost'))).toBe(true)
  expect(store.models()).toEqual([])
  expect(await readdir(scratch.file('user'))).toEqual(['weights.bin'])
})

test.for(['index.db', 'state.db'])(
  'refuses a newer schema in %s and leaves it alone',
  async name => {
    await using scratch = await openScratchFolder()
    await seededStore(scratch)
    const db = new DatabaseSync(scratch.file(name))
    db.exec('PRAGMA user_version = 99')
    db.close()
    const before = await readFile(scratch.file(name))
    const opening = openTestStore(scratch.path)
    await expect(opening).rejects.toThrow(StorageError)
    await expect(opening).rejects.toMatchObject({ hint: expect.stringContaining('upgrade') })
    expect((await readFile(scratch.file(name))).equals(before)).toBe(true)
  },
)

test('never serves any of 40 flipped bits', async () => {
  await using scratch = await openScratchFolder()
  await using store = await openTestStore(scratch.path)
  await seedModel(store, scratch.file('user'), { 'weights.bin': weights })
  const flipped = new Set(Array.from({ length: 40 }, (_, n) => (n * 67) % weights.table.count))
  for (const chunk of flipped) {
    await flipByteKeepingStamp(
      scratch.file('user/weights.bin'),
      weights.table.offset(chunk) + (chunk % 50),
    )
  }
  const refused: number[] = []
  for (const [chunk, { bytes }] of weights.blocks.entries()) {
    const read = await store.readChunk(weights.root, chunk).catch((error: unknown) => error)
    const isRight = read instanceof Uint8Array && equalBytes(read, bytes)
    if (read instanceof IntegrityError) refused.push(chunk)
    expect(isRight).toBe(!flipped.has(chunk))
  }
  expect(refused).toEqual([...flipped].toSorted((a, b) => a - b))
  expect(store.held(weights.root)?.count).toBe(weights.table.count - flipped.size)
})

/** Chunk 1 rots after it was read once; `later` is what happens before it is read again. */
async function readRotten(later: (store: Store, clock: FakeClock) => Promise<void> | void) {
  const clock = new FakeClock()
  await using scratch = await openScratchFolder()
  await using store = await openTestStore(scratch.path, silentLog, clock)
  await seedModel(store, scratch.file('user'), { 'weights.bin': weights })
  await store.readChunk(weights.root, 1)
  await flipByteKeepingStamp(scratch.file('user/weights.bin'), weights.table.offset(1))
  await later(store, clock)
  const read = await store.readChunk(weights.root, 1).catch((error: unknown) => error)
  return { read, isHeld: store.held(weights.root)?.has(1) }
}

test('a chunk that was hashed lately is not hashed again', async () => {
  const { read, isHeld } = await readRotten((_, clock) => clock.advance(seenForMs - 1))
  expect(read).toBeInstanceOf(Uint8Array)
  expect(isHeld).toBe(true)
})

test.for([
  ['a recheck', (store: Store) => store.recheck()],
  ['six hours', (_: Store, clock: FakeClock) => clock.advance(seenForMs)],
] as const)('finds rot that came after the first read, after %s', async ([, later]) => {
  const { read, isHeld } = await readRotten(later)
  expect(read).toBeInstanceOf(IntegrityError)
  expect(isHeld).toBe(false)
})

type Edit = (place: string) => Promise<void>

test.for<[string, Edit]>([
  ['appended to', place => appendFile(place, 'x')],
  ['cut', place => truncate(place, 10)],
  ['rewritten', place => writeFile(place, Buffer.alloc(weights.bytes.length))],
  [
    'replaced by another file',
    async place => {
      await writeFile(`${place}.new`, weights.bytes)
      await rename(`${place}.new`, place)
    },
  ],
  [
    'replaced by a folder',
    async place => {
      await rm(place)
      await mkdir(place)
    },
  ],
  [
    'replaced by a named pipe',
    async place => {
      await rm(place)
      execFileSync('mkfifo', [place])
    },
  ],
  ['deleted', place => rm(place)],
])('withdraws a file that was read before and then %s', async ([, edit]) => {
  await using scratch = await openScratchFolder()
  await using store = await openTestStore(scratch.path)
  const model = await seedModel(store, scratch.file('user'), { 'weights.bin': weights })
  // Open, cached and hashed: nothing but a look at the path can show the change.
  await store.readChunk(weights.root, 3)
  await edit(scratch.file('user/weights.bin'))
  await expect(store.readChunk(weights.root, 3)).rejects.toThrow(IntegrityError)
  expect(store.held(weights.root)?.count).toBe(0)
  expect(store.model(model.manifest)?.state).toBe('changed')
})

test('reads from more files than it keeps open', async () => {
  await using scratch = await openScratchFolder()
  await using store = await openTestStore(scratch.path)
  const files = Array.from({ length: openFilesMax + 40 }, (_, n) => testFile(`f${n}`, [10]))
  const named = Object.fromEntries(files.map((file, n) => [`${n}.bin`, file]))
  await seedModel(store, scratch.file('user'), named)
  const before = await openDescriptors()
  for (let round = 0; round < 2; round += 1) {
    const reads = files.map(async ({ root }) => (await store.readChunk(root, 0)).length)
    expect(await Promise.all(reads)).toEqual(files.map(() => 10))
  }
  // Closing is not waited for by the reads.
  await store.refresh()
  expect((await openDescriptors()) - before).toBeLessThanOrEqual(openFilesMax)
})

async function openDescriptors(): Promise<number> {
  return (await readdir('/proc/self/fd')).length
}

async function expectNothingOutside(scratch: ScratchFolder): Promise<void> {
  expect(await readdir(scratch.file('outside'))).toEqual([])
}

test('follows no link where the partial folder should be', async () => {
  await using scratch = await openScratchFolder()
  await using store = await openTestStore(scratch.path)
  await mkdir(scratch.file('outside'))
  await mkdir(scratch.file('target'))
  await symlink(scratch.file('outside'), scratch.file('target/.commonweight'))
  const opening = store.openPartial(partialSpec(scratch.file('target'), 'weights.bin', weights))
  await expect(opening).rejects.toThrow(StorageError)
  await expectNothingOutside(scratch)
})

test('writes nothing outside when folders are swapped for links during a pull', async () => {
  await using scratch = await openScratchFolder()
  await using store = await openTestStore(scratch.path)
  const target = scratch.file('target')
  await mkdir(scratch.file('outside'))
  await mkdir(join(target, 'sub'), { recursive: true })
  await using partial = await store.openPartial(partialSpec(target, 'sub/weights.bin', weights))
  await writeChunks(partial, weights, [0])

  await rename(join(target, '.commonweight'), join(target, 'moved'))
  await symlink(scratch.file('outside'), join(target, '.commonweight'))
  await rename(join(target, 'sub'), join(target, 'sub.old'))
  await symlink(scratch.file('outside'), join(target, 'sub'))
  await writeChunks(partial, weights)
  await expect(partial.publish()).rejects.toThrow(StorageError)
  await expectNothingOutside(scratch)

  await rm(join(target, 'sub'))
  await rm(join(target, '.commonweight'))
  await rename(join(target, 'moved'), join(target, '.commonweight'))
  await partial.publish()
  expect((await readFile(join(target, 'sub/weights.bin'))).equals(weights.bytes)).toBe(true)
})

test('does not write through a link that lies where the file should go', async () => {
  await using scratch = await openScratchFolder()
  await using store = await openTestStore(scratch.path)
  const spec = partialSpec(scratch.file('target'), 'weights.bin', weights)
  await mkdir(scratch.file('target'))
  await writeFile(scratch.file('victim'), 'untouched')
  {
    await using partial = await store.openPartial(spec)
    await writeChunks(partial, weights)
    await symlink(scratch.file('victim'), spec.place)
    await expect(partial.publish()).rejects.toThrow(ConflictError)
  }
  await expect(store.openPartial(spec)).rejects.toThrow(ConflictError)
  expect(await readFile(scratch.file('victim'), 'utf8')).toBe('untouched')
})

test('does not write through a second name of the partial file', async () => {
  await using scratch = await openScratchFolder()
  await using store = await openTestStore(scratch.path)
  const spec = partialSpec(scratch.file('target'), 'weights.bin', weights)
  const partFolder = scratch.file('target/.commonweight')
  await (await store.openPartial(spec))[Symbol.asyncDispose]()
  const [part = ''] = await readdir(partFolder)
  await rm(join(partFolder, part))
  await writeFile(scratch.file('victim'), Buffer.alloc(weights.table.size))
  await link(scratch.file('victim'), join(partFolder, part))
  await using partial = await store.openPartial(spec)
  await writeChunks(partial, weights)
  expect((await readFile(scratch.file('victim'))).every(byte => byte === 0)).toBe(true)
})

test('withdraws the chunks of a partial file that somebody wrote into, and fetches them again', async () => {
  await using scratch = await openScratchFolder()
  await using store = await openTestStore(scratch.path)
  const target = scratch.file('target')
  store.addModel(testModel(target, { 'weights.bin': weights }, { origin: 'pulled' }))
  await using partial = await store.openPartial(partialSpec(target, 'weights.bin', weights))
  await writeChunks(partial, weights)
  const [part = ''] = await readdir(join(target, '.commonweight'))
  await using file = await open(join(target, '.commonweight', part), 'r+')
  await file.write(Buffer.alloc(10), 0, 10, weights.table.offset(5))
  await file.write(Buffer.alloc(10), 0, 10, weights.table.offset(9))

  await expect(store.readChunk(weights.root, 5)).rejects.toThrow(IntegrityError)
  expect(partial.held.has(5)).toBe(false)
  await writeChunks(partial, weights, [5])
  // Chunk 9 was not read; the whole SHA-256 finds it.
  await expect(partial.publish()).rejects.toThrow(StorageError)
  expect([...partial.held.runs()]).toEqual([
    [0, 9],
    [10, 200],
  ])
  await writeChunks(partial, weights, [9])
  await partial.publish()
  expect((await readFile(join(target, 'weights.bin'))).equals(weights.bytes)).toBe(true)
})

test('keeps serving while a file moves from its partial to its place', async () => {
  await using scratch = await openScratchFolder()
  await using store = await openTestStore(scratch.path)
  const target = scratch.file('target')
  store.addModel(testModel(target, { 'weights.bin': weights }, { origin: 'pulled' }))
  await using partial = await store.openPartial(partialSpec(target, 'weights.bin', weights))
  await writeChunks(partial, weights)
  const done = partial.publish()
  let finished = false
  const reading = readUntil(store, () => finished)
  await done
  finished = true
  expect(await reading).toBeGreaterThan(0)
  expect(store.held(weights.root)?.isFull).toBe(true)
})

async function readUntil(store: Store, isDone: () => boolean): Promise<number> {
  let reads = 0
  while (!isDone()) {
    await store.readChunk(weights.root, (reads * 13) % weights.table.count)
    reads += 1
  }
  return reads
}
