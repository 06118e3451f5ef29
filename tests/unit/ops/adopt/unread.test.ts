/** A dry run tells of files that nobody has read what adoption says of them once it has. */

import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { type HashPool, openHashPool } from '../../../../src/ingest/hash-file.ts'
import { commitOf } from '../../../../src/manifest/git-commit.ts'
import {
  type Adopted,
  type CachesFixture,
  openCachesFixture,
} from '../../../support/caches-fixture.ts'
import { someCommit, writeOllamaModel, writeSnapshot } from '../../../support/model-caches.ts'
import { writeFiles } from '../../../support/model-files.ts'

const lfs = { 'a.bin': 'one', 'b.bin': 'two' }
const mixed = { 'config.json': '{}', 'model.safetensors': 'weights' }

let fixture: CachesFixture
let threads: HashPool
beforeAll(() => {
  threads = openHashPool()
})
afterAll(() => threads[Symbol.asyncDispose]())

beforeEach(async () => {
  fixture = await openCachesFixture(threads)
})
afterEach(() => fixture[Symbol.asyncDispose]())

/** What the user shared by hand; its commit is the one that a gateway makes up. */
async function seed(files: Readonly<Record<string, string>>): Promise<{ commit: string }> {
  const folder = fixture.scratch.file('mine')
  const model = await fixture.importModel(folder, files)
  const { manifest, cid, block, fresh } = model
  const placed = manifest.files.map(file => ({ ...file, place: join(folder, file.path) }))
  const how = { origin: 'seeded', folder, pinned: true, seeding: true, name: 'mine' } as const
  fixture.store.addModel({ manifest: cid, block, ...how, files: placed }, fresh)
  return { commit: commitOf(manifest.files, cid.toString()).id }
}

function linesOf({ models }: Adopted): [title: string, state: string][] {
  return models.map(({ path, state }) => [/models--org--(\w+)/u.exec(path)?.[1] ?? path, state])
}

/** Both say the same of the states; the first reads nothing. */
async function lookAndAdopt(hf: string): Promise<Adopted> {
  const looked = await fixture.adopt({ hf: [hf], dryRun: true })
  expect(fixture.hashed).toEqual([])
  const adopted = await fixture.adopt({ hf: [hf] })
  expect(linesOf(looked)).toEqual(linesOf(adopted))
  return looked
}

test('what the user shared himself is known by the hashes that a cache has of it', async () => {
  await seed({ 'model.gguf': 'GGUF' })
  const ollama = [fixture.scratch.file('ollama')]
  // The same names and sizes, and other bytes.
  for (const [name, bytes] of [['other', 'GGUX'] as const, ['same', 'GGUF'] as const]) {
    const place = `registry.ollama.ai/library/${name}/latest`
    await writeOllamaModel(fixture.scratch.file('ollama'), place, [{ kind: 'model', bytes }])
  }
  const looked = await fixture.adopt({ ollama, dryRun: true })
  expect(fixture.hashed).toEqual([])
  const adopted = await fixture.adopt({ ollama })
  for (const { models } of [looked, adopted])
    expect(models.map(({ state }) => state)).toEqual(['new', 'known'])
  expect(looked.models[1]).not.toHaveProperty('reason')
})

test('a whole commit is known as that commit alone, also when a gateway made it up', async () => {
  const { root } = fixture
  const { commit } = await seed(lfs)
  await writeSnapshot(root, 'models--org--made', lfs, { tree: true, commit })
  await writeSnapshot(root, 'models--org--real', lfs, { tree: true })
  const looked = await lookAndAdopt(root)
  expect(linesOf(looked)).toEqual([
    ['made', 'known'],
    ['real', 'new'],
  ])
})

test('a commit that is held is known in another cache, whole or in part', async () => {
  const { root, scratch } = fixture
  await writeSnapshot(scratch.file('first'), 'models--org--model', mixed, { tree: true })
  await fixture.adopt({ hf: [scratch.file('first')] })
  const lacking = { 'model.safetensors': mixed['model.safetensors'] }
  await writeSnapshot(root, 'models--org--model', mixed, { tree: true })
  await writeSnapshot(root, 'models--org--part', { 'config.json': '{}' }, { tree: true, lacking })
  const commit = someCommit.replace(/1$/u, '2')
  await writeSnapshot(root, 'models--org--newer', mixed, { tree: true, commit })
  const looked = await lookAndAdopt(root)
  expect(linesOf(looked)).toEqual([
    ['model', 'known'],
    ['newer', 'new'],
    ['part', 'known'],
  ])
})

test('where the cache has no hashes, names and sizes are said to be all that was compared', async () => {
  const { scratch } = fixture
  await seed({ 'tiny.gguf': 'GGUF weights' })
  const lmStudio = [scratch.file('lm')]
  await writeFiles(scratch.file('lm/org/tiny'), { 'tiny.gguf': 'GGUF weights' })
  await writeFiles(scratch.file('lm/org/longer'), { 'tiny.gguf': 'GGUF weights, more' })
  const looked = await fixture.adopt({ lmStudio, dryRun: true })
  expect(looked.models).toMatchObject([
    { name: 'org/longer', state: 'new' },
    { name: 'org/tiny', state: 'known', manifest: null, reason: 'by names and sizes' },
  ])
  const { models } = await fixture.adopt({ lmStudio })
  expect(models.map(({ state }) => state)).toEqual(['new', 'known'])
})
