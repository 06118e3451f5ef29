import { mkdir, writeFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { existing, usualCaches } from '../../../cli/usual-caches.ts'
import { openScratchFolder } from '../../support/scratch-folder.ts'

const home = '/home/ada'

test('are where the programs themselves look', async () => {
  expect(await usualCaches({ env: {}, home })).toEqual({
    hf: ['/home/ada/.cache/huggingface/hub'],
    ollama: ['/home/ada/.ollama/models', '/usr/share/ollama/.ollama/models'],
    lmStudio: [
      '/home/ada/.lmstudio/models',
      '/home/ada/.cache/lm-studio/models',
      '/home/ada/.cache/llama.cpp',
    ],
  })
})

test.for([
  [{ XDG_CACHE_HOME: '/xdg' }, '/xdg/huggingface/hub'],
  [{ XDG_CACHE_HOME: '/xdg', HF_HOME: '/hf' }, '/hf/hub'],
  [{ HF_HOME: '~/hf' }, '/home/ada/hf/hub'],
  [{ HF_HOME: '/hf', HUGGINGFACE_HUB_CACHE: '/old' }, '/old'],
  [{ HUGGINGFACE_HUB_CACHE: '/old', HF_HUB_CACHE: '/hub' }, '/hub'],
  [{ HF_HOME: '' }, '/home/ada/.cache/huggingface/hub'],
] as const)('%o puts the hub cache at %s', async ([env, expected]) => {
  expect((await usualCaches({ env, home })).hf).toEqual([expected])
})

test("follow Ollama's and llama.cpp's variables, and the pointer of LM Studio", async () => {
  await using scratch = await openScratchFolder()
  await writeFile(scratch.file('.lmstudio-home-pointer'), '/data/lm\n')
  const env = { OLLAMA_MODELS: '/data/ollama', LLAMA_CACHE: '/data/llama' }
  const { hf, ollama, lmStudio } = await usualCaches({ env, home: scratch.path })
  expect(hf.at(-1)).toBe('/data/llama')
  expect(ollama).toEqual(['/data/ollama'])
  expect(lmStudio[0]).toBe('/data/lm/models')
})

test('are used only when they are there', async () => {
  await using scratch = await openScratchFolder()
  await mkdir(scratch.file('a'))
  await writeFile(scratch.file('b'), 'a file')
  const folders = ['a', 'b', 'c'].map(name => scratch.file(name))
  expect(await existing(folders)).toEqual([scratch.file('a')])
})
