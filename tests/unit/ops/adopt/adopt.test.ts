/** Real stores and real caches, small. What is read is counted. */

import { link, mkdtemp, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { type HashPool, openHashPool } from '../../../../src/ingest/hash-file.ts'
import { decodeManifest, sealManifest } from '../../../../src/manifest/manifest.ts'
import { gitOid } from '../../../../src/core/git.ts'
import { commitOf, pointerText } from '../../../../src/manifest/git-commit.ts'
import { toHex } from '../../../../src/core/bytes.ts'
import { parseCid } from '../../../../src/core/cid.ts'
import type { Store } from '../../../../src/store/store.ts'
import {
  type Adopted,
  type CachesFixture,
  openCachesFixture,
} from '../../../support/caches-fixture.ts'
import {
  etagOf,
  someCommit,
  writeOllamaModel,
  writeSnapshot,
} from '../../../support/model-caches.ts'
import { filesBelow, seededBytes, writeFiles } from '../../../support/model-files.ts'
import type { ScratchFolder } from '../../../support/scratch-folder.ts'

const weights = seededBytes('weights', 3_000_000)
const files = { 'config.json': '{}', 'model.safetensors': { bytes: weights } }

let fixture: CachesFixture
let scratch: ScratchFolder
let root: string
let home: string
let store: Store

let threads: HashPool
beforeAll(() => {
  threads = openHashPool()
})
afterAll(() => threads[Symbol.asyncDispose]())

beforeEach(async () => {
  fixture = await openCachesFixture(threads)
  ;({ scratch, root, home, store } = fixture)
})
afterEach(() => fixture[Symbol.asyncDispose]())

const run: CachesFixture['adopt'] = (request, signal) => fixture.adopt(request, signal)

function statesOf({ models }: Adopted): string[] {
  return models.map(({ state }) => state)
}

test('a snapshot becomes a model that is served from its blobs', async () => {
  const folder = await writeSnapshot(root, 'models--org--model', files)
  const { models, result } = await run()
  const [line] = models
  expect(line).toMatchObject({ name: 'org/model', path: folder, files: 2, state: 'new' })
  expect(result).toEqual({ type: 'adoption', models: 1, files: 2, bytes: 3_000_002, skipped: 0 })
  const manifest = parseCid(line?.manifest ?? '')
  expect(store.model(manifest)).toMatchObject({ state: 'complete', pinned: false, seeding: true })
  const file = store.filesOf(manifest).find(({ path }) => path === 'model.safetensors')
  expect(file?.place).toBe(
    join(
      root,
      'models--org--model',
      'blobs',
      etagOf('model.safetensors', files['model.safetensors']),
    ),
  )
  const chunk = await store.readChunk(file?.root ?? manifest, 0)
  expect(Buffer.compare(chunk, weights.subarray(0, chunk.length))).toBe(0)
})

test('a second run hashes nothing', async () => {
  await writeSnapshot(root, 'models--org--model', files, { tree: true })
  await run()
  expect(fixture.hashed).toHaveLength(2)
  const again = await run()
  expect(fixture.hashed).toEqual([])
  expect(statesOf(again)).toEqual(['known'])
})

test('a whole commit is the model that an import of the commit makes', async () => {
  await writeSnapshot(root, 'models--org--model', files, { tree: true })
  const { models } = await run()
  const plain = await fixture.importModel(scratch.file('plain'), {
    ...files,
    'model.safetensors': weights,
  })
  const source = {
    hub: 'huggingface.co',
    repo: 'org/model',
    type: 'model',
    commit: someCommit,
  } as const
  const facts = plain.manifest.files.map(file => {
    const lfs = file.path === 'model.safetensors'
    const bytes = lfs
      ? Buffer.from(pointerText({ sha256: toHex(file.sha256), size: file.size }))
      : Buffer.from('{}')
    return { ...file, lfs, gitOid: gitOid('blob', bytes) }
  })
  const { cid } = sealManifest(facts, source)
  expect(models[0]?.manifest).toBe(cid.toString())
  expect(decodeManifest(store.manifestBlock(cid) ?? Buffer.alloc(0)).source).toEqual(source)
})

test('a commit that a gateway made up is the model that it came from', async () => {
  const all = { 'a.bin': 'one', 'b.bin': 'two' }
  const seeded = await fixture.importModel(scratch.file('x'), all)
  const { id } = commitOf(seeded.manifest.files, seeded.cid.toString())
  await writeSnapshot(root, 'models--org--model', all, { tree: true, commit: id })
  expect((await run()).models[0]?.manifest).toBe(seeded.cid.toString())
})

test.for([
  ['in LFS', 'model.safetensors', 'its SHA-256', 'SHA-256'],
  ['of git', 'config.json', 'its git oid', 'git oid'],
] as const)(
  'a file %s that is not what its tree says is found, and the model left out',
  async ([, path, , what]) => {
    await writeSnapshot(root, 'models--org--model', files, { tree: true })
    const blob = join(root, 'models--org--model', 'blobs', etagOf(path, files[path]))
    const bytes = await readFile(blob)
    bytes[0] = (bytes[0] ?? 0) ^ 1
    await writeFile(blob, bytes)
    const { models, result } = await run()
    expect(models).toMatchObject([{ state: 'skipped', reason: expect.stringContaining(what) }])
    expect(result).toMatchObject({ models: 0, skipped: 1 })
    expect(store.models()).toEqual([])
  },
)

test('a part of a model that is held is no model of its own, and completes it', async () => {
  const whole = await writeSnapshot(root, 'models--org--model', files, { tree: true })
  const { models } = await run()
  const blob = join(root, 'models--org--model', 'blobs', etagOf('config.json', '{}'))
  await rm(blob)
  const part = await run()
  expect(part.models).toMatchObject([
    { state: 'known', manifest: models[0]?.manifest, files: 1, reason: 'a part: 1 of 2 files' },
  ])
  await store.refresh()
  const [model, ...others] = store.models()
  expect(others).toEqual([])
  expect(model).toMatchObject({ state: 'changed', folder: whole })
  // The same file turns up in another cache.
  await writeFiles(scratch.file('lm/org/other'), { 'other.gguf': 'x', 'config.json': '{}' })
  await run({ lmStudio: [scratch.file('lm')] })
  expect(store.model(model?.manifest ?? parseCid(''))?.state).toBe('complete')
})

test('a model that is gone from its cache is forgotten, and one that was pinned is not', async () => {
  await writeSnapshot(root, 'models--org--one', { 'a.bin': 'one' })
  await writeSnapshot(root, 'models--org--two', { 'b.bin': 'two' })
  await run()
  const two = store.findName('org/two')
  store.setPinned(two?.manifest ?? parseCid(''), true)
  await rm(join(root, 'models--org--one'), { recursive: true })
  await rm(join(root, 'models--org--two'), { recursive: true })
  const { notices } = await run()
  expect(notices).toEqual(['org/one is gone from its cache: forgotten'])
  expect(store.models().map(({ name }) => name)).toEqual(['org/two'])
})

test('a folder that is taken for a cache of another kind takes no model away', async () => {
  await writeFiles(scratch.file('lm/org/tiny'), { 'model.gguf': 'GGUF' })
  await run({ lmStudio: [scratch.file('lm')] })
  const { models, notices } = await run({ hf: [scratch.file('lm')] })
  expect({ models, notices }).toEqual({ models: [], notices: [] })
  expect(store.models()).toMatchObject([{ name: 'org/tiny', state: 'complete' }])
  // What is gone is gone, whoever looks.
  await rm(scratch.file('lm/org/tiny'), { recursive: true })
  expect((await run({ hf: [scratch.file('lm')] })).notices).toMatchObject([
    expect.stringContaining('forgotten'),
  ])
})

test('a cache that is gone as a whole is an error, and forgets nothing', async () => {
  await writeSnapshot(root, 'models--org--model', files)
  await run()
  await rm(root, { recursive: true })
  await expect(run()).rejects.toMatchObject({ code: 'NOT_FOUND' })
  expect(store.models()).toHaveLength(1)
})

test('a snapshot that was completed takes the place of what it was', async () => {
  const lacking = { 'model.safetensors': { bytes: weights } }
  await writeSnapshot(root, 'models--org--model', { 'config.json': '{}' }, { tree: true, lacking })
  await run()
  await writeSnapshot(root, 'models--org--model', lacking)
  const { models, notices } = await run()
  expect(models).toMatchObject([{ state: 'new', name: 'org/model', files: 2 }])
  expect(notices).toMatchObject([expect.stringContaining('was replaced in its cache: forgotten')])
  expect(store.models()).toMatchObject([{ name: 'org/model', files: 2, state: 'complete' }])
})

test('a new revision takes the name, and the older one stays as long as it is there', async () => {
  await writeSnapshot(root, 'models--org--model', files)
  await run()
  const commit = someCommit.replace(/1$/, '2')
  await writeSnapshot(
    root,
    'models--org--model',
    { ...files, 'config.json': '{"v":2}' },
    { commit },
  )
  expect(statesOf(await run())).toEqual(['known', 'new'])
  expect(store.models().map(({ name }) => name)).toEqual([undefined, 'org/model'])
  // The weights that both have were not read again.
  expect(fixture.hashed).toHaveLength(1)
})

test('a name that somebody else has is not taken', async () => {
  const other = await fixture.importModel(scratch.file('mine'), { 'x.bin': 'mine' })
  store.bindName('org/model', { manifest: other.cid, link: `cw://${other.cid.toString()}` })
  await writeSnapshot(root, 'models--org--model', files)
  const { models, notices } = await run()
  expect(models).toMatchObject([{ name: null, state: 'new' }])
  expect(notices).toMatchObject([expect.stringContaining('name of another model')])
})

test('a dry run says what would be done, and does nothing', async () => {
  await writeSnapshot(root, 'models--org--model', files)
  const dry = await run({ hf: [root], dryRun: true })
  expect(dry.models).toMatchObject([{ state: 'new', manifest: null, files: 2 }])
  expect(fixture.hashed).toEqual([])
  expect(store.models()).toEqual([])
  await run()
  const known = await run({ hf: [root], dryRun: true })
  expect(known.models).toMatchObject([{ state: 'known', manifest: expect.any(String) }])
})

test('pinned files have a second name here, and stay when their cache is emptied', async () => {
  await writeSnapshot(root, 'models--org--model', files, { tree: true })
  const { models } = await run({ hf: [root], pin: true })
  const manifest = parseCid(models[0]?.manifest ?? '')
  const folder = join(home, 'models', 'org', 'model')
  expect(store.model(manifest)).toMatchObject({ folder, pinned: true, state: 'complete' })
  expect((await stat(join(folder, 'model.safetensors'))).nlink).toBe(2)
  expect(statesOf(await run({ hf: [root], pin: true }))).toEqual(['known'])
  expect(fixture.hashed).toEqual([])
  await rm(join(root, 'models--org--model'), { recursive: true })
  await run()
  await store.refresh()
  expect(store.model(manifest)).toMatchObject({ state: 'complete' })
})

test('what is pinned is known again after the index forgot the cache', async () => {
  await writeSnapshot(root, 'models--org--model', files)
  await run({ hf: [root], pin: true })
  await store.gc({ dryRun: false })
  expect(statesOf(await run())).toEqual(['known'])
  expect(fixture.hashed).toEqual([])
})

test('what was adopted before can be pinned later', async () => {
  await writeSnapshot(root, 'models--org--model', files)
  await run()
  const { models } = await run({ hf: [root], pin: true })
  expect(models).toMatchObject([{ state: 'known' }])
  expect(fixture.hashed).toEqual([])
  expect(store.models()).toMatchObject([{ pinned: true, folder: join(home, 'models/org/model') }])
})

test('a newer revision that is pinned takes the name from the older, which stays', async () => {
  await writeSnapshot(root, 'models--org--model', files)
  await run({ hf: [root], pin: true })
  const commit = someCommit.replace(/1$/, '2')
  const newer = { ...files, 'config.json': '{"v":2}' }
  await writeSnapshot(root, 'models--org--model', newer, { commit })
  const { models, notices } = await run({ hf: [root], pin: true })
  expect(models.map(({ state, name }) => [state, name])).toEqual([
    ['known', 'org/model'],
    ['new', 'org/model'],
  ])
  expect(notices).toMatchObject([expect.stringContaining('names a newer revision now')])
  expect(store.models()).toMatchObject([
    { name: undefined, pinned: true, state: 'complete' },
    { name: 'org/model', pinned: true, state: 'complete' },
  ])
})

test('what HF_HOME names is as good as the cache in it', async () => {
  await writeSnapshot(scratch.file('huggingface/hub'), 'models--org--model', files)
  expect((await run({ hf: [scratch.file('huggingface')] })).models).toMatchObject([
    { state: 'new' },
  ])
})

test('files on another file system are shared and not pinned, and that is said', async context => {
  const other = await mkdtemp('/dev/shm/commonweight-test-').catch(() => undefined)
  if (other === undefined) return context.skip('no /dev/shm')
  await using _ = { [Symbol.asyncDispose]: () => rm(other, { recursive: true }) }
  if ((await stat(other)).dev === (await stat(home)).dev) return context.skip('all is in /dev/shm')
  await writeSnapshot(other, 'models--org--model', files)
  const { models, notices } = await run({ hf: [other], pin: true })
  expect(models).toMatchObject([{ state: 'new' }])
  expect(notices).toMatchObject([expect.stringContaining('not pinned')])
  expect(store.models()).toMatchObject([{ pinned: false, state: 'complete' }])
})

test('a file that is in the way of a pin is not touched', async () => {
  await writeSnapshot(root, 'models--org--model', files)
  const folder = await writeFiles(join(home, 'models/org/model'), { 'model.safetensors': 'mine' })
  expect((await run({ hf: [root], pin: true })).models).toMatchObject([{ state: 'skipped' }])
  expect(await readFile(join(folder, 'model.safetensors'), 'utf8')).toBe('mine')
  // Nor is anything left of the attempt.
  expect(await filesBelow(folder)).toEqual(['model.safetensors'])
})

test('the same files in two caches are one model', async () => {
  await writeOllamaModel(scratch.file('ollama'), 'registry.ollama.ai/library/tiny/latest', [
    { kind: 'model', bytes: 'GGUF' },
  ])
  await writeFiles(scratch.file('lm/ada/tiny'), { 'model.gguf': 'GGUF' })
  const { models } = await run({ ollama: [scratch.file('ollama')], lmStudio: [scratch.file('lm')] })
  expect(models.map(({ state }) => state)).toEqual(['new', 'known'])
  expect(new Set(models.map(({ manifest }) => manifest)).size).toBe(1)
})

test('a blob of Ollama with other bytes than its name says is left out', async () => {
  const root = scratch.file('ollama')
  await writeOllamaModel(root, 'registry.ollama.ai/library/tiny/latest', [
    { kind: 'model', bytes: 'GGUF' },
  ])
  const [blob = ''] = (await run({ ollama: [root] })).models.map(({ manifest }) =>
    manifest === null ? '' : (store.filesOf(parseCid(manifest))[0]?.place ?? ''),
  )
  await writeFile(blob, 'GGUX')
  expect((await run({ ollama: [root] })).models).toMatchObject([
    { state: 'skipped', reason: expect.stringContaining('SHA-256') },
  ])
})

test('the home of the node is no cache', async () => {
  await expect(run({ lmStudio: [home] })).rejects.toMatchObject({ code: 'INVALID_INPUT' })
  await expect(run({ lmStudio: [scratch.path] })).rejects.toMatchObject({ code: 'INVALID_INPUT' })
})

test('hard links in a cache are read once', async () => {
  const folder = await writeSnapshot(root, 'models--org--model', files, { layout: 'files' })
  await link(join(folder, 'model.safetensors'), join(folder, 'copy.safetensors'))
  await run()
  expect(fixture.hashed).toHaveLength(2)
})

test('an old snapshot without a list is the commit that is held, and no second model', async () => {
  await writeSnapshot(scratch.file('new'), 'models--org--model', files, { tree: true })
  const [whole] = (await run({ hf: [scratch.file('new')] })).models
  await writeSnapshot(root, 'models--org--model', files)
  const again = await run()
  expect(again.models).toMatchObject([
    { state: 'known', manifest: whole?.manifest, name: 'org/model' },
  ])
  expect(store.models()).toHaveLength(1)
})

test('what is excluded is neither adopted nor forgotten', async () => {
  await writeSnapshot(root, 'models--org--one', { 'a.bin': 'one' })
  await run()
  await writeSnapshot(root, 'models--lab--secret', { 'b.bin': 'two' })
  const { models, notices } = await run({ hf: [root], exclude: ['lab/*', 'org/ONE'] })
  expect({ models, notices }).toEqual({ models: [], notices: [] })
  expect(store.models().map(({ name }) => name)).toEqual(['org/one'])
})

test('one of several caches that is not there does not keep the others from being adopted', async () => {
  await writeSnapshot(root, 'models--org--model', files)
  const { models, result } = await run({ hf: [root], ollama: [scratch.file('nowhere')] })
  expect(models).toMatchObject([
    { state: 'new', name: 'org/model' },
    {
      state: 'skipped',
      path: scratch.file('nowhere'),
      reason: expect.stringContaining('no cache'),
    },
  ])
  expect(result).toMatchObject({ models: 1, skipped: 1 })
})

test('a pin of the user stays when files are found again', async () => {
  await writeSnapshot(root, 'models--org--model', files)
  const [line] = (await run()).models
  const manifest = parseCid(line?.manifest ?? '')
  store.setPinned(manifest, true)
  const blob = join(root, 'models--org--model/blobs', etagOf('config.json', '{}'))
  await rm(blob)
  await store.refresh()
  await writeFile(blob, '{}')
  expect((await run()).models).toMatchObject([{ state: 'known', manifest: line?.manifest }])
  expect(store.model(manifest)).toMatchObject({ pinned: true, state: 'complete' })
})

test('a blob that becomes a link after it was looked at is not followed', async () => {
  await writeSnapshot(root, 'models--org--model', files)
  const secret = join(await writeFiles(scratch.file('outside'), { key: 'private' }), 'key')
  const blob = join(root, 'models--org--model/blobs', etagOf('config.json', '{}'))
  const real = fixture.pool
  fixture.pool = {
    ...real,
    async hashFiles(places, options) {
      await rm(blob, { force: true })
      await symlink(secret, blob)
      return real.hashFiles(places, options)
    },
  }
  const { models } = await run()
  expect(models).toMatchObject([{ state: 'skipped', reason: expect.stringContaining('changed') }])
  expect(await store.findFile(createHash('sha256').update('private').digest())).toEqual([])
})

test('of copies of a repository a part is joined to the one of its name', async () => {
  const other = scratch.file('other')
  const lacking = { 'README.md': 'more' }
  await writeSnapshot(other, 'models--copy--model', { ...files, ...lacking }, { tree: true })
  const commit = someCommit.replace(/1$/, '2')
  const whole = { ...files, ...lacking }
  await writeSnapshot(other, 'models--org--model', whole, { tree: true, commit })
  await run({ hf: [other] })
  await writeSnapshot(root, 'models--org--model', files, { tree: true, lacking, commit })
  expect((await run()).models).toMatchObject([{ state: 'known', name: 'org/model' }])
})

test('who stops in the middle of a large model does not begin anew', async () => {
  const shards = Object.fromEntries(
    Array.from({ length: 4 }, (_, index) => {
      return [`model-${index}.safetensors`, { bytes: seededBytes(`shard ${index}`, 9_000_000) }]
    }),
  )
  await writeSnapshot(root, 'models--org--model', shards)
  const stop = new AbortController()
  const real = fixture.pool
  fixture.pool = {
    ...real,
    async hashFiles(places, options) {
      const files = await real.hashFiles(places, options)
      if (files.some(({ stamp }) => stamp.size === 9_000_000)) stop.abort()
      return files
    },
  }
  await expect(run({ hf: [root] }, stop.signal)).rejects.toThrow('abort')
  fixture.pool = real
  expect(statesOf(await run())).toEqual(['new'])
  expect(fixture.hashed.length).toBeLessThan(4)
})
