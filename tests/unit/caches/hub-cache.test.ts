import { rm, symlink, utimes, writeFile, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { FoundEntry, FoundModel } from '../../../src/caches/found.ts'
import { readHubCache } from '../../../src/caches/hub-cache.ts'
import { etagOf, someCommit, writeSnapshot } from '../../support/model-caches.ts'
import { openScratchFolder, type ScratchFolder } from '../../support/scratch-folder.ts'

const files = { 'config.json': '{}', 'sub/model.safetensors': 'weights' }
const otherCommit = 'c0ffee0000000000000000000000000000000002'

let scratch: ScratchFolder
let root: string
beforeEach(async () => {
  scratch = await openScratchFolder()
  root = scratch.file('hub')
})
afterEach(() => scratch[Symbol.asyncDispose]())

async function only(): Promise<FoundModel> {
  const [entry, ...others] = await readHubCache(root)
  expect(others).toEqual([])
  if (entry?.kind !== 'model') throw new Error(JSON.stringify(entry))
  return entry
}

function pathsOf(entry: FoundEntry | undefined): string[] {
  return entry?.kind === 'model' ? entry.files.map(({ path }) => path).toSorted() : []
}

test('a file has the name of the snapshot and lies where its blob is', async () => {
  const folder = await writeSnapshot(root, 'models--org--model', files)
  const model = await only()
  expect(model).toMatchObject({ name: 'org/model', folder, whole: undefined, isPart: false })
  expect(pathsOf(model)).toEqual(Object.keys(files))
  const blobs = join(root, 'models--org--model', 'blobs')
  for (const { path, place, size } of model.files) {
    expect(place).toBe(join(blobs, etagOf(path, files[path as keyof typeof files])))
    expect(size).toBe(files[path as keyof typeof files].length)
  }
})

test('blobs that all repositories share are followed to their bytes', async () => {
  await writeSnapshot(root, 'models--org--model', files, { layout: 'shared' })
  const places = (await only()).files.map(({ place }) => place)
  expect(places.every(place => place.startsWith(join(root, 'blobs')))).toBe(true)
})

test('a snapshot of real files is read where links are not to be had', async () => {
  const folder = await writeSnapshot(root, 'models--org--model', files, { layout: 'files' })
  const model = await only()
  expect(pathsOf(model)).toEqual(Object.keys(files))
  expect(model.files.every(({ place }) => place.startsWith(folder))).toBe(true)
})

test('with every file of its tree a snapshot is the whole commit', async () => {
  await writeSnapshot(root, 'datasets--org--data', files, { tree: true })
  const model = await only()
  expect(model.name).toBe('datasets/org/data')
  expect(model.whole).toEqual({ commit: someCommit, repo: 'org/data', type: 'dataset' })
  expect(model.claims.get('config.json')).toMatchObject({ sha256: undefined })
  expect(model.claims.get('sub/model.safetensors')?.sha256).toMatch(/^[0-9a-f]{64}$/)
})

test('without one of them it is a part, and says how much', async () => {
  await writeSnapshot(root, 'models--org--model', files, {
    tree: true,
    lacking: { 'README.md': 'text', 'other.bin': 'more' },
  })
  expect(await only()).toMatchObject({
    whole: undefined,
    isPart: true,
    remark: 'a part: 2 of 4 files',
  })
})

test('a blob that was deleted leaves a part', async () => {
  await writeSnapshot(root, 'models--org--model', files)
  await rm(join(root, 'models--org--model', 'blobs', etagOf('config.json', '{}')))
  const model = await only()
  expect(pathsOf(model)).toEqual(['sub/model.safetensors'])
  expect(model).toMatchObject({ isPart: true, remark: 'a part: 1 of 2 files' })
})

test('what is in the snapshot and not in the tree is no part of the commit', async () => {
  const folder = await writeSnapshot(root, 'models--org--model', files, { tree: true })
  await writeFile(join(folder, 'notes.txt'), 'mine')
  expect(pathsOf(await only())).toEqual(Object.keys(files))
})

test('a file of another size than the tree has is damaged', async () => {
  await writeSnapshot(root, 'models--org--model', files, { tree: true })
  await writeFile(join(root, 'models--org--model', 'blobs', etagOf('config.json', '{}')), '{')
  expect(await readHubCache(root)).toMatchObject([
    { kind: 'refused', name: 'org/model', reason: expect.stringContaining('1 bytes, not the 2') },
  ])
})

test('the commit of main has the name, and others have none', async () => {
  await writeSnapshot(root, 'models--org--model', files)
  const newer = { ...files, 'config.json': '{"newer":1}' }
  await writeSnapshot(root, 'models--org--model', newer, { commit: otherCommit, main: someCommit })
  const found = await readHubCache(root)
  expect(found.map(({ name, folder }) => [name, folder.slice(-1)])).toEqual([
    ['org/model', '1'],
    [undefined, '2'],
  ])
})

test('without a main that is here the newest has the name', async () => {
  const older = await writeSnapshot(root, 'models--org--model', files)
  await writeSnapshot(root, 'models--org--model', files, { commit: otherCommit, main: 'nothing' })
  await utimes(older, 1, 1)
  const named = (await readHubCache(root)).filter(({ name }) => name === 'org/model')
  expect(named.map(({ folder }) => folder.slice(-1))).toEqual(['2'])
})

test('what is no model is passed by', async () => {
  await writeSnapshot(root, 'models--org--model', files)
  const repo = join(root, 'models--org--other')
  await mkdir(join(repo, '.no_exist', someCommit), { recursive: true })
  await mkdir(join(repo, 'snapshots'), { recursive: true })
  await mkdir(join(root, '.locks', 'models--org--model'), { recursive: true })
  await writeFile(join(root, 'CACHEDIR.TAG'), '')
  await writeFile(join(root, 'models--org--model', 'blobs', 'abc.incomplete'), 'half')
  expect(await readHubCache(root)).toHaveLength(1)
  expect(await readHubCache(join(root, 'nowhere'))).toEqual([])
})

test('a name of one part and names of all types are read', async () => {
  await writeSnapshot(root, 'models--gpt2', files)
  await writeSnapshot(root, 'spaces--org--space', files)
  await writeSnapshot(root, 'kernels--org--kernel', files, { tree: true })
  const found = await readHubCache(root)
  expect(found.map(({ name }) => String(name)).toSorted()).toEqual([
    'gpt2',
    'kernels/org/kernel',
    'spaces/org/space',
  ])
})

test('a file whose name no model may have is left out, and that is said', async () => {
  const folder = await writeSnapshot(root, 'models--org--model', files)
  await writeFile(join(folder, 'a:b'), 'odd')
  const model = await only()
  expect(pathsOf(model)).toEqual(Object.keys(files))
  expect(model.remark).toContain('a:b')
})

test('a link to something in the cache that is no blob is not followed', async () => {
  const folder = await writeSnapshot(root, 'models--org--model', files)
  await writeFile(join(root, 'token'), 'secret')
  await symlink(join(root, 'token'), join(folder, 'token'))
  expect(pathsOf(await only())).toEqual(Object.keys(files))
})
