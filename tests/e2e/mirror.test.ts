/** Mirroring a hub from the command: real daemons, and a hub on loopback that behaves as the real one. */

import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { statusSchema } from '../../src/api/contract.ts'
import { type MirroredEvent, mirroredSchema, sourceSchema } from '../../src/api/mirror-contract.ts'
import { KiB, MiB } from '../../src/core/units.ts'
import {
  expectError,
  expectSameFiles,
  pull,
  seed,
  startOperation,
  succeeded,
  useStage,
} from '../support/end-to-end.ts'
import type { Machine } from '../support/machine.ts'
import { type MockHub, openMockHub } from '../support/mock-hub.ts'
import { seededBytes, tensorFile, writeFiles } from '../support/model-files.ts'

/** Twenty tensors, and what is said of them. */
function weights(name: string, bytes: number, metadata: Record<string, string>): Buffer {
  const tensors = Array.from({ length: 20 }, (_, index) => {
    return [`layer.${index}`, seededBytes(`${name} ${index}`, bytes / 20)] as const
  })
  return tensorFile(Object.fromEntries(tensors), metadata)
}

const files = {
  '.gitattributes': Buffer.from('*.safetensors filter=lfs\n'),
  'README.md': Buffer.from('# A model\n'),
  'config.json': Buffer.from('{"a":1}'),
  'model.safetensors': weights('mirror', 40 * MiB, { version: '1' }),
  'sub dir/odd #1 100%.txt': Buffer.from('odd'),
  empty: Buffer.alloc(0),
}

const stage = useStage()
let hub: MockHub
let machine: Machine
let folder: string

beforeAll(async () => {
  hub = await openMockHub({ pageEntries: 2, token: 'hf_secret', xet: true })
  machine = await stage.start('mirror')
  folder = await writeFiles(stage.file('original'), files)
  hub.repo('org/Model', { cardData: { license: 'mit' }, tags: ['license:mit', 'en'] })
  hub.commit('org/Model', files)
})

afterAll(() => hub[Symbol.asyncDispose]())

async function mirror(on: Machine, ...args: string[]): Promise<MirroredEvent> {
  const outcome = await on.cw('mirror', ...args, '--upstream', hub.url)
  return mirroredSchema.parse(succeeded(outcome).last)
}

test('mirrors a commit whole: every file, its source, and what the hub says of it', async () => {
  const mirrored = await mirror(machine, 'hf:ORG/model')
  expect(mirrored).toMatchObject({
    ref: 'hf:org/Model',
    name: 'org/Model',
    whole: true,
    changes: null,
  })
  expect(mirrored.bytesFetched).toBe(mirrored.bytes)
  await expectSameFiles(mirrored.path, folder)
  const { lines } = succeeded(await machine.cw('show', 'org/Model'))
  expect(sourceSchema.parse(lines[1])).toMatchObject({
    hub: 'huggingface.co',
    repo: 'org/Model',
    commit: mirrored.commit,
    whole: true,
    licence: 'mit',
    gated: null,
    cardData: { license: 'mit' },
    xetHashes: 1,
    refs: { main: mirrored.commit },
  })
  const again = await mirror(machine, 'hf:org/Model')
  expect(again).toMatchObject({ manifest: mirrored.manifest, bytesFetched: 0 })
})

test('two who mirror one commit have one model, the second from the first, and a third pulls it', async () => {
  const other = await stage.start('other', [machine])
  const to = stage.file('other-copy')
  hub.behave = ({ server, response, serve }) => {
    // Large files are nowhere but at the first.
    if (server === 'cdn') response.destroy()
    else serve()
  }
  const mirrored = await mirror(other, 'hf:org/Model', '--to', to)
  hub.behave = undefined
  expect(mirrored.bytesFromPeers).toBe(files['model.safetensors'].length)
  await expectSameFiles(to, folder)
  const first = await mirror(machine, 'hf:org/Model')
  expect(mirrored.manifest).toBe(first.manifest)
  const third = await stage.start('third', [machine, other])
  const copy = stage.file('third-copy')
  await pull(third, mirrored.manifest, '--to', copy)
  await expectSameFiles(copy, folder)
  const { lines } = succeeded(await third.cw('show', mirrored.manifest))
  expect(sourceSchema.parse(lines[1])).toMatchObject({ commit: first.commit, upstream: null })
})

test('with files left out the copy says that it is partial, and names no commit', async () => {
  const partial = await stage.start('partial')
  const mirrored = await mirror(partial, 'hf:org/Model', '--include', '*.json')
  expect(mirrored).toMatchObject({ whole: false, files: 1 })
  const whole = await mirror(machine, 'hf:org/Model')
  expect(mirrored.manifest).not.toBe(whole.manifest)
  const { lines } = succeeded(await partial.cw('show', mirrored.manifest))
  expect(sourceSchema.parse(lines[1])).toMatchObject({ whole: false, commit: whole.commit })
})

test('after a change of metadata next to nothing is fetched, and it is told what changed', async () => {
  const before = await mirror(machine, 'hf:org/Model')
  const changed: Record<string, Buffer> = {
    ...files,
    'model.safetensors': weights('mirror', 40 * MiB, { version: '2, with more to say' }),
    'new.txt': Buffer.from('new'),
  }
  delete changed['README.md']
  hub.commit('org/Model', changed)
  const sentBefore = hub.bytesSent.cdn
  const after = await mirror(machine, 'hf:org/Model')
  expect(after.changes).toEqual({
    since: before.commit,
    added: 1,
    changed: 1,
    removed: 1,
    unchanged: 4,
    paths: [
      { path: 'model.safetensors', what: 'changed' },
      { path: 'new.txt', what: 'added' },
      { path: 'README.md', what: 'removed' },
    ],
  })
  expect(hub.bytesSent.cdn - sentBefore).toBeLessThan(600 * KiB)
  expect(after.bytesReused).toBeGreaterThan(39 * MiB)
  await expectSameFiles(after.path, await writeFiles(stage.file('changed'), changed))
})

test('what a gateway of ours serves is mirrored as the model that it is', async () => {
  const env = { COMMONWEIGHT_HTTP_LISTEN: '127.0.0.1:0' }
  const gateway = await stage.start('gateway', [machine], { env })
  const mirrored = await mirror(gateway, 'hf:org/Model')
  const plain = await writeFiles(stage.file('plain-model'), { 'a.txt': 'a', 'b/w.bin': 'weights' })
  const seeded = await seed(gateway, plain, '--name', 'org/plain')
  const { gateway: url } = statusSchema.parse(succeeded(await gateway.cw('status')).last)
  const other = await stage.start('behind')
  const again = async (ref: string): Promise<MirroredEvent> => {
    const outcome = await other.cw('mirror', ref, '--upstream', String(url))
    return mirroredSchema.parse(succeeded(outcome).last)
  }
  expect(await again('hf:org/Model')).toMatchObject({
    manifest: mirrored.manifest,
    commit: mirrored.commit,
  })
  // A commit that the gateway made up names nothing but the model.
  expect(await again('hf:org/plain')).toMatchObject({ manifest: seeded.manifest })
})

test('goes on after kill -9 where it was', async () => {
  const big = { 'model.safetensors': weights('big', 120 * MiB, { version: '1' }) }
  hub.commit('org/big', big)
  const home = await stage.start('killed')
  const running = startOperation(
    home,
    'mirror',
    'hf:org/big',
    '--upstream',
    hub.url,
    '--max-down',
    '16MiB',
  )
  await running.reached(({ bytesDone }) => bytesDone > 70 * MiB)
  await home.kill()
  await running.ended
  const sentBefore = hub.bytesSent.cdn
  const restarted = await stage.start('killed')
  const mirrored = await mirror(restarted, 'hf:org/big')
  expect(hub.bytesSent.cdn - sentBefore).toBeLessThan(96 * MiB)
  await expectSameFiles(mirrored.path, await writeFiles(stage.file('big'), big))
})

test('refuses what is private, and what is gated unless that is allowed', async () => {
  hub.repo('org/private', { private: true })
  hub.commit('org/private', { a: Buffer.from('a') })
  hub.repo('org/gated', { gated: 'manual' })
  hub.commit('org/gated', { 'a.bin': Buffer.from('gated') })
  const tokenFile = join(
    await writeFiles(stage.file('token'), { token: Buffer.from('hf_secret\n') }),
    'token',
  )
  const ask = (...args: string[]) => machine.cw('mirror', ...args, '--upstream', hub.url)
  expectError(await ask('hf:org/private'), 4, 'private')
  expectError(await ask('hf:org/private', '--token-file', tokenFile), 2, 'private')
  expectError(await ask('hf:org/gated'), 2, 'gated')
  expectError(await ask('hf:org/gated', '--allow-gated'), 2, 'terms were not accepted')
  const allowed = await mirror(machine, 'hf:org/gated', '--allow-gated', '--token-file', tokenFile)
  expect(allowed).toMatchObject({ gated: 'manual' })
  expect(
    hub.requests.filter(
      ({ server, authorization }) => server === 'cdn' && authorization !== undefined,
    ),
  ).toEqual([])
  expect(machine.log()).not.toContain('hf_secret')
  expectError(await ask('hf:org/none'), 4, 'not on the hub')
  expectError(await ask('hf:org/Model@nowhere'), 4, 'no such revision')
  expectError(await ask('org/Model'), 2, 'not a repository')
})
