import { rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { nameOf, readOllama } from '../../../src/caches/ollama.ts'
import { sha256, writeOllamaModel } from '../../support/model-caches.ts'
import { openScratchFolder, type ScratchFolder } from '../../support/scratch-folder.ts'
import { cpuMs } from '../../support/cpu-time.ts'

let scratch: ScratchFolder
let root: string
beforeEach(async () => {
  scratch = await openScratchFolder()
  root = scratch.file('models')
})
afterEach(() => scratch[Symbol.asyncDispose]())

const layers = [
  { kind: 'model', bytes: 'GGUF weights' },
  { kind: 'projector', bytes: 'GGUF eyes' },
  { kind: 'template', bytes: '{{ .Prompt }}' },
  { kind: 'license', bytes: 'MIT' },
  { kind: 'license', bytes: 'Apache' },
  { kind: 'params', bytes: '{"stop":["x"]}' },
]

test('gives layers the names that a hub would, and lies where the blobs are', async () => {
  const place = await writeOllamaModel(root, 'registry.ollama.ai/library/llama3/8b', layers)
  const [model] = await readOllama(root)
  if (model?.kind !== 'model') throw new Error(JSON.stringify(model))
  expect(model).toMatchObject({ name: 'llama3-8b', folder: place, cache: 'ollama' })
  expect(model.files.map(({ path }) => path)).toEqual([
    'model.gguf',
    'mmproj.gguf',
    'template',
    'LICENSE',
    'LICENSE-2',
    'params',
  ])
  const [weights] = model.files
  expect(weights?.place).toBe(join(root, 'blobs', `sha256-${sha256('GGUF weights')}`))
  expect(model.claims.get('model.gguf')?.sha256).toBe(sha256('GGUF weights'))
})

test('numbers weights that come in shards, and keeps names that layers have', async () => {
  await writeOllamaModel(root, 'registry.ollama.ai/library/big/latest', [
    { kind: 'model', bytes: 'one' },
    { kind: 'model', bytes: 'two' },
    { kind: 'tensor', bytes: 'three', name: 'layers/0/weight' },
  ])
  const [model] = await readOllama(root)
  const paths = model?.kind === 'model' ? model.files.map(({ path }) => path) : []
  expect(paths).toEqual([
    'model-00001-of-00002.gguf',
    'model-00002-of-00002.gguf',
    'layers/0/weight',
  ])
})

test.for([
  ['registry.ollama.ai/library/llama3/8b', 'llama3-8b'],
  ['registry.ollama.ai/library/llama3/latest', 'llama3'],
  ['registry.ollama.ai/ada/model/q4', 'ada/model-q4'],
  ['hf.co/org/Model-GGUF/Q4_K_M', 'org/Model-GGUF-Q4_K_M'],
  ['registry.lab.example/ns/model/v1', 'registry.lab.example/ns/model-v1'],
])('%s is called %s', ([path = '', name]) => {
  expect(nameOf(path.split('/'))).toBe(name)
})

test('a blob that is gone or cut off is no model', async () => {
  await writeOllamaModel(root, 'registry.ollama.ai/library/gone/latest', layers)
  await writeOllamaModel(root, 'registry.ollama.ai/library/short/latest', [
    { kind: 'model', bytes: 'whole' },
  ])
  await rm(join(root, 'blobs', `sha256-${sha256('GGUF weights')}`))
  await truncate(join(root, 'blobs', `sha256-${sha256('whole')}`), 2)
  expect(await readOllama(root)).toMatchObject([
    { kind: 'refused', name: 'gone', reason: 'the blob of its model.gguf is gone' },
    { kind: 'refused', name: 'short', reason: 'the blob of its model.gguf has 2 bytes, not 5' },
  ])
})

test('two layers of one name are no model, nor one whose name leads elsewhere', async () => {
  const twice = { kind: 'tensor', name: 'a' }
  await writeOllamaModel(root, 'registry.ollama.ai/library/a/latest', [
    { ...twice, bytes: '1' },
    { ...twice, bytes: '2' },
  ])
  await writeOllamaModel(root, 'registry.ollama.ai/library/b/latest', [
    { kind: 'tensor', name: '../../x', bytes: '1' },
  ])
  const found = await readOllama(root)
  expect(found.map(({ kind }) => kind)).toEqual(['refused', 'refused'])
})

test('what is no manifest is passed by', async () => {
  const place = await writeOllamaModel(root, 'registry.ollama.ai/library/a/latest', layers)
  await writeFile(place, 'no JSON')
  expect(await readOllama(root)).toEqual([])
})

test('a manifest of as many layers as are allowed takes no longer than it is long', async () => {
  const place = await writeOllamaModel(root, 'registry.ollama.ai/library/a/latest', layers)
  const layer = { mediaType: 'application/vnd.ollama.image.model', size: 1 }
  const listed = Array.from({ length: 20_000 }, () => ({
    ...layer,
    digest: `sha256:${sha256('not here')}`,
  }))
  await writeFile(place, JSON.stringify({ schemaVersion: 2, layers: listed }))
  const start = cpuMs()
  expect(await readOllama(root)).toMatchObject([
    { kind: 'refused', reason: 'the blob of its model-00001-of-20000.gguf is gone' },
  ])
  expect(cpuMs() - start).toBeLessThan(2000)
})
