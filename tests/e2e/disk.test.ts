/** Disks that are full, too small, read-only or in the way: a clear error, what is held intact, and on it goes. */

import { readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import type { SeededEvent } from '../../src/api/contract.ts'
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
import { type Machine, startMachine } from '../support/machine.ts'
import { mountDisk, whyNoMount } from '../support/memory-disk.ts'
import { seededBytes, writeFiles } from '../support/model-files.ts'

const noMount = await whyNoMount()

const stage = useStage()
let seeder: Machine
let puller: Machine
let original: string
let model: SeededEvent

beforeAll(async () => {
  const files = { 'config.json': '{}', 'weights.bin': seededBytes('disk', 12 * MiB) }
  original = await writeFiles(stage.file('original'), files)
  seeder = await stage.start('seeder')
  model = await seed(seeder, original, '--name', 'org/disk')
  puller = await stage.start('puller', [seeder])
})

async function fill(folder: string): Promise<void> {
  const filler = join(folder, 'filler')
  for (let size = MiB; size >= 4096; size /= 2) {
    for (let full = false; !full;) {
      full = await writeFile(filler, Buffer.alloc(size), { flag: 'a' }).then(
        () => false,
        () => true,
      )
    }
  }
}

test('a pull that does not fit is refused before its first byte', async ({ skip }) => {
  skip(noMount !== undefined, noMount)
  await using disk = await mountDisk(8)
  const outcome = await puller.cw('pull', model.link, '--to', disk.file('model'))
  expectError(outcome, 7, /do not fit/)
  expect(String(outcome.last['message'])).toContain(disk.path)
  expect(String(outcome.last['hint'])).toContain('free ')
  expect(
    (await readdir(disk.path, { recursive: true })).filter(path => path.endsWith('.part')),
  ).toEqual([])
  expect((await puller.cw('ls')).lines).toEqual([])
})

test('a disk that fills up in the middle of a pull stops it, and it goes on when there is space', async ({
  skip,
}) => {
  skip(noMount !== undefined, noMount)
  await using disk = await mountDisk(20)
  const to = disk.file('model')
  await flipByteKeepingStamp(join(original, 'weights.bin'), 5 * MiB)
  const pulling = startPull(puller, model.link, '--to', to)
  const { bytesDone } = await pulling.reached(isWaiting)
  await fill(disk.path)
  await flipByteKeepingStamp(join(original, 'weights.bin'), 5 * MiB)
  succeeded(await seeder.cw('verify', 'org/disk'))
  expectError(await pulling.ended, 7, disk.path)

  const half = await show(puller, model.manifest)
  expect(half.model).toMatchObject({ state: 'partial', bytesHeld: bytesDone })
  const again = await puller.cw('pull', model.link, '--to', to)
  expectError(again, 7, disk.path)
  await rm(disk.file('filler'))
  const pulled = await pull(puller, model.link, '--to', to)
  expect(pulled.bytesFetched).toBe(MiB)
  await expectSameFiles(to, original)
  succeeded(await puller.cw('rm', model.manifest))
})

test('a target that cannot be written ends with 7, and works once it can', async ({ skip }) => {
  skip(noMount !== undefined, noMount)
  await using disk = await mountDisk(20)
  disk.makeReadOnly()
  const to = disk.file('model')
  const refused = await puller.cw('pull', model.link, '--to', to)
  expectError(refused, 7, disk.path)
  expect(await readdir(disk.path)).toEqual([])
  disk.makeWritable()
  await pull(puller, model.link, '--to', to)
  await expectSameFiles(to, original)
  succeeded(await puller.cw('rm', model.manifest))
})

test('a file where the folder should be is said and left alone', async () => {
  const inTheWay = stage.file('in-the-way')
  await writeFile(inTheWay, 'mine')
  for (const to of [inTheWay, join(inTheWay, 'below')]) {
    const outcome = await puller.cw('pull', model.link, '--to', to)
    expectError(outcome, 7, inTheWay)
    // What could not begin leaves no empty model behind.
    expect((await puller.cw('ls')).lines).toEqual([])
  }
  expect(await readFile(inTheWay, 'utf8')).toBe('mine')
})

test('a daemon whose own disk is full says so, goes on serving, and works when there is space', async ({
  skip,
}) => {
  skip(noMount !== undefined, noMount)
  await using disk = await mountDisk(8)
  await using machine = await startMachine({ ...stage.world, folder: disk.path }, 'home', [])
  const folder = await writeFiles(stage.file('small'), { 'a.bin': seededBytes('small', 2 * MiB) })
  const { manifest } = await seed(machine, folder, '--name', 'org/small')
  await fill(disk.path)
  const more = await writeFiles(stage.file('more'), { 'b.bin': seededBytes('more', 30 * MiB) })
  const outcome = await machine.cw('seed', more, '--name', 'org/more')
  expectError(outcome, 7, disk.path)
  const served = await pull(puller, manifest, '--peer', machine.address)
  expect(served.bytesFetched).toBe(2 * MiB)

  await rm(disk.file('filler'))
  await seed(machine, more, '--name', 'org/more')
})
