import { mkdir, utimes, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { FoundModel } from '../../../src/caches/found.ts'
import { isLocalDir, readLocalDir } from '../../../src/caches/local-dir.ts'
import { etagOf, someCommit, treeOf } from '../../support/model-caches.ts'
import { writeFiles } from '../../support/model-files.ts'
import { openScratchFolder, type ScratchFolder } from '../../support/scratch-folder.ts'

const files = { 'config.json': '{}', 'sub/model.safetensors': 'weights' }

let scratch: ScratchFolder
let folder: string
beforeEach(async () => {
  scratch = await openScratchFolder()
  folder = await writeFiles(scratch.file('model'), files)
})
afterEach(() => scratch[Symbol.asyncDispose]())

/** As huggingface_hub notes it. */
async function note(path: keyof typeof files, commit = someCommit): Promise<void> {
  const place = join(folder, '.cache/huggingface/download', `${path}.metadata`)
  await mkdir(dirname(place), { recursive: true })
  await writeFile(place, `${commit}\n${etagOf(path, files[path])}\n${Date.now() / 1000}\n`)
}

async function list(lacking: Record<string, string> = {}): Promise<void> {
  const place = join(folder, '.cache/huggingface/trees', `${someCommit}.json`)
  await mkdir(dirname(place), { recursive: true })
  await writeFile(place, treeOf({ ...files, ...lacking }))
}

async function read(): Promise<FoundModel> {
  const found = await readLocalDir(folder)
  if (found.kind !== 'model') throw new Error(found.reason)
  return found
}

test('a folder is one by its bookkeeping, which is no part of the model', async () => {
  expect(await isLocalDir(folder)).toBe(false)
  await note('config.json')
  expect(await isLocalDir(folder)).toBe(true)
  const { files: found, commit } = await read()
  expect(found.map(({ path }) => path)).toEqual(Object.keys(files))
  expect(commit).toBe(someCommit)
})

test('with the list of the commit it is known what each file was, and what is missing', async () => {
  await note('config.json')
  await note('sub/model.safetensors')
  await list({ 'README.md': 'text' })
  const { claims, isPart, remark } = await read()
  expect([...claims.keys()].toSorted()).toEqual(Object.keys(files))
  expect({ isPart, remark }).toEqual({ isPart: true, remark: 'a part: 2 of 3 files' })
})

test('nothing is claimed of a file that was written since it was fetched', async () => {
  await note('config.json')
  await note('sub/model.safetensors')
  await list()
  const later = Date.now() / 1000 + 60
  await utimes(join(folder, 'config.json'), later, later)
  expect([...(await read()).claims.keys()]).toEqual(['sub/model.safetensors'])
})

test('metadata that nobody could have written is passed by', async () => {
  await note('config.json', 'no commit')
  const place = join(folder, '.cache/huggingface/download/sub/model.safetensors.metadata')
  await mkdir(dirname(place), { recursive: true })
  await writeFile(place, '')
  expect(await read()).toMatchObject({ commit: undefined, isPart: false })
})
