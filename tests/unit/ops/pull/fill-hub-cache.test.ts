import { lstat, mkdir, readFile, readlink, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { type HubLayout, hubLayout } from '../../../../src/caches/hub-layout.ts'
import { readHubCache } from '../../../../src/caches/hub-cache.ts'
import { type HashPool, openHashPool } from '../../../../src/ingest/hash-file.ts'
import { fillHubCache, type PlacedFile } from '../../../../src/ops/pull/fill-hub-cache.ts'
import { type CachesFixture, openCachesFixture } from '../../../support/caches-fixture.ts'
import { sha256 } from '../../../support/model-caches.ts'
import type { ScratchFolder } from '../../../support/scratch-folder.ts'

const files = { 'config.json': '{}', 'sub/dir/model.safetensors': 'weights' }

let fixture: CachesFixture
let scratch: ScratchFolder
let root: string
let modelsFolder: string

let threads: HashPool
beforeAll(() => {
  threads = openHashPool()
})
afterAll(() => threads[Symbol.asyncDispose]())

beforeEach(async () => {
  fixture = await openCachesFixture(threads)
  ;({ scratch, root, modelsFolder } = fixture)
})
afterEach(() => fixture[Symbol.asyncDispose]())

interface Held {
  readonly layout: HubLayout
  readonly placed: readonly PlacedFile[]
}

/** A model whose files lie in this folder, indexed. */
async function hold(folder: string, name = 'org/model'): Promise<Held> {
  const model = await fixture.importModel(folder, files)
  fixture.store.addFiles(model.fresh)
  const layout = hubLayout(model.manifest, { cid: model.cid, name })
  const placed = model.manifest.files.map(file => ({ ...file, place: join(folder, file.path) }))
  return { layout, placed }
}

async function fill({ layout, placed }: Held): Promise<{ snapshot: string; notices: string[] }> {
  const notices: string[] = []
  const snapshot = await fillHubCache(
    fixture,
    { root, layout, files: placed },
    {
      signal: new AbortController().signal,
      onFile: () => undefined,
      onNotice: message => void notices.push(message),
    },
  )
  return { snapshot, notices }
}

test('a model is written as huggingface_hub writes it', async () => {
  const held = await hold(join(modelsFolder, 'org/model'))
  const { snapshot } = await fill(held)
  const { commit } = held.layout
  const repo = join(root, 'models--org--model')
  expect(snapshot).toBe(join(repo, 'snapshots', commit))
  expect(await readFile(join(repo, 'refs/main'), 'utf8')).toBe(commit)
  const link = join(snapshot, 'sub/dir/model.safetensors')
  expect(await readlink(link)).toBe(`../../../../blobs/${sha256('weights')}`)
  expect(await readFile(link, 'utf8')).toBe('weights')
  const [found] = await readHubCache(root)
  expect(found).toMatchObject({ kind: 'model', name: 'org/model', whole: { commit } })
})

test('what is ours is linked and not read again', async () => {
  const { snapshot } = await fill(await hold(join(modelsFolder, 'org/model')))
  expect((await stat(join(snapshot, 'config.json'))).nlink).toBe(2)
  expect(fixture.compared).toEqual([])
})

test("what is the user's own is copied and checked", async () => {
  const { snapshot } = await fill(await hold(scratch.file('mine')))
  expect((await stat(join(snapshot, 'config.json'))).nlink).toBe(1)
  expect(fixture.compared).toHaveLength(2)
})

test('a file that changed meanwhile does not get into the cache', async () => {
  const held = await hold(scratch.file('mine'))
  await writeFile(scratch.file('mine/config.json'), '[]')
  await expect(fill(held)).rejects.toMatchObject({ code: 'INTEGRITY' })
  expect(await readHubCache(root)).toEqual([])
})

test('a file does not get the name of another one that a manifest claims it is', async () => {
  const held = await hold(join(modelsFolder, 'org/model'))
  const plain = { size: 2, gitOid: 'a'.repeat(40), sha256: undefined }
  const tree = new Map([...held.layout.tree, ['config.json', plain]])
  const lying = { ...held, layout: { ...held.layout, tree } }
  await expect(fill(lying)).rejects.toMatchObject({ code: 'INTEGRITY' })
  expect(await readHubCache(root)).toEqual([])
  const honest = { ...plain, gitOid: '9e26dfeeb6e641a33dae4961196235bdb965b21b' }
  tree.set('config.json', honest)
  const { snapshot } = await fill(lying)
  expect(await readFile(join(snapshot, 'config.json'), 'utf8')).toBe('{}')
})

test('a second time nothing changes', async () => {
  const held = await hold(join(modelsFolder, 'org/model'))
  const { snapshot } = await fill(held)
  const before = await lstat(join(snapshot, 'config.json'), { bigint: true })
  expect((await fill(held)).notices).toEqual([])
  expect((await lstat(join(snapshot, 'config.json'), { bigint: true })).ino).toBe(before.ino)
})

test('a blob that another program has left is taken when it has the right size, else refused', async () => {
  const held = await hold(join(modelsFolder, 'org/model'))
  const blobs = join(root, 'models--org--model/blobs')
  await mkdir(blobs, { recursive: true })
  const blob = join(blobs, sha256('weights'))
  await writeFile(blob, 'weights')
  await fill(held)
  expect((await stat(blob)).nlink).toBe(1)
  await writeFile(blob, 'short')
  await expect(fill(held)).rejects.toMatchObject({ code: 'CONFLICT' })
})

test('a blob that is a link to nothing is refused, and not taken for the file', async () => {
  const held = await hold(join(modelsFolder, 'org/model'))
  const blobs = join(root, 'models--org--model/blobs')
  await mkdir(blobs, { recursive: true })
  await symlink('../../blobs/aa/gone', join(blobs, sha256('weights')))
  await expect(fill(held)).rejects.toMatchObject({ code: 'CONFLICT' })
})

test('main that pointed elsewhere is moved, and that is said', async () => {
  const held = await hold(join(modelsFolder, 'org/model'))
  const refs = join(root, 'models--org--model/refs')
  await mkdir(refs, { recursive: true })
  await writeFile(join(refs, 'main'), 'c0ffee0000000000000000000000000000000001')
  expect((await fill(held)).notices).toMatchObject([expect.stringContaining('pointed to c0ffee')])
  expect(await readFile(join(refs, 'main'), 'utf8')).toBe(held.layout.commit)
})

test('nothing is written through a link that leads out of the cache', async () => {
  const held = await hold(join(modelsFolder, 'org/model'))
  const outside = scratch.file('outside')
  await mkdir(outside)
  await mkdir(root, { recursive: true })
  await symlink(outside, join(root, 'models--org--model'))
  await expect(fill(held)).rejects.toMatchObject({ code: 'STORAGE' })
  expect(await readHubCache(root)).not.toMatchObject([{ kind: 'model' }])
  await rm(join(root, 'models--org--model'))
  await fill(held)
})

test('a model that no client could ask for is refused', async () => {
  await expect(hold(scratch.file('a'), 'org/model/of/more')).rejects.toMatchObject({
    code: 'INVALID_INPUT',
  })
})
