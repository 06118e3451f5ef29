import { link, readFile, stat, truncate, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { KiB } from '../../../../src/core/units.ts'
import { blockBytes, HubPartial } from '../../../../src/ops/mirror/hub-partial.ts'
import { openScratchFolder, type ScratchFolder } from '../../../support/scratch-folder.ts'

const size = 3 * blockBytes + 5
let scratch: ScratchFolder

beforeEach(async () => {
  scratch = await openScratchFolder()
})

afterEach(() => scratch[Symbol.asyncDispose]())

function open(): Promise<HubPartial> {
  return HubPartial.open({ folder: scratch.path, key: 'key', size })
}

/** Writes blocks whole, and closes. */
async function fill(...blocks: readonly number[]): Promise<string> {
  await using partial = await open()
  for (const block of blocks) {
    const start = block * blockBytes
    const bytes = Buffer.alloc(Math.min(blockBytes, size - start), block + 1)
    await partial.write(start, bytes)
    await partial.wrote(start, start + bytes.length)
  }
  await partial.record()
  return partial.path
}

function recordOf(path: string): string {
  return join(dirname(path), basename(path).replace('.hub', '.held'))
}

async function heldAgain(): Promise<number[]> {
  await using partial = await open()
  return [0, 1, 2, 3].filter(block => partial.held.has(block))
}

test('what was recorded is held again, the short last block too', async () => {
  const path = await fill(0, 3)
  expect(await heldAgain()).toEqual([0, 3])
  expect((await stat(path)).size).toBe(size)
  await using partial = await open()
  expect(await partial.read(3 * blockBytes, 5)).toEqual(Buffer.alloc(5, 4))
})

test('a block is held when all of it was written, in however many parts', async () => {
  await using partial = await open()
  await partial.write(0, Buffer.alloc(blockBytes + 10))
  await partial.wrote(0, blockBytes - 1)
  expect(partial.held.count).toBe(0)
  await partial.wrote(0, blockBytes + 10)
  expect(partial.held.count).toBe(1)
  await partial.wrote(blockBytes, size)
  expect(partial.held.isFull).toBe(true)
})

test.for([
  ['a record of nothing', (path: string) => writeFile(recordOf(path), '')],
  ['a record that was cut', (path: string) => truncate(recordOf(path), 16)],
  ['a record of another size', (path: string) => writeFile(recordOf(path), 'cw-hub-1'.padEnd(17))],
  ['a file of another size', (path: string) => truncate(path, size - 1)],
] as const)('%s is not believed', async ([, damage]) => {
  const path = await fill(0, 1, 2, 3)
  await damage(path)
  expect(await heldAgain()).toEqual([])
  expect((await stat(path)).size).toBe(size)
})

test('bits past the end of a record are ignored', async () => {
  const path = await fill(1)
  const record = await readFile(recordOf(path))
  record[record.length - 1] = 0xff
  await writeFile(recordOf(path), record)
  expect(await heldAgain()).toEqual([0, 1, 2, 3])
})

test('a file that has got another name is left alone', async () => {
  const path = await fill(0, 1, 2, 3)
  const published = scratch.file('published')
  await link(path, published)
  const before = await readFile(published)
  await fill(0)
  expect((await readFile(published)).equals(before)).toBe(true)
  expect((await stat(published)).nlink).toBe(1)
})

test('forgets all, and removes both of its files', async () => {
  const path = await fill(0, 1)
  await using partial = await open()
  await partial.forgetAll()
  expect(await heldAgain()).toEqual([])
  await partial.remove()
  await expect(stat(path)).rejects.toThrow('ENOENT')
  await expect(stat(recordOf(path))).rejects.toThrow('ENOENT')
})

test('an empty file is whole at once', async () => {
  await using partial = await HubPartial.open({ folder: scratch.path, key: 'empty', size: 0 })
  expect(partial.held.isFull).toBe(true)
  expect(blockBytes).toBe(256 * KiB)
})
