import { symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { readModelFolders } from '../../../src/caches/model-folders.ts'
import { writeFiles } from '../../support/model-files.ts'
import { openScratchFolder, type ScratchFolder } from '../../support/scratch-folder.ts'

let scratch: ScratchFolder
let root: string
beforeEach(async () => {
  scratch = await openScratchFolder()
  root = scratch.file('models')
})
afterEach(() => scratch[Symbol.asyncDispose]())

async function found(): Promise<Record<string, string[] | string>> {
  const entries = await readModelFolders(root)
  return Object.fromEntries(
    entries.map(entry => [
      entry.name ?? '-',
      entry.kind === 'model' ? entry.files.map(({ path }) => path) : entry.reason,
    ]),
  )
}

test("LM Studio's folders are models named by publisher and model", async () => {
  await writeFiles(root, {
    'ada/one-GGUF/one-Q4.gguf': 'x',
    'ada/one-GGUF/one-Q8.gguf': 'y',
    'ada/one-GGUF/downloading.gguf.part': 'half',
    'mlx/two/config.json': '{}',
    'mlx/two/model.safetensors': 'z',
    'mlx/none/README.md': 'no weights',
    '.internal/three/three.gguf': 'hidden',
  })
  expect(await found()).toEqual({
    'ada/one-GGUF': ['one-Q4.gguf', 'one-Q8.gguf'],
    'mlx/two': ['config.json', 'model.safetensors'],
  })
})

test('GGUF files that lie in the folder itself are a model each, shards together', async () => {
  await writeFiles(root, {
    'a.Q4_K_M.gguf': 'x',
    'b-00001-of-00002.gguf': 'y',
    'b-00002-of-00002.gguf': 'z',
    'a.Q4_K_M.gguf.json': 'of llama.cpp',
  })
  expect(await found()).toEqual({
    'a.Q4_K_M': ['a.Q4_K_M.gguf'],
    b: ['b-00001-of-00002.gguf', 'b-00002-of-00002.gguf'],
  })
})

test('a folder of safetensors that was named itself is one model', async () => {
  await writeFiles(root, { 'config.json': '{}', 'model.safetensors': 'x' })
  expect(await found()).toEqual({ '-': ['config.json', 'model.safetensors'] })
})

test('a link out of a model folder refuses that model alone', async () => {
  await writeFiles(root, { 'ada/good/a.gguf': 'x', 'ada/bad/b.gguf': 'y' })
  await writeFiles(scratch.file('secret'), { key: 'private' })
  await symlink(scratch.file('secret/key'), join(root, 'ada/bad/c.gguf'))
  expect(await found()).toEqual({
    'ada/good': ['a.gguf'],
    'ada/bad': expect.stringContaining('a link out of the folder'),
  })
})
