import { expect, test } from 'vitest'
import type { Origin } from '../../../src/store/store.ts'
import { openScratchFolder } from '../../support/scratch-folder.ts'
import { openTestStore, seedModel, testFile, testModel } from '../../support/store-fixture.ts'

const one = testFile('one', [10])
const two = testFile('two', [20])

test('finds a name in any case, and the spelling that was asked for first', async () => {
  await using scratch = await openScratchFolder()
  await using store = await openTestStore(scratch.path)
  const upper = await seedModel(store, scratch.file('a'), { a: one }, { name: 'Org/Model' })
  const lower = await seedModel(store, scratch.file('b'), { b: two }, { name: 'org/model' })
  expect(store.findName('org/model')?.manifest.toString()).toBe(lower.manifest.toString())
  expect(store.findName('Org/Model')?.manifest.toString()).toBe(upper.manifest.toString())
  expect(store.findName('ORG/MODEL')).toBeDefined()
  expect(store.findName('org/none')).toBeUndefined()
})

test('a name of a model that is not held stays over a start, and when the model comes', async () => {
  await using scratch = await openScratchFolder()
  const model = testModel(scratch.file('a'), { a: one }, { name: 'org/far' })
  const link = `cw://${model.manifest.toString()}`
  {
    await using store = await openTestStore(scratch.path)
    store.bindName('org/far', { manifest: model.manifest, link })
  }
  await using store = await openTestStore(scratch.path)
  expect(store.findName('Org/Far')).toMatchObject({ name: 'org/far', link, addedAtMs: undefined })
  store.addModel(model)
  expect(store.names()).toMatchObject([{ name: 'org/far', link, addedAtMs: expect.any(Number) }])
  // Forgotten, it can be fetched by its name again.
  await store.removeModel(model.manifest, { deleteFiles: false })
  expect(store.findName('org/far')).toMatchObject({ link, addedAtMs: undefined })
})

test('a name belongs to the model that got it last', async () => {
  await using scratch = await openScratchFolder()
  await using store = await openTestStore(scratch.path)
  const held = await seedModel(store, scratch.file('a'), { a: one }, { name: 'org/model' })
  const far = testModel(scratch.file('b'), { b: two })
  store.bindName('org/model', { manifest: far.manifest, link: 'cw://far' })
  expect(store.findName('org/model')?.manifest.toString()).toBe(far.manifest.toString())
  expect(store.model(held.manifest)?.name).toBeUndefined()
  store.setName(held.manifest, 'org/model')
  expect(store.names().map(({ manifest }) => manifest.toString())).toEqual([
    held.manifest.toString(),
  ])
})

test('what a hub said of a model stays as long as the model', async () => {
  await using scratch = await openScratchFolder()
  const repo = { hub: 'huggingface.co', type: 'model', repo: 'org/Model' }
  const origin = (manifest: Origin['manifest'], seenAtMs: number): Origin => ({
    ...repo,
    manifest,
    revision: 'a'.repeat(40),
    upstream: 'https://huggingface.co',
    isWhole: true,
    seenAtMs,
    facts: '{"licence":"mit"}',
  })
  await using store = await openTestStore(scratch.path)
  const old = await seedModel(store, scratch.file('a'), { a: one })
  const young = await seedModel(store, scratch.file('b'), { b: two })
  store.putOrigin(origin(old.manifest, 1))
  store.putOrigin(origin(young.manifest, 2))
  store.putOrigin({ ...origin(old.manifest, 1), isWhole: false })
  const found = store.originsOf({ ...repo, repo: 'ORG/model' })
  expect(found.map(({ manifest }) => manifest.toString())).toEqual([
    young.manifest.toString(),
    old.manifest.toString(),
  ])
  expect(found).toMatchObject([
    { revision: 'a'.repeat(40), isWhole: true, seenAtMs: 2 },
    { upstream: 'https://huggingface.co', isWhole: false, seenAtMs: 1 },
  ])
  expect(store.originsOf({ ...repo, type: 'dataset' })).toEqual([])
  await store.removeModel(young.manifest, { deleteFiles: false })
  expect(store.originOf(young.manifest)).toBeUndefined()
  expect(store.originOf(old.manifest)?.facts).toBe('{"licence":"mit"}')
  const far = testModel(scratch.file('c'), { a: one, b: two })
  expect(() => store.putOrigin(origin(far.manifest, 3))).toThrow('no model')
})
