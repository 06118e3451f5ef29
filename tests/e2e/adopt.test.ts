/** Adopting from the command: real daemons, and caches as other programs leave them. */

import { execFile } from 'node:child_process'
import { readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type AdoptedEvent, adoptedSchema, adoptionSchema } from '../../src/api/adoption.ts'
import { mirroredSchema } from '../../src/api/mirror-contract.ts'
import { MiB } from '../../src/core/units.ts'
import {
  expectError,
  expectSameFiles,
  openStage,
  pull,
  show,
  type Stage,
  succeeded,
} from '../support/end-to-end.ts'
import type { Machine, Outcome } from '../support/machine.ts'
import { openMockHub } from '../support/mock-hub.ts'
import { etagOf, someCommit, writeOllamaModel, writeSnapshot } from '../support/model-caches.ts'
import { seededBytes, writeFiles } from '../support/model-files.ts'
import { until } from '../support/poll.ts'

const files = {
  '.gitattributes': '*.safetensors filter=lfs\n',
  'config.json': '{"a":1}',
  'model.safetensors': seededBytes('adopted', 3 * MiB),
}
const cached = {
  '.gitattributes': files['.gitattributes'],
  'config.json': files['config.json'],
  'model.safetensors': { bytes: files['model.safetensors'] },
}

let stage: Stage
let machine: Machine
let root: string
beforeEach(async () => {
  stage = await openStage()
  machine = await stage.start('adopting')
  root = stage.file('hub')
})
afterEach(() => stage[Symbol.asyncDispose]())

function adoptedBy(outcome: Outcome): AdoptedEvent[] {
  return outcome.lines
    .filter(({ type }) => type === 'adopted')
    .map(line => adoptedSchema.parse(line))
}

async function adopt(...args: string[]): Promise<AdoptedEvent[]> {
  return adoptedBy(succeeded(await machine.cw('adopt', ...args)))
}

test('what was adopted from a cache is the model that a mirror of the commit is, and is served', async () => {
  await using hub = await openMockHub()
  hub.repo('org/Model')
  const commit = hub.commit(
    'org/Model',
    Object.fromEntries(Object.entries(files).map(([path, bytes]) => [path, Buffer.from(bytes)])),
  )
  const mirror = await stage.start('mirror')
  const mirrored = succeeded(await mirror.cw('mirror', 'hf:org/Model', '--upstream', hub.url))
  const { manifest } = mirroredSchema.parse(mirrored.last)
  await mirror.stop()

  await writeSnapshot(root, 'models--org--Model', cached, { tree: true, commit })
  const [line] = await adopt('--hf', root)
  expect(line).toMatchObject({ name: 'org/Model', state: 'new', manifest })

  const reader = await stage.start('reader', [machine])
  const { path } = await pull(reader, manifest)
  await expectSameFiles(path, await writeFiles(stage.file('original'), files))
})

test('a second time nothing is new, and what is damaged or changed is not shared', async () => {
  await writeSnapshot(root, 'models--org--one', cached, { tree: true })
  await writeSnapshot(root, 'models--org--two', { 'config.json': '{"b":2}' }, { tree: true })
  expect((await adopt('--hf', root)).map(({ state }) => state)).toEqual(['new', 'new'])
  expect((await adopt('--hf', root)).map(({ state }) => state)).toEqual(['known', 'known'])

  const blob = join(root, 'models--org--two/blobs', etagOf('config.json', '{"b":2}'))
  await writeFile(blob, '{"b":3}')
  expect(await show(machine, 'org/two')).toMatchObject({
    model: { state: 'changed', bytesHeld: 0 },
  })
  const outcome = await machine.cw('adopt', '--hf', root)
  expect(outcome.code).toBe(3)
  expect(adoptedBy(outcome)).toMatchObject([
    { name: 'org/one', state: 'known' },
    {
      name: 'org/two',
      state: 'skipped',
      manifest: null,
      reason: expect.stringContaining('damaged'),
    },
  ])
  expect(adoptionSchema.parse(outcome.last)).toMatchObject({ models: 1, skipped: 1 })
})

test('what its program deletes is forgotten, and stays when it was pinned', async () => {
  await writeSnapshot(root, 'models--org--kept', { 'config.json': '{"b":2}' }, { tree: true })
  await adopt('--hf', root, '--pin')
  await writeSnapshot(root, 'models--org--gone', cached, { tree: true })
  await adopt('--hf', root)
  await rm(join(root, 'models--org--kept'), { recursive: true })
  await rm(join(root, 'models--org--gone'), { recursive: true })
  expect(await show(machine, 'org/gone')).toMatchObject({ model: { state: 'changed' } })
  expect(await adopt('--hf', root)).toEqual([])
  expect(succeeded(await machine.cw('ls')).lines).toMatchObject([
    { name: 'org/kept', state: 'complete', pinned: true },
  ])
  const reader = await stage.start('reader', [machine])
  const { path } = await pull(
    reader,
    succeeded(await machine.cw('link', 'org/kept')).last['link'] as string,
  )
  expect(await readFile(join(path, 'config.json'), 'utf8')).toBe('{"b":2}')
})

test(
  'a watched cache is followed by the daemon, also after a restart',
  { timeout: 120_000 },
  async () => {
    await writeSnapshot(root, 'models--org--one', { 'config.json': '{"a":1}' })
    await adopt('--hf', root, '--watch')
    await writeSnapshot(root, 'models--org--two', { 'config.json': '{"b":2}' })
    const names = async (): Promise<unknown[]> =>
      succeeded(await machine.cw('ls')).lines.map(({ name }) => name)
    await until('org/two was adopted', async () =>
      (await names()).includes('org/two') ? true : undefined,
    )

    await machine.stop()
    await rm(join(root, 'models--org--one'), { recursive: true })
    machine = await stage.start('adopting')
    await until('org/one was forgotten', async () =>
      (await names()).includes('org/one') ? undefined : true,
    )
    expect(await names()).toEqual(['org/two'])
    succeeded(await machine.cw('adopt', '--hf', root, '--no-watch'))
  },
)

test('a file that an adopted model lost is pulled into our folder, and not into the cache', async () => {
  await writeSnapshot(root, 'models--org--model', cached, { tree: true })
  const [line] = await adopt('--hf', root)
  const holder = await stage.start('holder', [machine])
  await pull(holder, line?.manifest ?? '')
  const blobs = join(root, 'models--org--model/blobs')
  await rm(join(blobs, etagOf('model.safetensors', cached['model.safetensors'])))
  const before = await readdir(root, { recursive: true })
  const pulled = await pull(machine, 'org/model', '--peer', holder.address)
  expect(pulled).toMatchObject({ manifest: line?.manifest, bytesFetched: 3 * MiB })
  expect(await readdir(root, { recursive: true })).toEqual(before)
  const { model, files: held } = await show(machine, 'org/model')
  expect(model).toMatchObject({ state: 'complete', pinned: true })
  expect(Object.fromEntries(held.map(({ path, place }) => [path, place]))).toMatchObject({
    'config.json': expect.stringMatching(blobs),
    'model.safetensors': join(machine.home, 'models/org/model/model.safetensors'),
  })
  // The cache has a part now of what is held, and nothing is lost by that.
  expect(await adopt('--hf', root)).toMatchObject([{ state: 'known', manifest: line?.manifest }])
  expect(await show(machine, 'org/model')).toMatchObject({ model: { state: 'complete' } })
})

test('what was pulled into a hub cache is adopted from there as the same model', async () => {
  await writeSnapshot(root, 'models--org--model', cached, { tree: true })
  const [line] = await adopt('--hf', root)
  const reader = await stage.start('reader', [machine])
  const other = stage.file('other-hub')
  const pulled = await pull(reader, line?.manifest ?? '', '--hf-cache', other)
  expect(pulled.snapshot).toBe(join(other, 'models--org--model/snapshots', someCommit))
  const third = await stage.start('third')
  const adopted = adoptedBy(succeeded(await third.cw('adopt', '--hf', other)))
  expect(adopted).toMatchObject([{ name: 'org/model', manifest: line?.manifest, state: 'new' }])
})

test('Ollama and folders of weights are adopted by name, and a dry run changes nothing', async () => {
  await writeOllamaModel(stage.file('ollama'), 'registry.ollama.ai/library/tiny/8b', [
    { kind: 'model', bytes: 'GGUF' },
    { kind: 'template', bytes: '{{ .Prompt }}' },
  ])
  await writeFiles(stage.file('lm/ada/one-GGUF'), { 'one.gguf': 'GGUF one' })
  const flags = ['--ollama', stage.file('ollama'), '--lm-studio', stage.file('lm')]
  expect(await adopt(...flags, '--dry-run')).toMatchObject([{ manifest: null }, { manifest: null }])
  expect(succeeded(await machine.cw('ls')).lines).toEqual([])
  const adopted = await adopt(...flags)
  expect(adopted.map(({ name }) => name)).toEqual(['ada/one-GGUF', 'tiny-8b'])
  expect((await show(machine, 'tiny-8b')).files.map(({ path }) => path)).toEqual([
    'model.gguf',
    'template',
  ])
})

test('without a flag every cache in its usual place is adopted', async () => {
  const user = stage.file('user')
  await writeSnapshot(join(user, '.cache/huggingface/hub'), 'models--org--model', cached)
  const ollama = join(user, '.ollama/models')
  await writeOllamaModel(ollama, 'hf.co/org/Tiny-GGUF/Q8_0', [{ kind: 'model', bytes: 'GGUF' }])
  await writeFiles(join(user, '.lmstudio/models/ada/one'), { 'one.gguf': 'GGUF one' })
  const { HF_HOME: _, HF_HUB_CACHE: __, OLLAMA_MODELS: ___, ...env } = process.env
  const args = ['--home', machine.home, '--json', 'adopt', '--watch']
  const { stdout } = await promisify(execFile)(stage.world.command, args, {
    env: { ...env, HOME: user },
  })
  const lines = stdout
    .trim()
    .split('\n')
    .map(line => JSON.parse(line) as { type: string; name?: string })
  expect(lines.flatMap(({ type, name }) => (type === 'adopted' ? name : []))).toEqual([
    'org/model',
    'ada/one',
    'org/Tiny-GGUF-Q8_0',
  ])
  expect(succeeded(await machine.cw('status')).last).toMatchObject({
    watched: [join(user, '.cache/huggingface/hub'), ollama, join(user, '.lmstudio/models')],
  })
})

test('a cache that is not there, and the home, are refused with what to do', async () => {
  expectError(await machine.cw('adopt', '--hf', stage.file('nowhere')), 4, /no cache at/)
  expectError(await machine.cw('adopt', '--lm-studio', machine.home), 2, /home of this node/)
  expectError(await machine.cw('adopt', '--dry-run', '--watch'), 2, /nothing to watch/)
  expect(succeeded(await machine.cw('ls')).lines).toEqual([])
})
