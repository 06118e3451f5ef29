/**
 * What every Store does, whatever it keeps its knowledge in. An implementation runs this with
 * `storeContract(name, open)`; `open` is called twice on one folder to see what survives a restart.
 */

import { writeSync } from 'node:fs'
import { mkdir, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { equalBytes } from '../../src/core/bytes.ts'
import { rawCid } from '../../src/core/cid.ts'
import {
  ConflictError,
  IntegrityError,
  InvalidInputError,
  NotFoundError,
  StorageError,
  UnavailableError,
} from '../../src/core/errors.ts'
import { stampOf } from '../../src/core/file-stamp.ts'
import { type VerifiedBlock, verifyDigest } from '../../src/dag/verify.ts'
import type { WriteTarget } from '../../src/store/partial.ts'
import type { HeldChange, ModelOrigin, PartialSpec, Store } from '../../src/store/store.ts'
import { flipByteKeepingStamp } from '../support/bit-rot.ts'
import { openScratchFolder, type ScratchFolder } from '../support/scratch-folder.ts'
import {
  asNewFile,
  fileOf,
  partialSpec,
  seedModel,
  type TestFile,
  testFile,
  testModel,
  writeChunks,
  writeTestFile,
} from '../support/store-fixture.ts'

export function storeContract(name: string, open: (folder: string) => Promise<Store>): void {
  describe(`${name} is a store:`, () => {
    let scratch: ScratchFolder
    let store: Store
    let user: string
    let models: string

    beforeEach(async () => {
      scratch = await openScratchFolder()
      user = scratch.file('user')
      models = scratch.file('models')
      store = await open(scratch.path)
    })

    afterEach(async () => {
      await store[Symbol.asyncDispose]()
      await scratch[Symbol.asyncDispose]()
    })

    async function reopen(): Promise<void> {
      await store[Symbol.asyncDispose]()
      store = await open(scratch.path)
    }

    function recordChanges(): HeldChange[] {
      const changes: HeldChange[] = []
      store.onHeldChange(change => void changes.push(change))
      return changes
    }

    const weights = testFile('weights', [100, 200, 300])
    const config = testFile('config', [50])
    const nothing = testFile('nothing', [])

    describe('serving', () => {
      test('gives out the chunks of a seeded file', async () => {
        await seedModel(store, user, { 'weights.bin': weights })
        expect(store.held(weights.root)?.count).toBe(3)
        const table = store.chunkTable(weights.root)
        expect(table !== undefined && equalBytes(table.bytes, weights.table.bytes)).toBe(true)
        for (const [index, { bytes }] of weights.blocks.entries()) {
          expect(Buffer.compare(await store.readChunk(weights.root, index), bytes)).toBe(0)
        }
      })

      test('answers for the raw CID of a whole file SHA-256 as well', async () => {
        await seedModel(store, user, { 'weights.bin': weights })
        const key = rawCid(weights.sha256)
        expect(store.held(key)?.count).toBe(3)
        expect(store.chunkTable(key)?.count).toBe(3)
        expect(
          Buffer.compare(await store.readChunk(key, 1), weights.blocks[1]?.bytes ?? key.bytes),
        ).toBe(0)
      })

      test('gives each caller a buffer of its own', async () => {
        await seedModel(store, user, { 'weights.bin': weights })
        const first = await store.readChunk(weights.root, 0)
        first.fill(0)
        const second = await store.readChunk(weights.root, 0)
        expect(Buffer.compare(second, weights.blocks[0]?.bytes ?? first)).toBe(0)
      })

      test('knows nothing of a root that is not here, nor of a chunk past the end', async () => {
        await seedModel(store, user, { 'config.json': config })
        expect(store.held(weights.root)).toBeUndefined()
        expect(store.chunkTable(weights.root)).toBeUndefined()
        await expect(store.readChunk(weights.root, 0)).rejects.toThrow(NotFoundError)
        await expect(store.readChunk(config.root, 1)).rejects.toThrow(NotFoundError)
        await expect(store.readChunk(config.root, -1)).rejects.toThrow(NotFoundError)
      })

      test('serves nothing of a model that is not seeded', async () => {
        await seedModel(store, user, { 'weights.bin': weights }, { seeding: false })
        expect(store.held(weights.root)).toBeUndefined()
        await expect(store.readChunk(weights.root, 0)).rejects.toThrow(NotFoundError)
        expect([...store.providedKeys()]).toEqual([])
        expect(await store.findFile(weights.sha256)).toEqual([join(user, 'weights.bin')])
      })

      test('withdraws an edited file, and serves it again once it is as it was', async () => {
        const { manifest } = await seedModel(store, user, { 'weights.bin': weights })
        const place = join(user, 'weights.bin')
        await rename(place, `${place}.old`)
        await writeFile(place, Buffer.alloc(weights.bytes.length))
        const root = weights.root.toString()
        const changes = recordChanges()
        await expect(store.readChunk(weights.root, 0)).rejects.toThrow(IntegrityError)
        expect(store.held(weights.root)?.count).toBe(0)
        expect(store.model(manifest)?.state).toBe('changed')
        expect(store.filesOf(manifest).map(file => file.state)).toEqual(['changed'])
        expect(changes.map(shown)).toEqual([{ root, gained: [], lost: [[0, 3]] }])

        await rename(`${place}.old`, place)
        await store.refresh()
        expect(store.held(weights.root)?.count).toBe(3)
        expect(store.model(manifest)?.state).toBe('complete')
        expect(changes.map(shown).at(-1)).toEqual({ root, gained: [[0, 3]], lost: [] })
        expect((await store.readChunk(weights.root, 0)).length).toBe(100)
      })

      test('notices at a refresh that a file is gone', async () => {
        const { manifest } = await seedModel(store, user, { 'weights.bin': weights })
        await rm(join(user, 'weights.bin'))
        await store.refresh(manifest)
        expect(store.model(manifest)).toMatchObject({ state: 'changed', bytesHeld: 0 })
        expect(store.held(weights.root)?.count).toBe(0)
      })

      test('reads a chunk from another copy when one was damaged', async () => {
        await seedModel(store, join(user, 'a'), { 'weights.bin': weights })
        await seedModel(store, join(user, 'b'), { 'weights.bin': weights })
        await rm(join(user, 'a', 'weights.bin'))
        expect((await store.readChunk(weights.root, 2)).length).toBe(300)
        expect(store.held(weights.root)?.count).toBe(3)
      })

      test('reads a chunk from another file that shares it', async () => {
        const shared = fileOf([
          Buffer.from(config.bytes),
          Buffer.from(weights.bytes.subarray(100, 300)),
        ])
        await seedModel(store, join(user, 'a'), { 'weights.bin': weights })
        await seedModel(store, join(user, 'b'), { 'other.bin': shared })
        const place = join(user, 'a', 'weights.bin')
        await flipByteKeepingStamp(place, 150)
        const read = await store.readChunk(weights.root, 1)
        expect(Buffer.compare(read, weights.blocks[1]?.bytes ?? read.subarray(1))).toBe(0)
        expect(store.held(weights.root)?.has(1)).toBe(false)
      })

      test('never serves a flipped bit, though the stamp is the same', async () => {
        const { manifest } = await seedModel(store, user, { 'weights.bin': weights })
        await flipByteKeepingStamp(join(user, 'weights.bin'), 150)
        await expect(store.readChunk(weights.root, 1)).rejects.toThrow(IntegrityError)
        await expect(store.readChunk(weights.root, 1)).rejects.toThrow(NotFoundError)
        expect((await store.readChunk(weights.root, 0)).length).toBe(100)
        const [file] = store.filesOf(manifest)
        expect(file).toMatchObject({ state: 'changed', chunks: 3, chunksHeld: 2 })
        expect(store.model(manifest)).toMatchObject({
          state: 'changed',
          bytes: 600,
          bytesHeld: 400,
        })
        await reopen()
        expect(store.held(weights.root)?.has(1)).toBe(false)
      })

      test('stops telling a listener that was removed', async () => {
        const told: HeldChange[] = []
        const stop = store.onHeldChange(change => void told.push(change))
        stop()
        await seedModel(store, user, { 'weights.bin': weights })
        expect(told).toEqual([])
      })
    })

    describe('files', () => {
      test('knows a place again by its stamp', async () => {
        await seedModel(store, user, { 'weights.bin': weights })
        const place = join(user, 'weights.bin')
        const { stamp } = await asNewFile(place, weights)
        expect(store.fileAt(place, stamp)?.root.equals(weights.root)).toBe(true)
        expect(store.fileAt(place, { ...stamp, mtimeNs: stamp.mtimeNs + 1n })).toBeUndefined()
        expect(store.fileAt(join(user, 'other.bin'), stamp)).toBeUndefined()
      })

      test('keeps a stamp to the nanosecond over a restart', async () => {
        await seedModel(store, user, { 'weights.bin': weights })
        const place = join(user, 'weights.bin')
        await reopen()
        const { stamp } = await asNewFile(place, weights)
        expect(store.fileAt(place, stamp)?.stamp).toEqual(stamp)
      })

      test('finds whole files and single chunks, and not those that changed', async () => {
        await seedModel(store, join(user, 'a'), { 'weights.bin': weights })
        await seedModel(store, join(user, 'b'), { 'weights.bin': weights })
        await rm(join(user, 'a', 'weights.bin'))
        const place = join(user, 'b', 'weights.bin')
        expect(await store.findFile(weights.sha256)).toEqual([place])
        expect(store.findChunk(weights.table.digest(1))).toEqual([
          { place, offset: 100, length: 200 },
        ])
        expect(store.findChunk(config.table.digest(0))).toEqual([])
      })

      test('quarantines chunks until they are confirmed', async () => {
        const { manifest } = await seedModel(store, user, { 'weights.bin': weights })
        const place = join(user, 'weights.bin')
        const changes = recordChanges()
        store.quarantine(place, [0, 2])
        expect([...(store.held(weights.root)?.runs() ?? [])]).toEqual([[1, 2]])
        await expect(store.readChunk(weights.root, 0)).rejects.toThrow(NotFoundError)
        expect(store.model(manifest)).toMatchObject({ state: 'changed', bytesHeld: 200 })

        const { stamp } = await asNewFile(place, weights)
        store.confirm(place, stamp)
        expect(store.held(weights.root)?.isFull).toBe(true)
        expect(store.model(manifest)?.state).toBe('complete')
        expect(changes.map(({ gained, lost }) => ({ gained, lost }))).toEqual([
          {
            gained: [],
            lost: [
              [0, 1],
              [2, 3],
            ],
          },
          {
            gained: [
              [0, 1],
              [2, 3],
            ],
            lost: [],
          },
        ])
      })

      test('believes a touched file again, but for its damaged chunks', async () => {
        await seedModel(store, user, { 'weights.bin': weights })
        const place = join(user, 'weights.bin')
        await utimes(place, 1, 1)
        await store.refresh()
        expect(store.held(weights.root)?.count).toBe(0)
        store.confirm(place, stampOf(await stat(place, { bigint: true })), [1])
        expect([...(store.held(weights.root)?.runs() ?? [])]).toEqual([
          [0, 1],
          [2, 3],
        ])
      })

      test('refuses a file whose stamp and table do not fit', async () => {
        const file = await writeTestFile(join(user, 'weights.bin'), weights)
        expect(() => store.addFiles([{ ...file, table: config.table }])).toThrow(InvalidInputError)
        expect(() => store.addFiles([{ ...file, place: 'weights.bin' }])).toThrow(InvalidInputError)
      })

      test('forgets the old bytes of a place that was imported again', async () => {
        const { manifest } = await seedModel(store, user, { 'weights.bin': weights })
        store.addFiles([await writeTestFile(join(user, 'weights.bin'), config)])
        expect(store.held(weights.root)?.count).toBe(0)
        expect(store.filesOf(manifest).map(file => file.state)).toEqual(['changed'])
      })
    })

    describe('models', () => {
      test('shows what is wanted and what is held', async () => {
        const files = { 'weights.bin': weights, 'config.json': config, 'empty.txt': nothing }
        const { manifest } = await seedModel(store, user, files, { name: 'org/model' })
        expect(store.model(manifest)).toMatchObject({
          name: 'org/model',
          origin: 'seeded',
          state: 'complete',
          pinned: true,
          seeding: true,
          files: 3,
          bytes: 650,
          bytesHeld: 650,
        })
        await reopen()
        expect(store.models().map(model => model.manifest.toString())).toEqual([
          manifest.toString(),
        ])
        expect(store.manifestBlock(manifest)).toBeDefined()
      })

      test('shows a file that is not here as missing, with its size', () => {
        const model = testModel(user, { 'weights.bin': weights })
        expect(store.addModel(model)).toMatchObject({ state: 'partial', bytes: 600, bytesHeld: 0 })
        const [file] = store.filesOf(model.manifest)
        expect(file).toMatchObject({ state: 'missing', size: 600, chunks: 0, chunksHeld: 0 })
      })

      test('moves a name to the model that got it last', async () => {
        const first = await seedModel(store, join(user, 'a'), { 'config.json': config })
        const second = await seedModel(store, join(user, 'b'), { 'config.json': config })
        store.setName(first.manifest, 'org/model')
        store.setName(second.manifest, 'org/model')
        expect(store.model(first.manifest)?.name).toBeUndefined()
        expect(store.model(second.manifest)?.name).toBe('org/model')
      })

      test('keeps name and time when a model is added again, and adds up its files', () => {
        const files = { 'weights.bin': weights, 'config.json': config }
        const whole = testModel(user, files, { name: 'org/model' })
        const added = store.addModel({ ...whole, files: whole.files.slice(0, 1) })
        const again = store.addModel({ ...whole, name: undefined, files: whole.files.slice(1) })
        expect(again).toMatchObject({ name: 'org/model', files: 2, addedAtMs: added.addedAtMs })
      })

      test('pins and unpins', async () => {
        const { manifest } = await seedModel(store, user, { 'config.json': config })
        store.setPinned(manifest, false)
        expect(store.model(manifest)?.pinned).toBe(false)
        await reopen()
        expect(store.model(manifest)?.pinned).toBe(false)
      })

      test('says so when a model is not held', async () => {
        const { manifest } = testModel(user, { 'config.json': config })
        expect(store.model(manifest)).toBeUndefined()
        expect(() => store.filesOf(manifest)).toThrow(NotFoundError)
        expect(() => store.setPinned(manifest, true)).toThrow(NotFoundError)
        await expect(store.removeModel(manifest, { deleteFiles: false })).rejects.toThrow(
          NotFoundError,
        )
      })

      test('provides manifest, roots and SHA-256 of what is held, each once', async () => {
        const files = { 'weights.bin': weights, 'config.json': config, 'copy.json': config }
        const { manifest } = await seedModel(store, user, files)
        const keys = [...store.providedKeys()].map(key => key.toString())
        // The root of a file of one chunk is the raw CID of its SHA-256.
        const expected = [manifest, weights.root, rawCid(weights.sha256), config.root]
        expect(keys.toSorted()).toEqual(expected.map(key => key.toString()).toSorted())
      })

      test('provides the root of a partial file, and nothing before its first chunk', async () => {
        const model = testModel(user, { 'weights.bin': weights }, { origin: 'pulled' })
        store.addModel(model)
        expect([...store.providedKeys()]).toEqual([])
        await using partial = await store.openPartial(partialSpec(user, 'weights.bin', weights))
        await writeChunks(partial, weights, [1])
        const keys = [...store.providedKeys()].map(key => key.toString())
        expect(keys).toEqual([model.manifest.toString(), weights.root.toString()])
      })

      test('remembers pending pulls', async () => {
        store.putPending({ id: 'one', request: '{}' })
        store.putPending({ id: 'two', request: '{"a":1}' })
        store.deletePending('one')
        await reopen()
        expect(store.pending()).toEqual([{ id: 'two', request: '{"a":1}' }])
      })

      test('has lost nothing after an ordinary restart', async () => {
        await seedModel(store, user, { 'config.json': config })
        await reopen()
        expect(store.lostModels()).toEqual([])
      })
    })

    describe('removing', () => {
      test('never deletes a file of the user', async () => {
        const { manifest } = await seedModel(store, user, { 'weights.bin': weights })
        const removed = await store.removeModel(manifest, { deleteFiles: true })
        expect(removed).toEqual({
          filesDeleted: 0,
          bytesFreed: 0,
          kept: [join(user, 'weights.bin')],
        })
        expect(await readFile(join(user, 'weights.bin'))).toEqual(weights.bytes)
        expect(store.model(manifest)).toBeUndefined()
        expect(store.held(weights.root)).toBeUndefined()
      })

      test('deletes files of our models folder when asked, and the folders that are then empty', async () => {
        const folder = join(models, 'org', 'model')
        const rest = { origin: 'pulled' } as const
        const { manifest } = await seedModel(store, folder, { 'a/weights.bin': weights }, rest)
        const removed = await store.removeModel(manifest, { deleteFiles: true })
        expect(removed).toEqual({ filesDeleted: 1, bytesFreed: 600, kept: [] })
        expect(await readdir(models)).toEqual([])
      })

      test('leaves files in our models folder when not asked to delete them', async () => {
        const folder = join(models, 'org', 'model')
        const { manifest } = await seedModel(store, folder, { 'weights.bin': weights })
        await store.removeModel(manifest, { deleteFiles: false })
        expect(await readdir(folder)).toEqual(['weights.bin'])
      })

      test('keeps a file of our models folder that was changed by hand', async () => {
        const folder = join(models, 'm')
        const { manifest } = await seedModel(store, folder, { 'config.json': config })
        await writeFile(join(folder, 'config.json'), 'mine now')
        const removed = await store.removeModel(manifest, { deleteFiles: true })
        expect(removed.kept).toEqual([join(folder, 'config.json')])
        expect(await readFile(join(folder, 'config.json'), 'utf8')).toBe('mine now')
      })

      test('keeps a file that another model wants', async () => {
        const folder = join(models, 'm')
        const both = { 'weights.bin': weights, 'config.json': config }
        const { manifest } = await seedModel(store, folder, both)
        await seedModel(store, folder, { 'config.json': config })
        expect(await store.removeModel(manifest, { deleteFiles: true })).toMatchObject({
          filesDeleted: 1,
        })
        expect(await readdir(folder)).toEqual(['config.json'])
        expect(store.held(config.root)?.isFull).toBe(true)
      })

      test('deletes what was fetched of a model that was never finished', async () => {
        const model = testModel(user, { 'weights.bin': weights }, { origin: 'pulled' })
        store.addModel(model)
        const partial = await store.openPartial(partialSpec(user, 'weights.bin', weights))
        await writeChunks(partial, weights, [0])
        const removing = store.removeModel(model.manifest, { deleteFiles: true })
        await expect(removing).rejects.toThrow(ConflictError)
        await partial[Symbol.asyncDispose]()
        expect(await store.removeModel(model.manifest, { deleteFiles: false })).toMatchObject({
          filesDeleted: 1,
          kept: [],
        })
        expect(await readdir(user)).toEqual([])
      })

      test('collects unpinned pulls, strays and nothing else', async () => {
        const pulled = { origin: 'pulled', pinned: false } as const
        const kept = await seedModel(
          store,
          join(models, 'kept'),
          { 'a.bin': weights },
          { origin: 'pulled' },
        )
        const own = await seedModel(store, user, { 'b.bin': weights }, { pinned: false })
        const away = await seedModel(store, join(user, 'to'), { 'c.bin': weights }, pulled)
        const gone = await seedModel(store, join(models, 'gone'), { 'd.bin': config }, pulled)
        const stray = join(models, 'kept', '.commonweight', 'stray.part')
        await mkdir(join(models, 'kept', '.commonweight'))
        await writeFile(stray, 'x')
        // Of mirrors: one that was given up long ago, and one that runs.
        const long = new Date(Date.now() - 2 * 24 * 3_600_000)
        const mirrored = join(models, 'mirrored', '.commonweight')
        await mkdir(mirrored, { recursive: true })
        for (const name of ['old.hub', 'old.held', 'new.hub']) {
          await writeFile(join(mirrored, name), 'x')
          if (name.startsWith('old')) await utimes(join(mirrored, name), long, long)
        }

        const planned = await store.gc({ dryRun: true })
        expect(planned.filesDeleted).toBe(4)
        expect(await readdir(join(models, 'gone'))).toEqual(['d.bin'])
        expect(await store.gc({ dryRun: false })).toEqual(planned)
        expect(await readdir(models)).toEqual(['kept', 'mirrored'])
        expect(await readdir(mirrored)).toEqual(['new.hub'])
        expect(await readdir(join(models, 'kept'))).toEqual(['a.bin'])
        const left = store.models().map(({ manifest }) => manifest.toString())
        expect(left).toEqual([kept, own, away].map(({ manifest }) => manifest.toString()))
        expect(left).not.toContain(gone.manifest.toString())
        expect(store.chunkTable(config.root)).toBeUndefined()
        expect(store.findChunk(config.table.digest(0))).toEqual([])
        expect(store.held(weights.root)?.isFull).toBe(true)
      })
    })

    describe('downloading files of one small chunk', () => {
      const small = Array.from({ length: 150 }, (_, index) => testFile(`small ${index}`, [40]))
      const pathOf = (index: number): string => join(`sub-${index % 3}`, `${index}.json`)

      test('publishes many at once, each whole, and tells of each once', async () => {
        const wanted = Object.fromEntries(small.map((file, index) => [pathOf(index), file]))
        store.addModel(testModel(user, wanted, { origin: 'pulled' }))
        const changes = recordChanges()
        const files = await Promise.all(
          small.map(async (file, index) => {
            await using partial = await store.openPartial(partialSpec(user, pathOf(index), file))
            if (index % 2 === 0) await writeChunks(partial, file)
            else {
              await partial.writeThrough(0, target => {
                writeOutside(target, file.bytes)
                return Promise.resolve()
              })
            }
            return await partial.publish()
          }),
        )
        await store.tidy(user)
        expect((await readdir(user)).toSorted()).toEqual(['sub-0', 'sub-1', 'sub-2'])
        for (const [index, { place, stamp }] of files.entries()) {
          expect(place).toBe(join(user, pathOf(index)))
          expect(await readFile(place)).toEqual(small[index]?.bytes)
          expect(stamp).toEqual(stampOf(await stat(place, { bigint: true })))
        }
        expect(changes.flatMap(({ gained }) => gained)).toHaveLength(small.length)
        expect(store.models()).toMatchObject([{ state: 'complete', files: small.length }])
        await reopen()
        expect(store.models()).toMatchObject([{ state: 'complete' }])
        expect(await store.readChunk(config.root, 0).catch(() => 'not here')).toBe('not here')
        expect(await store.readChunk(small[7]?.root ?? config.root, 0)).toEqual(small[7]?.bytes)
      })

      test('fails only the file that has something in its way', async () => {
        const [mine, same, free] = small as [TestFile, TestFile, TestFile]
        const publishing = await Promise.all(
          [mine, same, free].map(async (file, index) => {
            const partial = await store.openPartial(partialSpec(user, `${index}.json`, file))
            await writeChunks(partial, file)
            return partial
          }),
        )
        await writeFile(join(user, '0.json'), 'mine')
        await writeFile(join(user, '1.json'), same.bytes)
        const outcomes = await Promise.allSettled(publishing.map(partial => partial.publish()))
        expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'fulfilled', 'fulfilled'])
        expect(outcomes[0]).toMatchObject({ reason: { code: 'CONFLICT' } })
        for (const partial of publishing) await partial[Symbol.asyncDispose]()
        await store.tidy(user)
        expect((await readdir(user)).toSorted()).toEqual(['0.json', '1.json', '2.json'])
        expect(await readFile(join(user, '0.json'), 'utf8')).toBe('mine')
      })

      test('takes only its own chunk, under its own SHA-256, and leaves nothing when it is given up', async () => {
        const [file, other] = small as [TestFile, TestFile]
        const spec = partialSpec(user, 'a.json', file)
        {
          await using partial = await store.openPartial(spec)
          const [wrong] = other.blocks as [VerifiedBlock]
          await expect(partial.write(0, wrong)).rejects.toThrow(IntegrityError)
          await expect(
            partial.writeThrough(0, () => Promise.reject(new UnavailableError('gone'))),
          ).rejects.toThrow(/^gone$/)
          expect(partial.held.count).toBe(0)
          await writeChunks(partial, file)
        }
        {
          await using lie = await store.openPartial({ ...spec, sha256: other.sha256 })
          await writeChunks(lie, file)
          await expect(lie.publish()).rejects.toThrow(/this manifest|the manifest says/)
        }
        await store.tidy(user)
        expect(await readdir(user)).toEqual([])
        expect(store.held(file.root)).toBeUndefined()
      })

      test('replaces one that a power cut left without its bytes, also where the user said to pull to', async () => {
        const [file] = small as [TestFile]
        await seedModel(store, user, { 'a.json': file }, { origin: 'pulled' })
        await writeFile(join(user, 'a.json'), '')
        await store.refresh()
        expect(store.models()).toMatchObject([{ state: 'changed' }])
        await using partial = await store.openPartial(partialSpec(user, 'a.json', file))
        await writeChunks(partial, file)
        expect(await partial.publish()).toMatchObject({ keptAs: undefined })
        expect(await readFile(join(user, 'a.json'))).toEqual(file.bytes)
        expect(store.models()).toMatchObject([{ state: 'complete' }])
      })
    })

    describe('repairing', () => {
      /** A pulled model with one chunk damaged, as verify finds it. */
      async function damage(folder: string, origin: ModelOrigin = 'pulled'): Promise<PartialSpec> {
        await seedModel(store, folder, { 'weights.bin': weights }, { origin })
        const spec = partialSpec(folder, 'weights.bin', weights)
        const wrong = Buffer.from(weights.bytes)
        wrong.fill(0, weights.table.offset(1), weights.table.offset(1) + 1)
        await writeFile(spec.place, wrong)
        const stamp = stampOf(await stat(spec.place, { bigint: true }))
        store.confirm(spec.place, stamp, [1])
        return spec
      }

      test('fetches just the damaged chunks of a file that a pull wrote, and replaces it', async () => {
        const spec = await damage(join(models, 'org'))
        {
          await using partial = await store.openPartial(spec)
          expect([...partial.held.runs()]).toEqual([
            [0, 1],
            [2, 3],
          ])
          expect((await store.readChunk(weights.root, 0)).length).toBe(100)
          await writeChunks(partial, weights, [1])
          expect(await partial.publish()).toMatchObject({ keptAs: undefined })
        }
        await store.tidy(spec.folder)
        expect(await readdir(spec.folder)).toEqual(['weights.bin'])
        expect(await readFile(spec.place)).toEqual(weights.bytes)
        expect(store.models().map(({ state }) => state)).toEqual(['complete'])
        for (const [chunk, { bytes }] of weights.blocks.entries()) {
          expect(await store.readChunk(weights.root, chunk)).toEqual(bytes)
        }
      })

      test('goes on with a repair that was interrupted', async () => {
        const spec = await damage(join(models, 'org'))
        await (await store.openPartial(spec))[Symbol.asyncDispose]()
        await reopen()
        await using partial = await store.openPartial(spec)
        await writeChunks(partial, weights, [1])
        await partial.publish()
        expect(await readFile(spec.place)).toEqual(weights.bytes)
      })

      test('keeps the damaged file where the user said to pull to', async () => {
        const spec = await damage(user)
        const damaged = await readFile(spec.place)
        await writeFile(`${spec.place}.damaged`, 'of an earlier time')
        await using partial = await store.openPartial(spec)
        await writeChunks(partial, weights, [1])
        const keptAs = `${spec.place}.damaged-2`
        expect(await partial.publish()).toMatchObject({ keptAs })
        expect(await readFile(spec.place)).toEqual(weights.bytes)
        expect(await readFile(keptAs)).toEqual(damaged)
        expect(await readFile(`${spec.place}.damaged`, 'utf8')).toBe('of an earlier time')
      })

      test('takes what is left of a file that lost its end', async () => {
        const spec = await damage(join(models, 'org'))
        await writeFile(spec.place, weights.bytes.subarray(0, 150))
        await store.refresh()
        await using partial = await store.openPartial(spec)
        expect([...partial.held.runs()]).toEqual([[0, 1]])
        await writeChunks(partial, weights, [1, 2])
        await partial.publish()
        expect(await readFile(spec.place)).toEqual(weights.bytes)
      })

      test('never touches a seeded file, one that was edited, nor one that changes meanwhile', async () => {
        const seeded = await damage(join(user, 'seeded'), 'seeded')
        const before = await readFile(seeded.place)
        await expect(store.openPartial(seeded)).rejects.toThrow(/not ours to overwrite/)
        expect(await readFile(seeded.place)).toEqual(before)

        const edited = await damage(join(user, 'edited'))
        store.confirm(edited.place, stampOf(await stat(edited.place, { bigint: true })), [])
        await writeFile(edited.place, 'mine')
        await store.refresh()
        await expect(store.openPartial(edited)).rejects.toThrow(/changed after it was pulled/)
        expect(await readFile(edited.place, 'utf8')).toBe('mine')

        const raced = await damage(join(user, 'raced'))
        await using partial = await store.openPartial(raced)
        await writeChunks(partial, weights, [1])
        await writeFile(raced.place, 'mine')
        await expect(partial.publish()).rejects.toThrow(ConflictError)
        expect(await readFile(raced.place, 'utf8')).toBe('mine')
      })
    })

    describe('downloading', () => {
      test('writes chunks in any order, serves them as they come, and publishes the file', async () => {
        store.addModel(testModel(user, { 'sub/weights.bin': weights }, { origin: 'pulled' }))
        const changes = recordChanges()
        await using partial = await store.openPartial(partialSpec(user, 'sub/weights.bin', weights))
        await writeChunks(partial, weights, [2])
        expect([...(store.held(weights.root)?.runs() ?? [])]).toEqual([[2, 3]])
        expect((await store.readChunk(weights.root, 2)).length).toBe(300)
        await writeChunks(partial, weights, [0, 1])
        const file = await partial.publish()
        expect(await readFile(join(user, 'sub', 'weights.bin'))).toEqual(weights.bytes)
        expect(file).toMatchObject({ place: join(user, 'sub', 'weights.bin') })
        expect(file.stamp).toEqual(stampOf(await stat(file.place, { bigint: true })))
        expect(changes.flatMap(({ gained }) => gained)).toEqual([
          [2, 3],
          [0, 1],
          [1, 2],
        ])
        expect(changes.flatMap(({ lost }) => lost)).toEqual([])
        expect((await store.readChunk(weights.root, 1)).length).toBe(200)
        expect(store.models().map(({ state }) => state)).toEqual(['complete'])
        expect(await readdir(join(user, '.commonweight'))).toEqual([])
      })

      test('leaves the folder of partial files to one that is open', async () => {
        await using _ = await store.openPartial(partialSpec(user, 'weights.bin', weights))
        await store.tidy(user)
        expect(await readdir(user)).toEqual(['.commonweight'])
      })

      test('lets others write, several at a time, and believes a chunk when its write has ended', async () => {
        store.addModel(testModel(user, { 'weights.bin': weights }, { origin: 'pulled' }))
        await using partial = await store.openPartial(partialSpec(user, 'weights.bin', weights))
        const gates = weights.blocks.map(() => Promise.withResolvers<void>())
        const written = weights.blocks.map((_, index) =>
          partial.writeThrough(index, async target => {
            await gates[index]?.promise
            writeOutside(target, weights.bytes)
          }),
        )
        expect(partial.held.count).toBe(0)
        gates[2]?.resolve()
        await written[2]
        expect([...partial.held.runs()]).toEqual([[2, 3]])
        expect((await store.readChunk(weights.root, 2)).length).toBe(300)
        for (const gate of gates) gate.resolve()
        await Promise.all(written)
        await partial.publish()
        expect(await readFile(join(user, 'weights.bin'))).toEqual(weights.bytes)
      })

      test('stays open for a write of somebody else, and is not published before it has ended', async () => {
        const spec = partialSpec(user, 'weights.bin', weights)
        const partial = await store.openPartial(spec)
        const gate = Promise.withResolvers<void>()
        const late = partial.writeThrough(0, async target => {
          await gate.promise
          writeOutside(target, weights.bytes)
        })
        await writeChunks(partial, weights)
        let isPublished = false
        const publishing = partial.publish().then(() => (isPublished = true))
        await store.refresh()
        expect(isPublished).toBe(false)
        gate.resolve()
        await Promise.all([late, publishing])
        await partial[Symbol.asyncDispose]()
        expect(await readFile(spec.place)).toEqual(weights.bytes)
      })

      test('believes nothing of a write of somebody else that failed, and names the file', async () => {
        const spec = partialSpec(user, 'weights.bin', weights)
        await using partial = await store.openPartial(spec)
        const full = Object.assign(new Error('ENOSPC: no space left, write'), { code: 'ENOSPC' })
        const failing = (error: Error) => partial.writeThrough(1, () => Promise.reject(error))
        const failed = failing(new StorageError('writing', { cause: full }))
        await expect(failed).rejects.toThrow(/\.part: ENOSPC/)
        await expect(failed).rejects.toBeInstanceOf(StorageError)
        await expect(failing(new UnavailableError('gone'))).rejects.toThrow(/^gone$/)
        expect(partial.held.count).toBe(0)
        await writeChunks(partial, weights)
        await partial.publish()
      })

      test('publishes an empty file', async () => {
        await using partial = await store.openPartial(partialSpec(user, 'empty.txt', nothing))
        expect(partial.held.isFull).toBe(true)
        await partial.publish()
        expect((await stat(join(user, 'empty.txt'))).size).toBe(0)
      })

      test('resumes what an earlier run wrote', async () => {
        const spec = partialSpec(user, 'weights.bin', weights)
        store.addModel(testModel(user, { 'weights.bin': weights }, { origin: 'pulled' }))
        {
          await using partial = await store.openPartial(spec)
          await writeChunks(partial, weights, [0, 2])
        }
        await reopen()
        expect(store.models()[0]).toMatchObject({ state: 'partial', bytesHeld: 400 })
        expect(store.held(weights.root)?.count).toBe(2)
        expect((await store.readChunk(weights.root, 2)).length).toBe(300)
        await using partial = await store.openPartial(spec)
        expect([...partial.held.runs()]).toEqual([
          [0, 1],
          [2, 3],
        ])
        await writeChunks(partial, weights, [1])
        await partial.publish()
        expect(await readFile(spec.place)).toEqual(weights.bytes)
      })

      test('fetches again a file that was deleted', async () => {
        const { manifest } = await seedModel(store, user, { 'weights.bin': weights })
        await rm(join(user, 'weights.bin'))
        await store.refresh()
        await using partial = await store.openPartial(partialSpec(user, 'weights.bin', weights))
        await writeChunks(partial, weights, [0])
        expect(store.model(manifest)).toMatchObject({ state: 'partial', bytesHeld: 100 })
        await writeChunks(partial, weights)
        await partial.publish()
        expect(store.model(manifest)?.state).toBe('complete')
      })

      test('takes a chunk only under its own digest and length', async () => {
        await using partial = await store.openPartial(partialSpec(user, 'weights.bin', weights))
        const other = verifyDigest(config.table.digest(0), config.bytes)
        await expect(partial.write(0, other)).rejects.toThrow(IntegrityError)
        expect(partial.held.count).toBe(0)
        await writeChunks(partial, weights, [0])
        expect(partial.held.count).toBe(1)
      })

      test('gives one place to one writer', async () => {
        const spec = partialSpec(user, 'weights.bin', weights)
        {
          await using _first = await store.openPartial(spec)
          await expect(store.openPartial(spec)).rejects.toThrow(ConflictError)
          await using _other = await store.openPartial(partialSpec(user, 'copy.bin', weights))
        }
        await using _again = await store.openPartial(spec)
      })

      test('takes a file that is there already with the right bytes', async () => {
        await writeTestFile(join(user, 'weights.bin'), weights)
        const before = await stat(join(user, 'weights.bin'), { bigint: true })
        await using partial = await store.openPartial(partialSpec(user, 'weights.bin', weights))
        expect(partial.held.isFull).toBe(true)
        const { stamp } = await partial.publish()
        expect(stamp).toEqual(stampOf(before))
        store.addModel(testModel(user, { 'weights.bin': weights }))
        expect(store.held(weights.root)?.isFull).toBe(true)
      })

      test('overwrites no other file, found at opening or at publishing', async () => {
        const place = join(user, 'weights.bin')
        const spec = partialSpec(user, 'weights.bin', weights)
        await mkdir(user)
        await writeFile(place, 'the user wrote this')
        await expect(store.openPartial(spec)).rejects.toThrow(ConflictError)
        await rm(place)

        await using partial = await store.openPartial(spec)
        await writeChunks(partial, weights)
        await writeFile(place, Buffer.alloc(weights.bytes.length))
        await expect(partial.publish()).rejects.toThrow(ConflictError)
        expect(await readFile(place)).toEqual(Buffer.alloc(weights.bytes.length))
        await rm(place)
        await partial.publish()
        expect(await readFile(place)).toEqual(weights.bytes)
      })

      test('takes the same bytes that came to the place meanwhile', async () => {
        const spec = partialSpec(user, 'weights.bin', weights)
        await using partial = await store.openPartial(spec)
        await writeChunks(partial, weights)
        await writeFile(spec.place, weights.bytes)
        const { stamp } = await partial.publish()
        expect(stamp).toEqual(stampOf(await stat(spec.place, { bigint: true })))
        expect(await readdir(join(user, '.commonweight'))).toEqual([])
      })

      test('publishes nothing under a SHA-256 that its bytes do not have', async () => {
        const spec = { ...partialSpec(user, 'weights.bin', weights), sha256: config.sha256 }
        await using partial = await store.openPartial(spec)
        await writeChunks(partial, weights)
        await expect(partial.publish()).rejects.toThrow(IntegrityError)
        expect(await readdir(user)).toEqual(['.commonweight'])
        expect(store.held(rawCid(config.sha256))).toBeUndefined()
      })

      test('finds out the SHA-256 when only the root was asked for', async () => {
        const spec = { ...partialSpec(user, 'weights.bin', weights), sha256: undefined }
        await using partial = await store.openPartial(spec)
        await writeChunks(partial, weights)
        expect(Buffer.compare((await partial.publish()).sha256, weights.sha256)).toBe(0)
      })

      test('starts anew when another file is wanted at the place', async () => {
        const other = testFile('other', [100, 200, 300])
        {
          await using partial = await store.openPartial(partialSpec(user, 'weights.bin', weights))
          await writeChunks(partial, weights, [0])
        }
        await using partial = await store.openPartial(partialSpec(user, 'weights.bin', other))
        expect(partial.held.count).toBe(0)
        await writeChunks(partial, other)
        await partial.publish()
        expect(await readFile(join(user, 'weights.bin'))).toEqual(other.bytes)
        expect(await readdir(join(user, '.commonweight'))).toEqual([])
      })

      test('refuses a place outside the folder', async () => {
        for (const path of ['../outside.bin', '..', '.']) {
          const opening = store.openPartial(partialSpec(user, path, weights))
          await expect(opening).rejects.toThrow(InvalidInputError)
        }
      })

      test('says how much does not fit', async () => {
        await store.checkSpace(join(user, 'not', 'there', 'yet'), 1)
        const checking = store.checkSpace(user, Number.MAX_SAFE_INTEGER)
        await expect(checking).rejects.toThrow(StorageError)
        await expect(checking).rejects.toMatchObject({ hint: expect.stringContaining('free ') })
      })
    })
  })
}

/** With the root as text: CIDs that are equal can differ in what they have cached. */
function shown({ root, gained, lost }: HeldChange): object {
  return { root: root.toString(), gained, lost }
}

function writeOutside({ fd, offset, length }: WriteTarget, bytes: Uint8Array): void {
  writeSync(fd, bytes, offset, length, offset)
}
