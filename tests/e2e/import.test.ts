/** Files that are here already become a hub's commit: a git clone with LFS, and a folder that a hub vouches for. */

import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import {
  type ImportedEvent,
  importedSchema,
  mirroredSchema,
  sourceSchema,
} from '../../src/api/mirror-contract.ts'
import { MiB } from '../../src/core/units.ts'
import { expectError, expectSameFiles, pull, succeeded, useStage } from '../support/end-to-end.ts'
import { makeClone } from '../support/git-clone.ts'
import type { Machine } from '../support/machine.ts'
import { type MockHub, openMockHub } from '../support/mock-hub.ts'
import { seededBytes, writeFiles } from '../support/model-files.ts'

const files = {
  '.gitattributes': Buffer.from('*.bin filter=lfs\n'),
  'config.json': Buffer.from('{"imported":true}'),
  'data/small.bin': seededBytes('small', 10),
  'weights.bin': seededBytes('imported', 3 * MiB),
}

const stage = useStage()
let hub: MockHub
let machine: Machine
let clone: string
let commit: string

beforeAll(async () => {
  hub = await openMockHub()
  machine = await stage.start('importer')
  clone = stage.file('clone')
  commit = await makeClone(
    clone,
    {
      '.gitattributes': { bytes: files['.gitattributes'] },
      'config.json': { bytes: files['config.json'] },
      'data/small.bin': { bytes: files['data/small.bin'], lfs: 'objects' },
      'weights.bin': { bytes: files['weights.bin'], lfs: 'file' },
    },
    'https://huggingface.co/org/imported',
  )
  hub.commit('org/imported', files, commit)
})

afterAll(() => hub[Symbol.asyncDispose]())

async function importFolder(on: Machine, ...args: string[]): Promise<ImportedEvent> {
  return importedSchema.parse(succeeded(await on.cw('import', ...args)).last)
}

test('a git clone is the model that a mirror of its commit is, and others pull it', async () => {
  const imported = await importFolder(machine, clone)
  expect(imported).toMatchObject({
    ref: `hf:org/imported@${commit}`,
    commit,
    name: 'org/imported',
    proof: 'commit',
    files: 4,
    leftOut: 0,
  })
  const other = await stage.start('mirror', [machine])
  const mirrored = await other.cw('mirror', 'hf:org/imported', '--upstream', hub.url)
  expect(mirroredSchema.parse(succeeded(mirrored).last).manifest).toBe(imported.manifest)
  const third = await stage.start('third', [machine])
  const copy = stage.file('copy')
  await pull(third, imported.link, '--to', copy)
  await expectSameFiles(copy, await writeFiles(stage.file('original'), files))
  const { lines } = succeeded(await machine.cw('show', 'org/imported'))
  expect(sourceSchema.parse(lines[1])).toMatchObject({ commit, whole: true, repo: 'org/imported' })
})

test('a folder is compared with what the hub lists, and what is not of the commit is left out', async () => {
  const folder = await writeFiles(stage.file('plain-folder'), { ...files, 'notes.txt': 'mine' })
  const on = await stage.start('plain')
  const args = ['--source', `hf:org/imported@${commit}`, '--upstream', hub.url]
  const imported = await importFolder(on, folder, ...args)
  const first = await importFolder(machine, clone)
  expect(imported).toMatchObject({ manifest: first.manifest, proof: 'hub', leftOut: 1 })
  await writeFile(join(folder, 'config.json'), '{"imported":null}')
  expectError(await on.cw('import', folder, ...args), 6, 'config.json')
  await rm(join(folder, 'config.json'))
  expectError(await on.cw('import', folder, ...args), 4, 'config.json')
  expectError(await on.cw('import', folder), 2, 'no git clone')
  expectError(
    await on.cw('import', folder, '--source', 'hf:org/imported'),
    2,
    'does not name a commit',
  )
})

test('a clone with other files than its commit, or without them, is not that commit', async () => {
  const changed = stage.file('changed')
  const one = {
    a: { bytes: Buffer.from('a') },
    'w.bin': { bytes: seededBytes('w', MiB), lfs: 'file' },
  } as const
  await makeClone(changed, one, 'git@hf.co:datasets/org/changed.git')
  expect(await importFolder(machine, changed)).toMatchObject({ name: 'datasets/org/changed' })
  await writeFile(join(changed, 'a'), 'b')
  expectError(await machine.cw('import', changed), 6, '1 file is not as in the commit: a')
  const pointers = stage.file('pointers')
  await makeClone(
    pointers,
    { 'w.bin': { bytes: Buffer.alloc(500), lfs: 'objects' } },
    'https://example.org/x',
  )
  expectError(await machine.cw('import', pointers), 2, 'not cloned from a hub')
  expect(await importFolder(machine, pointers, '--source', 'hf:org/p')).toMatchObject({ files: 1 })
  await rm(join(pointers, '.git/lfs'), { recursive: true })
  expectError(await machine.cw('import', pointers, '--source', 'hf:org/p'), 4, 'w.bin')
})
