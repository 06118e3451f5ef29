/**
 * Disks that do not keep their word: seeded files that are edited, cut, replaced or gone, bits that rot,
 * a peer whose disk lies. Whoever pulls gets the right bytes or an error, never wrong ones.
 */

import { execFileSync } from 'node:child_process'
import { appendFile, readFile, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { verifiedSchema, type SeededEvent } from '../../src/api/contract.ts'
import { MiB } from '../../src/core/units.ts'
import { flipByteKeepingStamp } from '../support/bit-rot.ts'
import {
  expectError,
  expectSameFiles,
  pull,
  seed,
  show,
  succeeded,
  useStage,
} from '../support/end-to-end.ts'
import { type Machine, witnessSha256 } from '../support/machine.ts'
import { filesBelow, seededBytes, writeFiles } from '../support/model-files.ts'
import { until } from '../support/poll.ts'

const files = { 'config.json': '{}', 'weights.bin': seededBytes('changing', 4 * MiB) }

const stage = useStage()
let seeder: Machine
let puller: Machine

beforeAll(async () => {
  seeder = await stage.start('seeder')
  puller = await stage.start('puller', [seeder])
})

describe('a seeded file that changed is withdrawn, shown as changed, and left alone', () => {
  let folder: string
  let weights: string
  let model: SeededEvent
  let number = 0

  beforeEach(async () => {
    number += 1
    // Each its own bytes: a copy of the same chunks elsewhere would be served instead.
    const bytes = seededBytes(`changing ${number}`, 4 * MiB)
    folder = await writeFiles(stage.file(`seeded ${number}`), { 'weights.bin': bytes })
    weights = join(folder, 'weights.bin')
    model = await seed(seeder, folder, '--name', `changing-${number}`)
  })

  test.each<[string, () => Promise<void>]>([
    ['edited', () => appendFile(weights, 'x').then(() => truncate(weights, 4 * MiB))],
    ['longer', () => appendFile(weights, 'more')],
    ['truncated', () => truncate(weights, 2 * MiB)],
    ['truncated to nothing', () => truncate(weights, 0)],
    ['gone', () => rm(weights)],
    ['replaced by another file', () => replace(weights, seededBytes('other', 4 * MiB))],
    ['replaced by a link', () => rm(weights).then(() => symlink('/etc/hostname', weights))],
  ])('%s', async (how, change) => {
    await change()
    const left = await readFile(weights).catch(() => undefined)
    const { model: shown, files: shownFiles } = await show(seeder, `changing-${number}`)
    expect(shown).toMatchObject({ state: 'changed', bytesHeld: 0, percent: 0 })
    expect(shownFiles).toMatchObject([{ path: 'weights.bin', state: 'changed', chunksHeld: 0 }])

    const to = stage.file(`pulled ${how}`)
    const outcome = await puller.cw('pull', model.link, '--to', to, '--find-timeout', '1')
    expectError(outcome, 5, /./)
    expect((await filesBelow(to)).filter(path => !path.endsWith('.part'))).toEqual([])
    expect(await readFile(weights).catch(() => undefined)).toEqual(left)
    succeeded(await puller.cw('rm', model.manifest))
  })
})

async function replace(path: string, bytes: Uint8Array): Promise<void> {
  await writeFile(`${path}.new`, bytes)
  await rename(`${path}.new`, path)
}

test('a chunk that rotted with its times kept is refused, named by verify, and served once it is right again', async () => {
  const folder = await writeFiles(stage.file('rotting'), files)
  const weights = join(folder, 'weights.bin')
  const model = await seed(seeder, folder, '--name', 'rotting')
  await flipByteKeepingStamp(weights, 2 * MiB + 5)
  const target = ['pull', model.link, '--find-timeout', '1']
  expectError(await puller.cw(...target), 5, /./)
  const bad = {
    path: 'weights.bin',
    place: weights,
    offset: 2 * MiB,
    length: MiB,
    reason: 'the bytes do not match their digest',
  }
  for (const args of [['rotting'], [weights], [folder], []]) {
    const { code, last } = await seeder.cw('verify', ...args)
    expect(code).toBe(6)
    expect(verifiedSchema.parse(last).bad).toContainEqual(bad)
  }
  const { files: shown } = await show(seeder, 'rotting')
  expect(shown).toMatchObject([{ state: 'held' }, { state: 'changed', chunks: 4, chunksHeld: 3 }])
  expectError(await seeder.cw('verify', stage.file('nothing-there')), 4, /nothing-there/)

  await flipByteKeepingStamp(weights, 2 * MiB + 5)
  const { last } = succeeded(await seeder.cw('verify', weights))
  expect(last).toEqual({ type: 'verified', files: 1, bytes: 4 * MiB, bad: [] })
  expect((await show(seeder, 'rotting')).model.state).toBe('complete')
  const pulled = await pull(puller, model.manifest)
  expect(pulled.bytesFetched).toBe(MiB)
  await expectSameFiles(pulled.path, folder)
})

test('seeding an edited model again is another model; what was pulled of the old one stays', async () => {
  const folder = await writeFiles(stage.file('edited'), { 'notes.txt': 'first' })
  const first = await seed(seeder, folder, '--name', 'edited')
  const pulled = await pull(puller, first.link)
  await writeFile(join(folder, 'notes.txt'), 'second')
  const second = await seed(seeder, folder, '--name', 'edited')
  expect(second.manifest).not.toBe(first.manifest)
  expect(await readFile(join(pulled.path, 'notes.txt'), 'utf8')).toBe('first')
  const latest = await pull(puller, second.link)
  expect(await readFile(join(latest.path, 'notes.txt'), 'utf8')).toBe('second')
  expect(await readFile(join(pulled.path, 'notes.txt'), 'utf8')).toBe('first')
})

test('a pull never overwrites a file of the user, and takes one that is right already', async () => {
  const folder = await writeFiles(stage.file('wanted'), files)
  const model = await seed(seeder, folder)
  const to = await writeFiles(stage.file('own'), { 'weights.bin': 'mine', 'config.json': '{}' })
  const outcome = await puller.cw('pull', model.link, '--to', to)
  expectError(outcome, 9, /weights\.bin/)
  expect(await readFile(join(to, 'weights.bin'), 'utf8')).toBe('mine')

  await replace(join(to, 'weights.bin'), files['weights.bin'])
  const inode = execFileSync('stat', ['-c', '%i', join(to, 'weights.bin')])
  const pulled = await pull(puller, model.link, '--to', to)
  expect(pulled).toMatchObject({ bytesFetched: 0, path: to })
  expect(execFileSync('stat', ['-c', '%i', join(to, 'weights.bin')])).toEqual(inode)
})

test('a peer whose disk lies costs time, not bytes: another gives what it cannot', async () => {
  const bytes = seededBytes('lies', 8 * MiB)
  const folder = await writeFiles(stage.file('honest'), { 'weights.bin': bytes })
  const rotten = await writeFiles(stage.file('lying'), { 'weights.bin': bytes })
  const liar = await stage.start('liar')
  const { manifest } = await seed(liar, rotten)
  // It has read each chunk once and believes it: only now its disk changes under it.
  const first = await stage.start('first reader')
  await pull(first, manifest, '--peer', liar.address, '--no-seed')
  await first.kill()
  for (let chunk = 0; chunk < 8; chunk += 1) {
    await flipByteKeepingStamp(join(rotten, 'weights.bin'), chunk * MiB + chunk)
  }

  const alone = await stage.start('alone')
  const deceived = await alone.cw('pull', manifest, '--peer', liar.address, '--find-timeout', '1')
  expect(deceived.code).toBe(5)
  const { model } = await show(alone, manifest)
  expect(model.bytesHeld).toBe(0)

  const honest = await stage.start('honest daemon', [liar])
  await seed(honest, folder)
  succeeded(await alone.cw('connect', honest.address))
  const pulled = await pull(alone, manifest)
  await expectSameFiles(pulled.path, folder)
  expect(await witnessSha256(join(pulled.path, 'weights.bin'))).not.toBe(
    await witnessSha256(join(rotten, 'weights.bin')),
  )
  const stranger = await stage.start('stranger', [liar, honest])
  const { sources } = await pull(stranger, manifest)
  expect(sources.map(({ peerId }) => peerId)).not.toContain(liar.peerId)
})

test('a file edited in the middle of a pull is withdrawn for those who are pulling it', async () => {
  const folder = await writeFiles(stage.file('moving'), {
    'weights.bin': seededBytes('moving', 4 * MiB),
  })
  const weights = join(folder, 'weights.bin')
  const model = await seed(seeder, folder)
  const before = await readFile(weights)
  await flipByteKeepingStamp(weights, MiB)
  const pulling = puller.cw('pull', model.link, '--find-timeout', '30')
  await until('the pull has what is good', async () => {
    const { bytesHeld } = (await show(puller, model.manifest).catch(() => undefined))?.model ?? {}
    return bytesHeld === 3 * MiB ? true : undefined
  })
  await appendFile(weights, 'edited')
  await truncate(weights, 4 * MiB)
  expect((await show(seeder, model.manifest)).model.bytesHeld).toBe(0)
  // The user puts back a right copy, under another time and inode, and says so.
  await replace(weights, before)
  succeeded(await seeder.cw('verify', model.manifest))
  const { last } = succeeded(await pulling)
  await expectSameFiles(String(last['path']), folder)
})

test('a pull repairs what an earlier one wrote: only the bad chunk is fetched, and the rest stays', async () => {
  const folder = await writeFiles(stage.file('mended'), {
    'config.json': '{}',
    'weights.bin': seededBytes('mended', 4 * MiB),
  })
  const model = await seed(seeder, folder, '--name', 'mended')
  const to = stage.file('mended here')
  await pull(puller, model.link, '--to', to)
  const weights = join(to, 'weights.bin')
  const damaged = await readFile(weights)
  damaged.fill(0, 2 * MiB, 2 * MiB + 3)
  await writeFile(weights, damaged)
  // Not hashed since, it might be somebody's work.
  expectError(await puller.cw('pull', 'mended'), 9, /changed after it was pulled/)
  expect((await puller.cw('verify', 'mended')).code).toBe(6)
  expect(await pull(puller, 'mended')).toMatchObject({ bytesFetched: MiB })
  expect(await readFile(`${weights}.damaged`)).toEqual(damaged)
  await rm(`${weights}.damaged`)
  await expectSameFiles(to, folder)
  expect((await show(puller, 'mended')).model.state).toBe('complete')
})
