/** Runs of chunks for this machine's own user; readChunk is in tests/contract/store.contract.ts. */

import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { openScratchFolder } from '../../support/scratch-folder.ts'
import {
  openTestStore,
  partialSpec,
  seedModel,
  testFile,
  testModel,
  writeChunks,
} from '../../support/store-fixture.ts'

const file = testFile('runs', [100, 7, 300, 50])
const into = Buffer.alloc(1000)
const from = (start: number, end: number): Buffer =>
  file.bytes.subarray(file.table.offset(start), file.table.offset(end))

test('reads chunks that follow each other at once, also of a file that is not served', async () => {
  await using scratch = await openScratchFolder()
  await using store = await openTestStore(scratch.path)
  await seedModel(store, scratch.file('model'), { 'a.bin': file }, { seeding: false })
  expect(store.held(file.root)).toBeUndefined()
  expect(store.present(file.root)?.isFull).toBe(true)
  for (const [start, end] of [
    [0, 4],
    [1, 3],
    [3, 4],
  ] as const) {
    const bytes = await store.readRun(file.root, [start, end], into)
    expect(Buffer.from(bytes)).toEqual(from(start, end))
    expect(bytes.buffer).toBe(into.buffer)
  }
})

test('reads what is here of a file that is being fetched', async () => {
  await using scratch = await openScratchFolder()
  await using store = await openTestStore(scratch.path)
  const folder = scratch.file('model')
  store.addModel(testModel(folder, { 'a.bin': file }))
  await using partial = await store.openPartial(partialSpec(folder, 'a.bin', file))
  await writeChunks(partial, file, [1, 2])
  expect(store.present(file.root)?.count).toBe(2)
  expect(Buffer.from(await store.readRun(file.root, [1, 3], into))).toEqual(from(1, 3))
  await expect(store.readRun(file.root, [0, 3], into)).rejects.toMatchObject({ code: 'NOT_FOUND' })
})

test('gives out no byte of a file that was edited, and another copy when there is one', async () => {
  await using scratch = await openScratchFolder()
  await using store = await openTestStore(scratch.path)
  await seedModel(store, scratch.file('one'), { 'a.bin': file })
  const edited = Buffer.from(file.bytes)
  edited[105] = (edited[105] ?? 0) ^ 1
  await writeFile(join(scratch.file('one'), 'a.bin'), edited)
  await expect(store.readRun(file.root, [0, 4], into)).rejects.toMatchObject({ code: 'INTEGRITY' })
  await seedModel(store, scratch.file('two'), { 'b.bin': file })
  expect(Buffer.from(await store.readRun(file.root, [0, 4], into))).toEqual(file.bytes)
})

test('refuses chunks that the file does not have', async () => {
  await using scratch = await openScratchFolder()
  await using store = await openTestStore(scratch.path)
  await seedModel(store, scratch.file('model'), { 'a.bin': file })
  for (const run of [
    [0, 5],
    [-1, 2],
  ] as const) {
    await expect(store.readRun(file.root, run, into)).rejects.toMatchObject({ code: 'NOT_FOUND' })
  }
})
