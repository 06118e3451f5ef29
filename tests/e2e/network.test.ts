/** The main job over real daemons: what was seeded once is found and fetched from whoever is left. */

import { cp, mkdir, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import type { SeededEvent } from '../../src/api/contract.ts'
import { MiB } from '../../src/core/units.ts'
import {
  expectError,
  expectSameFiles,
  pull,
  seed,
  show,
  succeeded,
  useStage,
} from '../support/end-to-end.ts'
import { type Machine, runCw, witnessSha256 } from '../support/machine.ts'
import { filesBelow, seededBytes, tensorFile, writeFiles } from '../support/model-files.ts'
import { until } from '../support/poll.ts'

const shared = { embed: seededBytes('embed', 2 * MiB + 77), layer: seededBytes('layer', 3 * MiB) }
const modelFiles = {
  'config.json': '{"hidden_size":384}',
  'empty.txt': '',
  'model.safetensors': tensorFile({ ...shared, head: seededBytes('head', MiB) }),
  'onnx/model.onnx': seededBytes('onnx', 2 * MiB + 1),
  'sprache/größe 模型.txt': 'unicode names are names',
}
const bytesTotal = Object.values(modelFiles).reduce((sum, file) => sum + Buffer.byteLength(file), 0)

const stage = useStage()
let original: string
let seeded: SeededEvent
let mirror: Machine
let reader: Machine

beforeAll(async () => {
  original = await writeFiles(stage.file('original'), modelFiles)
  const origin = await stage.start('origin')
  seeded = await seed(origin, original, '--name', 'org/model')
  mirror = await stage.start('mirror', [origin])
  await pull(mirror, seeded.link)
  await origin.kill()
  reader = await stage.start('reader', [mirror])
})

async function rootOf(path: string): Promise<string> {
  const { files } = await show(mirror, 'org/model')
  return files.find(file => file.path === path)?.root ?? ''
}

async function providersOf(machine: Machine, ref: string): Promise<unknown[]> {
  const { lines } = await machine.cw('providers', ref)
  return lines.flatMap(line => line['peerId'] ?? [])
}

async function untilProvider(asker: Machine, ref: string, holder: Machine): Promise<void> {
  await until(`the DHT names ${holder.name} as a holder`, async () =>
    (await providersOf(asker, ref)).includes(holder.peerId) ? true : undefined,
  )
}

test('seeding copies nothing and touches nothing', async () => {
  expect(seeded).toMatchObject({ name: 'org/model', files: 5, bytes: bytesTotal })
  expect(seeded.link).toContain(seeded.manifest)
  expect(await filesBelow(join(stage.file('origin'), 'models'))).toEqual([])
  expect(await filesBelow(original)).toEqual(Object.keys(modelFiles).toSorted())
})

test('the same files in another folder with other times are the same model on another machine', async () => {
  const copy = stage.file('renamed')
  await cp(original, copy, { recursive: true })
  for (const file of await filesBelow(copy)) await utimes(join(copy, file), 1e9, 1e9)
  const { last } = await runCw(stage.world, stage.file('no-home'), ['id', copy])
  expect(last).toMatchObject({ type: 'manifest', manifest: seeded.manifest, bytes: bytesTotal })
})

test('with the origin killed a stranger finds the mirror by the bare manifest CID and gets every byte', async () => {
  const pulled = await pull(reader, seeded.manifest)
  expect(pulled).toMatchObject({ manifest: seeded.manifest, files: 5, bytes: bytesTotal })
  expect(pulled.sources.map(({ peerId }) => peerId)).toEqual([mirror.peerId])
  expect(pulled.bytesFetched + pulled.bytesReused).toBe(bytesTotal)
  await expectSameFiles(pulled.path, original)

  await untilProvider(reader, seeded.manifest, mirror)
  await untilProvider(mirror, seeded.manifest, reader)
})

test('a pull of what is here fetches nothing', async () => {
  const again = await pull(reader, seeded.manifest)
  expect(again).toMatchObject({ bytesFetched: 0, bytesReused: bytesTotal, sources: [] })
})

describe('one file is fetched from the network', () => {
  const sha256Of = (path: string): Promise<string> => witnessSha256(join(original, path))

  test.each([
    ['by its root', 'onnx/model.onnx', () => rootOf('onnx/model.onnx')],
    [
      'by its SHA-256, of many chunks',
      'model.safetensors',
      async () => `sha256:${await sha256Of('model.safetensors')}`,
    ],
    [
      'by its SHA-256, of one chunk',
      'config.json',
      async () => `sha256:${await sha256Of('config.json')}`,
    ],
  ])('%s', async (how, path, ref) => {
    const stranger = await stage.start(how, [mirror])
    const pulled = await pull(stranger, await ref(), '--to', stage.file(`file ${how}`))
    expect(pulled.files).toBe(1)
    const [file] = await filesBelow(pulled.path)
    expect(await witnessSha256(join(pulled.path, file ?? ''))).toBe(await sha256Of(path))
    // It is served like any other: whoever knows its SHA-256 finds this copy too.
    await untilProvider(mirror, `sha256:${await sha256Of(path)}`, stranger)
  })
})

test('include and exclude choose files, and a pull by name completes the model', async () => {
  const machine = await stage.start('chooser', [mirror])
  const to = stage.file('chosen')
  const globs = ['--include', 'model.*', '--exclude', 'onnx/**']
  const part = await pull(machine, seeded.link, '--to', to, ...globs)
  expect(part).toMatchObject({ files: 1, path: to })
  expect(await filesBelow(to)).toEqual(['model.safetensors'])

  const whole = await pull(machine, 'org/model')
  expect(whole).toMatchObject({ manifest: seeded.manifest, files: 5, path: to })
  expect(whole.bytesFetched).toBeLessThan(bytesTotal - shared.layer.length)
  await expectSameFiles(to, original)

  const none = await machine.cw('pull', seeded.link, '--include', '*.gguf')
  expectError(none, 2, /no file of the model matches/)
})

test('without seeding nothing is announced, pinned or served', async () => {
  const quiet = await stage.start('quiet', [mirror])
  await pull(quiet, seeded.link, '--no-seed')
  const { model } = await show(quiet, 'org/model')
  expect(model).toMatchObject({ state: 'complete', seeding: false, pinned: false })
  expect(await providersOf(mirror, seeded.manifest)).not.toContain(quiet.peerId)

  const asker = await stage.start('asker', [quiet])
  const only = ['--include', 'config.json', '--find-timeout', '60']
  const pulled = await pull(asker, seeded.manifest, '--peer', quiet.address, ...only)
  expect(pulled.sources.map(({ peerId }) => peerId)).not.toContain(quiet.peerId)
})

test('a second model takes what it shares from this disk: equal files, and equal tensors in other files', async () => {
  const tuned = await writeFiles(stage.file('tuned'), {
    'config.json': modelFiles['config.json'],
    'renamed/same.onnx': modelFiles['onnx/model.onnx'],
    'tuned.safetensors': tensorFile({ head: seededBytes('another', 1000), ...shared }),
  })
  const { manifest, bytes } = await seed(mirror, tuned, '--name', 'org/tuned')
  const pulled = await pull(reader, manifest, '--peer', mirror.address)
  expect(pulled.bytesFetched).toBeLessThan(64 * 1024)
  expect(pulled.bytesReused).toBe(bytes - pulled.bytesFetched)
  await expectSameFiles(pulled.path, tuned)
})

test('a link alone is enough for a machine that knows nobody', async () => {
  const newcomer = await stage.start('newcomer')
  const { last: link } = succeeded(await mirror.cw('link', seeded.manifest))
  expect(link).toMatchObject({ type: 'link', manifest: seeded.manifest, name: 'org/model' })
  const pulled = await pull(newcomer, String(link['link']), '--include', 'config.json')
  expect(pulled.files).toBe(1)
  expect(await filesBelow(pulled.path)).toEqual(['config.json'])
  expect((await newcomer.cw('ls')).last).toMatchObject({ name: 'org/model', files: 1 })
})

test('machines see each other: connect, peers, status', async () => {
  const { last: connected } = succeeded(await reader.cw('connect', mirror.address))
  expect(connected).toMatchObject({ type: 'connected', peerId: mirror.peerId })
  const peers = succeeded(await reader.cw('peers')).lines
  expect(peers).toContainEqual(
    expect.objectContaining({
      type: 'peer',
      peerId: mirror.peerId,
      path: expect.stringMatching(/^(lane|stream)$/),
    }),
  )
  const { last: status } = succeeded(await reader.cw('status'))
  expect(status).toMatchObject({ peerId: reader.peerId, pid: reader.pid, home: reader.home })
  expect(Number(status['connections'])).toBeGreaterThan(0)
  const gone = await stage.start('gone')
  await gone.kill()
  expectError(await reader.cw('connect', gone.address), 5, /./)
})

test('every other verb keeps to the contract too', async () => {
  // The stage checks each line against its schema; here is that no verb was left out.
  for (const args of [
    ['config'],
    ['ls'],
    ['show', seeded.manifest],
    ['operations'],
    ['verify', seeded.manifest],
    ['unpin', seeded.manifest],
    ['pin', seeded.manifest],
    ['gc', '--dry-run'],
    ['gc'],
  ]) {
    const { code, lines } = await reader.cw(...args)
    expect({ args, code }).toEqual({ args, code: 0 })
    expect(lines.length).toBeGreaterThan(0)
  }
  expect((await reader.cw('show', 'nothing/here')).code).toBe(4)
  await mkdir(stage.file('empty'))
  expectError(await reader.cw('seed', stage.file('empty')), 2, /no files in/)
})
