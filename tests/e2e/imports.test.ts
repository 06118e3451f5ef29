/** What people really have in their folders: odd names, links, files that change, nothing, and a lot. */

import { execFileSync, spawn } from 'node:child_process'
import { link, mkdir, open, readFile, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { GiB, MiB } from '../../src/core/units.ts'
import {
  expectError,
  expectSameFiles,
  pull,
  seed,
  show,
  succeeded,
  useStage,
} from '../support/end-to-end.ts'
import { type Machine, runCw } from '../support/machine.ts'
import { filesBelow, seededBytes, writeFiles } from '../support/model-files.ts'

const stage = useStage()
let seeder: Machine
let puller: Machine

beforeAll(async () => {
  seeder = await stage.start('seeder')
  puller = await stage.start('puller', [seeder])
})

/** Both ways in refuse it, with the same words, and nothing of it is held afterwards. */
async function expectRefused(folder: string, exit: number, message: RegExp): Promise<void> {
  expectError(await runCw(stage.world, stage.file('no-home'), ['id', folder]), exit, message)
  expectError(await seeder.cw('seed', folder, '--name', 'bad/model'), exit, message)
}

async function namesHeld(): Promise<unknown[]> {
  return (await seeder.cw('ls')).lines.map(({ name }) => name)
}

test('a path that no other system could write is refused', async () => {
  const newline = await writeFiles(stage.file('newline'), { 'a\nb.bin': 'x' })
  await expectRefused(newline, 2, /newline|control|a\\nb/)
  const invalid = stage.file('invalid')
  await mkdir(invalid)
  await writeFile(Buffer.concat([Buffer.from(`${invalid}/`), Buffer.from([0x61, 0xff, 0xfe])]), 'x')
  await expectRefused(invalid, 2, /UTF-8/)
  const collide = await writeFiles(stage.file('collide'), { 'A.bin': 'x', 'a.bin': 'y' })
  await expectRefused(collide, 2, /same name/)
  expect(await namesHeld()).not.toContain('bad/model')
})

test('what is no file of the folder is refused: links out of it, links to nothing, pipes', async () => {
  for (const [name, target] of [
    ['out', '/etc/passwd'],
    ['nowhere', 'missing'],
    ['circle', 'circle'],
  ] as const) {
    const folder = await writeFiles(stage.file(`link-${name}`), { 'a.bin': 'x' })
    await symlink(target, join(folder, name))
    await expectRefused(folder, name === 'circle' ? 7 : 2, /link/)
  }
  const pipes = await writeFiles(stage.file('pipes'), { 'a.bin': 'x' })
  execFileSync('mkfifo', [join(pipes, 'pipe')])
  await expectRefused(pipes, 2, /named pipe/)
  expect(await namesHeld()).not.toContain('bad/model')
})

test('nothing to seed: no such path, an empty folder, the home itself', async () => {
  await expectRefused(stage.file('no-such-path'), 2, /no such/)
  await mkdir(stage.file('empty/.git'), { recursive: true })
  await writeFile(stage.file('empty/.git/config'), 'x')
  await expectRefused(stage.file('empty'), 2, /no files/)
  expectError(await seeder.cw('seed', seeder.home), 2, /home/)
  expectError(await seeder.cw('seed', stage.world.folder), 2, /home/)
  expect(await namesHeld()).not.toContain('bad/model')
})

test('a file that grows while it is hashed is refused, and seeded when it has ended', async () => {
  const folder = await writeFiles(stage.file('growing'), { 'a.bin': seededBytes('grow', 64 * MiB) })
  const path = join(folder, 'a.bin')
  const writer = spawn('sh', ['-c', 'while printf x >> "$1"; do :; done', 'sh', path])
  try {
    const outcome = await seeder.cw('seed', folder, '--name', 'growing')
    expectError(outcome, 9, /changed while it was being read/)
  } finally {
    writer.kill('SIGKILL')
    await new Promise(resolve => writer.once('close', resolve))
  }
  expect((await seeder.cw('show', 'growing')).code).toBe(4)
  await seed(seeder, folder, '--name', 'growing')
})

test('empty files, one name in two folders, links within, unicode and deep paths travel as they are', async () => {
  const folder = await writeFiles(stage.file('odd'), {
    'empty.bin': '',
    'a/b/c/d/e/f/g/deep.txt': 'deep',
    'a/config.json': '{}',
    'b/config.json': '{}',
    'b/twin.bin': seededBytes('twin', 2 * MiB),
    'sp ace/with --dash.txt': 'x',
    'モデル/größe-é😀.txt': 'unicode',
    '.hidden': 'dot',
    "quote's $(x).txt": 'quotes',
  })
  await symlink('../b/twin.bin', join(folder, 'a/linked.bin'))
  await link(join(folder, 'b/twin.bin'), join(folder, 'hard.bin'))
  const { link: ref, files } = await seed(seeder, folder, '--name', 'odd')
  expect(files).toBe(11)
  const pulled = await pull(puller, ref)
  expect(pulled.bytesFetched).toBeLessThan(2 * MiB + 1000)
  // A link arrives as the file it led to.
  const copy = stage.file('odd-copy')
  execFileSync('cp', ['-rL', folder, copy])
  await expectSameFiles(pulled.path, copy)
})

test('a model of one empty file is a model', async () => {
  const folder = await writeFiles(stage.file('void'), { nothing: '' })
  const { link: ref, bytes } = await seed(seeder, folder, '--name', 'void')
  expect(bytes).toBe(0)
  const pulled = await pull(puller, ref)
  expect(pulled).toMatchObject({ files: 1, bytes: 0 })
  await expectSameFiles(pulled.path, folder)
  expect((await show(puller, ref)).model).toMatchObject({ state: 'complete', percent: 100 })
})

test('single files and several paths make models too', async () => {
  const folder = await writeFiles(stage.file('parts'), { 'a.bin': 'a', 'b.bin': 'b' })
  const one = await seed(seeder, join(folder, 'a.bin'))
  const two = await seed(seeder, join(folder, 'a.bin'), join(folder, 'b.bin'))
  expect([one.files, two.files]).toEqual([1, 2])
  expect(one.manifest).not.toBe(two.manifest)
  const pulled = await pull(puller, one.link)
  expect(pulled).toMatchObject({ files: 1, bytes: 1 })
  expectError(await seeder.cw('seed', join(folder, 'a.bin'), join(folder, 'a.bin')), 2, /twice/)
})

test('kill -9 in the middle of seeding leaves nothing but the wish to ask again', async () => {
  const folder = await writeFiles(stage.file('interrupted'), {
    'a.bin': seededBytes('interrupted', 8 * MiB),
    'b.bin': '',
  })
  await truncate(join(folder, 'b.bin'), GiB)
  const before = await stage.start('seeding')
  const { last } = await before.watch(['seed', folder, '--name', 'interrupted'], line => {
    if (line.type === 'progress') void before.kill()
  })
  expect(last).toMatchObject({ type: 'error', code: 'UNAVAILABLE' })
  const machine = await stage.start('seeding')
  expect((await machine.cw('ls')).lines).toEqual([])
  await truncate(join(folder, 'b.bin'), 3)
  const { manifest } = await seed(machine, folder, '--name', 'interrupted')
  const { last: same } = await runCw(stage.world, stage.file('no-home'), ['id', folder])
  expect(same).toMatchObject({ type: 'manifest', manifest })
})

test('a file of 2^32 bytes is seeded', { timeout: 180_000 }, async () => {
  const folder = stage.file('sparse')
  await mkdir(folder)
  {
    await using file = await open(join(folder, 'sparse.bin'), 'w')
    await file.truncate(4 * GiB)
  }
  const { bytes } = await seed(seeder, folder, '--name', 'sparse')
  expect(bytes).toBe(4 * GiB)
  const { files } = await show(seeder, 'sparse')
  expect(files).toMatchObject([{ size: 4 * GiB, chunks: 4096, state: 'held' }])
  // sha256sum of 4 GiB of zeros, known from elsewhere: `head -c 4294967296 /dev/zero | sha256sum`.
  expect(files[0]?.sha256).toBe('8479e43911dc45e89f934fe48d01297e16f51d17aa561d4d1c216b1ae0fcddca')
  succeeded(await seeder.cw('rm', 'sparse'))
  await truncate(join(folder, 'sparse.bin'), 0)
})

test('a model of 10,000 small files is seeded and pulled', { timeout: 180_000 }, async () => {
  const folder = stage.file('many')
  const files: Record<string, string> = {}
  for (let number = 0; number < 10_000; number += 1) {
    files[`${number % 100}/${number}.json`] = `{"number":${number}}`
  }
  await writeFiles(folder, files)
  const { link: ref } = await seed(seeder, folder, '--name', 'many')
  const pulled = await pull(puller, ref)
  expect(pulled.files).toBe(10_000)
  expect(await filesBelow(pulled.path)).toEqual(Object.keys(files).toSorted())
  const wrong: string[] = []
  for (const [path, text] of Object.entries(files)) {
    if ((await readFile(join(pulled.path, path), 'utf8')) !== text) wrong.push(path)
  }
  expect(wrong).toEqual([])
  const { model } = await show(puller, 'many')
  expect(model).toMatchObject({ state: 'complete', files: 10_000, percent: 100 })
})
