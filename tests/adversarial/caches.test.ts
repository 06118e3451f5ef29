/** Caches that somebody prepared: whatever is in them, nothing leaves them, hangs or grows. */

import { execFileSync } from 'node:child_process'
import { link, mkdir, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { FoundEntry } from '../../src/caches/found.ts'
import { readHubCache } from '../../src/caches/hub-cache.ts'
import { readTree, treeBytesMax } from '../../src/caches/hub-tree.ts'
import { readModelFolders } from '../../src/caches/model-folders.ts'
import { nameOf, readOllama } from '../../src/caches/ollama.ts'
import { GiB } from '../../src/core/units.ts'
import { someCommit, writeOllamaModel, writeSnapshot } from '../support/model-caches.ts'
import { writeFiles } from '../support/model-files.ts'
import { openScratchFolder, type ScratchFolder } from '../support/scratch-folder.ts'

let scratch: ScratchFolder
let root: string
let secret: string
beforeEach(async () => {
  scratch = await openScratchFolder()
  root = scratch.file('cache')
  secret = join(await writeFiles(scratch.file('outside'), { key: 'private' }), 'key')
})
afterEach(() => scratch[Symbol.asyncDispose]())

function placesOf(entries: readonly FoundEntry[]): string[] {
  return entries.flatMap(entry =>
    entry.kind === 'model' ? entry.files.map(({ place }) => place) : [],
  )
}

const files = { 'config.json': '{}', 'model.safetensors': 'weights' }
const blobName = 'a'.repeat(64)

test.for([
  ['a link in the snapshot', (folder: string) => symlink(secret, join(folder, 'key.txt'))],
  [
    'a blob that is a link',
    async (folder: string) => {
      await symlink(secret, join(folder, '../../blobs', blobName))
      await symlink(`../../blobs/${blobName}`, join(folder, 'key.txt'))
    },
  ],
  [
    'a shared blob that is a link',
    async (folder: string) => {
      await mkdir(join(root, 'blobs/aa'), { recursive: true })
      await symlink(secret, join(root, 'blobs/aa', blobName))
      await symlink(`../../blobs/aa/${blobName}`, join(folder, '../../blobs', blobName))
      await symlink(`../../blobs/${blobName}`, join(folder, 'key.txt'))
    },
  ],
  [
    'a folder that is a link',
    (folder: string) => symlink(scratch.file('outside'), join(folder, 'sub')),
  ],
] as const)('%s out of the cache refuses the model', async ([, prepare]) => {
  await prepare(await writeSnapshot(root, 'models--org--bad', files))
  await writeSnapshot(root, 'models--org--good', files)
  const found = await readHubCache(root)
  expect(found.find(({ name }) => name === 'org/bad')).toMatchObject({
    kind: 'refused',
    reason: expect.stringContaining('a link out of the cache'),
  })
  expect(found.find(({ name }) => name === 'org/good')).toMatchObject({ kind: 'model' })
  expect(placesOf(found).filter(place => !place.startsWith(root))).toEqual([])
})

test('a repository, its blobs or its list that are links out of the cache give nothing', async () => {
  const elsewhere = scratch.file('elsewhere')
  await writeSnapshot(elsewhere, 'models--org--one', files)
  await mkdir(root)
  await symlink(join(elsewhere, 'models--org--one'), join(root, 'models--org--one'))
  await writeSnapshot(root, 'models--org--two', files)
  await rm(join(root, 'models--org--two/blobs'), { recursive: true })
  await symlink(join(elsewhere, 'models--org--one/blobs'), join(root, 'models--org--two/blobs'))
  const found = await readHubCache(root)
  expect(found.map(({ kind }) => kind)).toEqual(['refused', 'refused'])
})

test('links in a circle and named pipes neither hang nor crash', async () => {
  const folder = await writeSnapshot(root, 'models--org--a', files)
  await symlink('loop', join(folder, 'loop'))
  const piped = await writeSnapshot(root, 'models--org--b', files)
  execFileSync('mkfifo', [join(piped, 'pipe')])
  await writeSnapshot(root, 'models--org--c', files)
  for (const place of ['refs/main', `trees/${someCommit}.json`]) {
    await rm(join(root, 'models--org--c', place), { force: true })
    await mkdir(join(root, 'models--org--c', place, '..'), { recursive: true })
    execFileSync('mkfifo', [join(root, 'models--org--c', place)])
  }
  const found = await readHubCache(root)
  const kinds = Object.fromEntries(found.map(({ name, kind }) => [String(name), kind]))
  expect(kinds).toEqual({ 'org/a': 'refused', 'org/b': 'refused', 'org/c': 'model' })
})

test('a list that is too large is not read', async () => {
  await writeSnapshot(root, 'models--org--model', files, { tree: true })
  await truncate(join(root, `models--org--model/trees/${someCommit}.json`), 4 * GiB)
  const before = process.memoryUsage().rss
  expect(await readHubCache(root)).toMatchObject([
    { kind: 'refused', reason: expect.stringContaining(`at most ${treeBytesMax} allowed`) },
  ])
  expect(process.memoryUsage().rss - before).toBeLessThan(GiB)
})

test('names that lead out of a folder, or that terminals obey, are never paths', async () => {
  const tree = {
    format_version: 1,
    files: Object.fromEntries(
      ['../../../x', '/etc/passwd', 'a\u0000b', 'a\u001b[2J', '__proto__', 'constructor'].map(
        path => [path, { size: 1, blob_id: 'e69de29bb2d1d6434b8b29ae775ad8c2e48c5391' }],
      ),
    ),
  }
  await writeSnapshot(root, 'models--org--model', files, { tree: true })
  const place = join(root, `models--org--model/trees/${someCommit}.json`)
  await writeFile(place, JSON.stringify(tree))
  // Nothing of what the list names is there, and nothing else is of this commit.
  expect(await readHubCache(root)).toEqual([])
  expect((await readTree(place))?.size).toBe(6)
})

test('no list that is made up is believed or breaks anything', async () => {
  await mkdir(root)
  const place = join(root, 'tree.json')
  const anything = fc.oneof(
    fc.json(),
    fc
      .record({ format_version: fc.constantFrom(1, '1', null), files: fc.jsonValue() })
      .map(value => JSON.stringify(value)),
    fc.string({ unit: 'binary' }),
  )
  await fc.assert(
    fc.asyncProperty(anything, async text => {
      await writeFile(place, text)
      const tree = await readTree(place)
      for (const { size, gitOid } of tree?.values() ?? []) {
        expect(Number.isSafeInteger(size) && /^[0-9a-f]{40}$/.test(gitOid)).toBe(true)
      }
    }),
    { numRuns: 200 },
  )
})

test('no manifest of Ollama that is made up breaks anything or leads out', async () => {
  const place = await writeOllamaModel(root, 'registry.ollama.ai/library/a/latest', [
    { kind: 'model', bytes: 'GGUF' },
  ])
  const good = JSON.parse(await readFile(place, 'utf8')) as { layers: unknown[] }
  const layer = fc.record(
    {
      mediaType: fc.oneof(fc.constant('application/vnd.ollama.image.model'), fc.string()),
      digest: fc.oneof(fc.constant('sha256:../../../outside/key'), fc.string()),
      size: fc.oneof(fc.constant(4), fc.double(), fc.integer()),
      name: fc.oneof(fc.constantFrom('../x', '/x', 'a\nb'), fc.string()),
    },
    { requiredKeys: [] },
  )
  const layers = fc.oneof(
    fc.array(fc.oneof(layer, fc.constant(good.layers[0]), fc.jsonValue())),
    fc.jsonValue(),
  )
  await fc.assert(
    fc.asyncProperty(layers, async made => {
      await writeFile(place, JSON.stringify({ ...good, layers: made }))
      for (const path of placesOf(await readOllama(root))) expect(path.startsWith(root)).toBe(true)
    }),
    { numRuns: 100 },
  )
})

test('a blob or manifest of Ollama that is a link out of the store is refused', async () => {
  const place = await writeOllamaModel(root, 'registry.ollama.ai/library/a/latest', [
    { kind: 'model', bytes: 'private' },
  ])
  const blob = placesOf(await readOllama(root))[0] ?? ''
  await rm(blob)
  await symlink(secret, blob)
  await link(place, scratch.file('manifest'))
  await symlink(scratch.file('manifest'), join(place, '../other'))
  const found = await readOllama(root)
  expect(found.map(({ kind }) => kind)).toEqual(['refused', 'refused'])
})

test('folders around folders end', async () => {
  const deep = Array.from({ length: 40 }, () => 'd').join('/')
  await writeFiles(root, { [`${deep}/model.gguf`]: 'too deep', 'a/b/model.gguf': 'found' })
  await symlink(root, join(root, 'a/self'))
  expect((await readModelFolders(root)).map(({ name }) => name)).toEqual(['a/b'])
})

test('no name that segments can make is more than a name', () => {
  fc.assert(
    fc.property(fc.array(fc.string(), { maxLength: 6 }), segments => {
      expect(() => nameOf(segments)).not.toThrow()
    }),
  )
})
