/**
 * Disks that are full, read-only or failing: a StorageError that names the path and says what to do,
 * and nothing that was stored is lost. Needs root to mount, and strace to make calls fail.
 */

import { spawnSync } from 'node:child_process'
import { readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { StorageError } from '../../src/core/errors.ts'
import { KiB, MiB } from '../../src/core/units.ts'
import { crashFile } from '../support/crash-file.ts'
import { mountDisk, whyNoMount } from '../support/memory-disk.ts'
import { openScratchFolder } from '../support/scratch-folder.ts'
import {
  openTestStore,
  partialSpec,
  seedModel,
  testFile,
  testModel,
  writeChunks,
} from '../support/store-fixture.ts'

const noMount = await whyNoMount()
const noStrace = spawnSync('strace', ['-V']).status === 0 ? undefined : 'strace is not installed'

/** 12 MiB: more than the disk holds. */
const large = testFile(
  'large',
  Array.from({ length: 12 }, () => MiB),
)
const small = testFile(
  'small',
  Array.from({ length: 5 }, () => MiB),
)

test('refuses a download that does not fit before its first byte', async ({ skip }) => {
  skip(noMount !== undefined, noMount)
  await using disk = await mountDisk()
  await using scratch = await openScratchFolder()
  await using store = await openTestStore(scratch.path)
  await store.checkSpace(disk.path, 7 * MiB)
  const checking = store.checkSpace(disk.path, 9 * MiB)
  await expect(checking).rejects.toThrow(StorageError)
  await expect(checking).rejects.toThrow(disk.path)
  expect(await readdir(disk.path)).toEqual([])
})

test('keeps what was fetched when the disk fills up, and goes on when there is space again', async ({
  skip,
}) => {
  skip(noMount !== undefined, noMount)
  await using disk = await mountDisk()
  await using scratch = await openScratchFolder()
  await using store = await openTestStore(scratch.path)
  await writeFile(disk.file('ballast'), Buffer.alloc(5 * MiB))
  await using partial = await store.openPartial(partialSpec(disk.path, 'small.bin', small))
  const writing = writeChunks(partial, small)
  await expect(writing).rejects.toThrow(StorageError)
  await expect(writing).rejects.toThrow(/writing .*\.part: ENOSPC/)
  await expect(writing).rejects.toMatchObject({
    hint: expect.stringContaining('free some space'),
  })
  const { count } = partial.held
  expect(count).toBeGreaterThanOrEqual(2)
  expect(count).toBeLessThan(5)

  await rm(disk.file('ballast'))
  await writeChunks(partial, small)
  await partial.publish()
  expect((await readFile(disk.file('small.bin'))).equals(small.bytes)).toBe(true)
})

test('resumes after a restart what a full disk ended', async ({ skip }) => {
  skip(noMount !== undefined, noMount)
  await using disk = await mountDisk()
  await using scratch = await openScratchFolder()
  let held = 0
  {
    await using store = await openTestStore(scratch.path)
    await using partial = await store.openPartial(partialSpec(disk.path, 'large.bin', large))
    await expect(writeChunks(partial, large)).rejects.toThrow(StorageError)
    held = partial.held.count
  }
  await using store = await openTestStore(scratch.path)
  await using partial = await store.openPartial(partialSpec(disk.path, 'large.bin', large))
  expect(partial.held.count).toBe(held)
  expect(held).toBeGreaterThan(0)
})

test('loses nothing when the disk under its databases is full', async ({ skip }) => {
  skip(noMount !== undefined, noMount)
  await using disk = await mountDisk()
  const config = testFile('config', [100])
  await using user = await openScratchFolder()
  {
    await using store = await openTestStore(disk.path)
    const { manifest } = await seedModel(store, user.path, { 'config.json': config })
    await fillUp(disk.file('ballast'))
    const failures = Array.from({ length: 200 }, (_, n) => {
      try {
        store.putPending({ id: String(n), request: 'x'.repeat(4 * KiB) })
        return undefined
      } catch (error) {
        return error
      }
    }).filter(error => error !== undefined)
    expect(failures.length).toBeGreaterThan(0)
    for (const error of failures) {
      expect(error).toBeInstanceOf(StorageError)
      expect(error).toMatchObject({ hint: expect.stringContaining('free some space') })
    }
    // Reading and serving go on.
    expect(store.model(manifest)?.state).toBe('complete')
    expect((await store.readChunk(config.root, 0)).length).toBe(100)
    await rm(disk.file('ballast'))
    store.putPending({ id: 'after', request: '{}' })
  }
  await using store = await openTestStore(disk.path)
  expect(store.pending().some(({ id }) => id === 'after')).toBe(true)
  expect(store.held(config.root)?.isFull).toBe(true)
})

test('says that a target is read-only', async ({ skip }) => {
  skip(noMount !== undefined, noMount)
  await using disk = await mountDisk()
  await using scratch = await openScratchFolder()
  await using store = await openTestStore(scratch.path)
  store.addModel(testModel(disk.path, { 'small.bin': small }, { origin: 'pulled' }))
  disk.makeReadOnly()
  const opening = store.openPartial(partialSpec(disk.path, 'small.bin', small))
  await expect(opening).rejects.toThrow(StorageError)
  await expect(opening).rejects.toMatchObject({ hint: 'the file system is mounted read-only' })
  expect(store.models().map(({ state }) => state)).toEqual(['partial'])
})

async function fillUp(path: string): Promise<void> {
  for (const step of [256 * KiB, 4 * KiB]) {
    for (;;) {
      try {
        await writeFile(path, Buffer.alloc(step), { flag: 'a' })
      } catch {
        // Full for this step: that is what is wanted.
        break
      }
    }
  }
}

interface Outcome {
  readonly steps: Readonly<Record<string, string>>
  readonly target: string[]
}

/** Runs disk-child.ts; `inject` makes calls on the partial file, or on the target folder, fail. */
async function runFailing(
  folder: string,
  inject?: { fault: string; on: string },
): Promise<Outcome> {
  const command = [process.execPath, join(import.meta.dirname, 'disk-child.ts'), folder]
  const options =
    inject === undefined
      ? []
      : ['strace', '-f', '-qq', '-o', '/dev/null', '-P', inject.on, '-e', `inject=${inject.fault}`]
  const [first = '', ...rest] = [...options, ...command]
  const { stdout } = spawnSync(first, rest, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const lines = stdout.split('\n').filter(line => line !== '')
  return {
    steps: Object.fromEntries(lines.map(line => line.split(/ (.*)/).slice(0, 2))),
    target: await readdir(join(folder, 'target')),
  }
}

/** The path that the partial file gets: found by a run in another folder. */
async function prepared(folder: string): Promise<string> {
  await using store = await openTestStore(folder)
  const spec = partialSpec(join(folder, 'target'), 'weights.bin', crashFile())
  await (await store.openPartial(spec))[Symbol.asyncDispose]()
  const parts = join(folder, 'target', '.commonweight')
  const [part = ''] = await readdir(parts)
  return join(parts, part)
}

async function expectFinishedBy(folder: string): Promise<void> {
  const { steps } = await runFailing(folder)
  expect(steps['publish']).toBe('ok')
  const bytes = await readFile(join(folder, 'target', 'weights.bin'))
  expect(bytes.equals(crashFile().bytes)).toBe(true)
}

test('believes nothing that a failed sync left, and never syncs it again', async ({ skip }) => {
  skip(noStrace !== undefined, noStrace)
  await using scratch = await openScratchFolder()
  const part = await prepared(scratch.path)
  // Once only: a second sync would succeed, as it does on Linux after pages were dropped.
  const failed = await runFailing(scratch.path, { fault: 'fdatasync:error=EIO:when=1', on: part })
  expect(failed.steps).toMatchObject({
    write: 'ok',
    written: '400',
    publish: 'STORAGE',
    'write-after': 'STORAGE',
    left: '0',
    close: 'ok',
  })
  expect(failed.target).toEqual(['.commonweight'])
  const again = await runFailing(scratch.path)
  expect(again.steps).toMatchObject({ held: '0', publish: 'ok' })
})

test.for([
  ['the third write fails for want of space', 'pwrite64:error=ENOSPC:when=3'],
  ['the first write fails', 'pwrite64:error=EIO:when=1'],
  ['the last writes fail', 'pwrite64:error=EIO:when=50+'],
] as const)('%s: the rest is kept and fetched later', async ([, fault], { skip }) => {
  skip(noStrace !== undefined, noStrace)
  await using scratch = await openScratchFolder()
  const part = await prepared(scratch.path)
  const failed = await runFailing(scratch.path, { fault, on: part })
  expect(failed.steps['write']).toBe('STORAGE')
  expect(failed.target).toEqual(['.commonweight'])
  await expectFinishedBy(scratch.path)
})

test.for([
  ['the link to the final name', 'linkat,link:error=EIO'],
  ['the sync of the folder', 'fsync:error=EIO'],
] as const)('%s fails: the next run finishes the file', async ([, fault], { skip }) => {
  skip(noStrace !== undefined, noStrace)
  await using scratch = await openScratchFolder()
  const part = await prepared(scratch.path)
  const on = fault.startsWith('fsync') ? scratch.file('target') : part
  const failed = await runFailing(scratch.path, { fault, on })
  expect(failed.steps).toMatchObject({ write: 'ok', publish: 'STORAGE' })
  await expectFinishedBy(scratch.path)
})

test('publishes on a file system without hard links', async ({ skip }) => {
  skip(noStrace !== undefined, noStrace)
  await using scratch = await openScratchFolder()
  const part = await prepared(scratch.path)
  const run = await runFailing(scratch.path, { fault: 'linkat,link:error=EPERM', on: part })
  expect(run.steps).toMatchObject({ publish: 'ok' })
  const bytes = await readFile(scratch.file('target/weights.bin'))
  expect(bytes.equals(crashFile().bytes)).toBe(true)
})
