/** Keeping, releasing and deleting: what is deleted is only ever ours. */

import { existsSync } from 'node:fs'
import { readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { openClient } from '../../src/api/client.ts'
import { modelSchema, removedSchema, type SeededEvent } from '../../src/api/contract.ts'
import { homePaths } from '../../src/api/home.ts'
import { MiB } from '../../src/core/units.ts'
import { flipByteKeepingStamp } from '../support/bit-rot.ts'
import {
  expectError,
  expectSameFiles,
  isWaiting,
  pull,
  seed,
  show,
  startPull,
  succeeded,
  useStage,
} from '../support/end-to-end.ts'
import type { Machine } from '../support/machine.ts'
import { filesBelow, seededBytes, writeFiles } from '../support/model-files.ts'
import { until } from '../support/poll.ts'

const bytesOfModel = 2 * MiB + 21

const stage = useStage()
let seeder: Machine
let keeper: Machine

beforeAll(async () => {
  seeder = await stage.start('seeder')
  keeper = await stage.start('keeper', [seeder])
})

async function seedModel(name: string): Promise<SeededEvent & { folder: string }> {
  const folder = await writeFiles(stage.file(`seeded-${name}`), {
    // Its own in each: what models share in the home is one file with several names.
    'config.json': `{"name":"${name.padEnd(10)}"}`,
    'weights.bin': seededBytes(name, 2 * MiB),
  })
  return { ...(await seed(seeder, folder, '--name', name)), folder }
}

async function removed(machine: Machine, ...args: string[]) {
  return removedSchema.parse(succeeded(await machine.cw(...args)).last)
}

async function names(machine: Machine): Promise<(string | null)[]> {
  const { lines } = await machine.cw('ls')
  return lines.map(line => modelSchema.parse(line).name)
}

test('gc deletes what is unpinned in the home, says so before with --dry-run, and spares the rest', async () => {
  const [kept, freed, own] = [
    await seedModel('kept'),
    await seedModel('freed'),
    await seedModel('own'),
  ]
  const keptAt = await pull(keeper, kept.link)
  const freedAt = await pull(keeper, freed.link)
  const ownAt = await pull(keeper, own.link, '--to', stage.file('own-folder'))
  const mine = await writeFiles(stage.file('mine'), { 'mine.bin': 'mine' })
  await seed(keeper, mine, '--name', 'mine')
  for (const name of ['freed', 'own', 'mine']) {
    const { last } = succeeded(await keeper.cw('unpin', name))
    expect(modelSchema.parse(last)).toMatchObject({ name, pinned: false, state: 'complete' })
  }
  const would = await removed(keeper, 'gc', '--dry-run')
  expect(would).toEqual({
    type: 'removed',
    manifest: null,
    filesDeleted: 2,
    bytesFreed: bytesOfModel,
    kept: [],
  })
  await expectSameFiles(freedAt.path, freed.folder)

  expect(await removed(keeper, 'gc')).toEqual(would)
  expect(await names(keeper)).toEqual(expect.arrayContaining(['kept', 'own', 'mine']))
  expect(await names(keeper)).not.toContain('freed')
  expect(existsSync(freedAt.path)).toBe(false)
  await expectSameFiles(keptAt.path, kept.folder)
  await expectSameFiles(ownAt.path, own.folder)
  expect(await readFile(join(mine, 'mine.bin'), 'utf8')).toBe('mine')
  expect(await removed(keeper, 'gc')).toMatchObject({ filesDeleted: 0, bytesFreed: 0 })
})

test('pinning again keeps a model from gc', async () => {
  const { link } = await seedModel('again')
  const { path } = await pull(keeper, link, '--no-seed')
  succeeded(await keeper.cw('pin', 'again'))
  await removed(keeper, 'gc')
  expect(await filesBelow(path)).toHaveLength(2)
})

test('rm forgets and leaves every file; with --files it deletes those in the home alone', async () => {
  const model = await seedModel('removed')
  const inHome = await pull(keeper, model.link)
  const forgotten = await removed(keeper, 'rm', 'removed')
  expect(forgotten).toMatchObject({ manifest: model.manifest, filesDeleted: 0, bytesFreed: 0 })
  await expectSameFiles(inHome.path, model.folder)
  expectError(await keeper.cw('rm', 'removed'), 4, /removed/)

  // What still lies there is taken up again, not fetched.
  const again = await pull(keeper, model.link)
  expect(again).toMatchObject({ path: inHome.path, bytesFetched: 0 })
  const deleted = await removed(keeper, 'rm', model.manifest, '--files')
  expect(deleted).toMatchObject({ filesDeleted: 2, bytesFreed: bytesOfModel, kept: [] })
  expect(existsSync(inHome.path)).toBe(false)

  const outside = await pull(keeper, model.link, '--to', stage.file('outside'))
  const kept = await removed(keeper, 'rm', 'removed', '--files')
  expect(kept).toMatchObject({ filesDeleted: 0, bytesFreed: 0 })
  expect(kept.kept.toSorted()).toEqual(
    ['config.json', 'weights.bin'].map(path => join(outside.path, path)),
  )
  await expectSameFiles(outside.path, model.folder)

  const ofSeeder = await removed(seeder, 'rm', 'removed', '--files')
  expect(ofSeeder.kept).toHaveLength(2)
  expect(await filesBelow(model.folder)).toEqual(['config.json', 'weights.bin'])
})

test('a file in the home that the user changed is not deleted', async () => {
  const model = await seedModel('touched')
  const { path } = await pull(keeper, model.link)
  await writeFile(join(path, 'config.json'), '{"mine":true}')
  await writeFile(join(path, 'notes.txt'), 'mine too')
  const kept = await removed(keeper, 'rm', 'touched', '--files')
  expect(kept).toMatchObject({ filesDeleted: 1, kept: [join(path, 'config.json')] })
  expect(await filesBelow(path)).toEqual(['config.json', 'notes.txt'])
})

test('a link neither renames a model nor takes the name of another', async () => {
  const mine = await writeFiles(stage.file('named'), { 'a.bin': 'mine' })
  const { manifest } = await seed(keeper, mine, '--name', 'org/named')
  const other = await seedModel('other')
  const stolen = other.link.replace('name=other', 'name=org/named')
  const { lines, last } = succeeded(await keeper.cw('pull', stolen))
  const notice = lines.find(({ type }) => type === 'notice')
  expect(notice?.['message']).toMatch(/org\/named is the name of another model/)
  expect(last).toMatchObject({
    type: 'pulled',
    path: expect.stringMatching(/models\/org\/named-\w{8}$/),
  })
  expect(await names(keeper)).toContain('org/named')
  expect((await show(keeper, 'org/named')).model.manifest).toBe(manifest)
  expect((await show(keeper, other.manifest)).model.name).toBeNull()

  await pull(keeper, other.link)
  expect((await show(keeper, 'other')).model.manifest).toBe(other.manifest)
  await pull(keeper, other.link.replace('name=other', 'name=renamed'))
  expect((await show(keeper, other.manifest)).model.name).toBe('other')
})

test('a name given to a second model moves there, is said to, and the first is kept', async () => {
  const first = await seedModel('revision')
  const folder = await writeFiles(stage.file('seeded-revision-2'), {
    'weights.bin': seededBytes('revision 2', MiB),
  })
  const outcome = await seeder.cw('seed', folder, '--name', 'revision')
  const notice = outcome.lines.find(line => line.type === 'notice')
  expect(String(notice?.['message'])).toContain(first.manifest)
  expect((await show(seeder, 'revision')).model.manifest).not.toBe(first.manifest)
  expect((await show(seeder, first.manifest)).model).toMatchObject({ name: null, pinned: true })
})

test('what is removed is served no more', async () => {
  const model = await seedModel('withdrawn')
  succeeded(await seeder.cw('rm', 'withdrawn'))
  const outcome = await keeper.cw(
    'pull',
    model.manifest,
    '--peer',
    seeder.address,
    '--find-timeout',
    '1',
  )
  expectError(outcome, 4, /./)
  expect(await names(keeper)).not.toContain('withdrawn')
})

test('two models that share a file keep it until the second is gone', async () => {
  const shared = seededBytes('both', MiB)
  const links = []
  for (const name of ['first', 'second']) {
    const folder = await writeFiles(stage.file(`both-${name}`), { 'shared.bin': shared, name })
    links.push((await seed(seeder, folder, '--name', name)).link)
  }
  const [first, second] = [
    await pull(keeper, ...links.slice(0, 1)),
    await pull(keeper, ...links.slice(1)),
  ]
  expect(second.bytesFetched).toBeLessThan(1000)
  const inodes = await Promise.all(
    [first, second].map(async ({ path }) => (await stat(join(path, 'shared.bin'))).ino),
  )
  expect(inodes[0]).toBe(inodes[1])
  const one = await removed(keeper, 'rm', 'first', '--files')
  expect(one).toMatchObject({ filesDeleted: 2, bytesFreed: 'first'.length })
  await expectSameFiles(second.path, stage.file('both-second'))
  expect(succeeded(await keeper.cw('verify', 'second')).last).toMatchObject({ files: 2, bad: [] })
  const two = await removed(keeper, 'rm', 'second', '--files')
  expect(two.bytesFreed).toBe(MiB + 'second'.length)
})

test('a model that is being pulled is neither removed nor collected, and a cancelled pull leaves what gc frees', async () => {
  const model = await seedModel('busy')
  await flipByteKeepingStamp(join(model.folder, 'weights.bin'), 0)
  const pulling = startPull(keeper, model.link)
  await pulling.reached(isWaiting)
  expectError(await keeper.cw('rm', 'busy'), 9, /being pulled/)
  succeeded(await keeper.cw('unpin', 'busy'))
  await removed(keeper, 'gc')
  expect(await names(keeper)).toContain('busy')

  const follower = await until('somebody stops it', async () => {
    const { lines } = await keeper.cw('operations')
    return lines.find(({ state }) => state === 'running')
  })
  await cancel(keeper, String(follower['id']))
  expect((await pulling.ended).code).toBe(130)
  const freed = await removed(keeper, 'gc')
  expect(freed.filesDeleted).toBeGreaterThan(0)
  expect(await names(keeper)).not.toContain('busy')
})

async function cancel(machine: Machine, id: string): Promise<void> {
  await openClient(homePaths(machine.home)).cancel(id)
}
