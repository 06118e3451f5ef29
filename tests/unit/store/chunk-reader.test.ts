/** Spans of bytes for this machine's own user; readChunk is in tests/contract/store.contract.ts. */

import { glob, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { CID } from '../../../src/core/cid.ts'
import type { Store } from '../../../src/store/store.ts'
import { flipByteKeepingStamp } from '../../support/bit-rot.ts'
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
const size = file.bytes.length
const into = Buffer.alloc(1000)

/** By as many reads as it takes. */
async function readAll(
  store: Store,
  root: CID,
  { offset, end }: { offset: number; end: number },
  room = into,
): Promise<{ bytes: Buffer; reads: number }> {
  const parts: Buffer[] = []
  let reads = 0
  for (let at = offset; at < end; reads += 1) {
    const bytes = await store.readSpan(root, { offset: at, end }, room)
    expect(bytes.length).toBeGreaterThan(0)
    expect(bytes.buffer).toBe(room.buffer)
    parts.push(Buffer.from(bytes))
    at += bytes.length
  }
  return { bytes: Buffer.concat(parts), reads }
}

test('reads chunks that follow each other at once, also of a file that is not served', async () => {
  await using scratch = await openScratchFolder()
  await using store = await openTestStore(scratch.path)
  await seedModel(store, scratch.file('model'), { 'a.bin': file }, { seeding: false })
  expect(store.held(file.root)).toBeUndefined()
  expect(store.present(file.root)?.isFull).toBe(true)
  const whole = await readAll(store, file.root, { offset: 0, end: size })
  expect(whole).toEqual({ bytes: file.bytes, reads: 1 })
  // What was hashed is read as it is asked for.
  const part = await readAll(store, file.root, { offset: 50, end: 401 })
  expect(part).toEqual({ bytes: file.bytes.subarray(50, 401), reads: 1 })
})

test('any bytes, in pieces of any size, hashed or not', async () => {
  await using scratch = await openScratchFolder()
  await using store = await openTestStore(scratch.path)
  await seedModel(store, scratch.file('model'), { 'a.bin': file })
  const span = fc
    .tuple(fc.nat(size - 1), fc.nat(size - 1))
    .map(([a, b]) => ({ offset: Math.min(a, b), end: Math.max(a, b) + 1 }))
  await fc.assert(
    fc.asyncProperty(
      span,
      fc.integer({ min: 1, max: 600 }),
      fc.boolean(),
      async (of, room, forget) => {
        if (forget) store.recheck()
        const { bytes } = await readAll(store, file.root, of, Buffer.alloc(room))
        expect(bytes).toEqual(file.bytes.subarray(of.offset, of.end))
      },
    ),
    { numRuns: 200 },
  )
})

test('a part of a chunk that was not hashed is hashed as a whole, and not given out when it rots', async () => {
  await using scratch = await openScratchFolder()
  await using store = await openTestStore(scratch.path)
  await seedModel(store, scratch.file('model'), { 'a.bin': file })
  const place = join(scratch.file('model'), 'a.bin')
  await readAll(store, file.root, { offset: 0, end: 50 })
  await flipByteKeepingStamp(place, 250)
  // The damage is elsewhere in the chunk than what is asked for, and the stamp says nothing.
  const refused = store.readSpan(file.root, { offset: 110, end: 120 }, into)
  await expect(refused).rejects.toMatchObject({ code: 'INTEGRITY' })
  const next = await readAll(store, file.root, { offset: 407, end: size })
  expect(next.bytes).toEqual(file.bytes.subarray(407))
})

test('reads what is here of a file that is being fetched', async () => {
  await using scratch = await openScratchFolder()
  await using store = await openTestStore(scratch.path)
  const folder = scratch.file('model')
  store.addModel(testModel(folder, { 'a.bin': file }))
  await using partial = await store.openPartial(partialSpec(folder, 'a.bin', file))
  await writeChunks(partial, file, [1, 2])
  expect(store.present(file.root)?.count).toBe(2)
  const { bytes } = await readAll(store, file.root, { offset: 103, end: 407 })
  expect(bytes).toEqual(file.bytes.subarray(103, 407))
  // And no byte behind what is here.
  const here = await store.readSpan(file.root, { offset: 103, end: size }, into)
  expect(here).toHaveLength(407 - 103)
  const absent = store.readSpan(file.root, { offset: 99, end: size }, into)
  await expect(absent).rejects.toMatchObject({ code: 'NOT_FOUND' })
})

test('what an earlier run left of a file is hashed before it is given out', async () => {
  await using scratch = await openScratchFolder()
  const folder = scratch.file('model')
  const spec = partialSpec(folder, 'a.bin', file)
  {
    await using store = await openTestStore(scratch.path)
    store.addModel(testModel(folder, { 'a.bin': file }))
    await using partial = await store.openPartial(spec)
    await writeChunks(partial, file, [1, 2])
  }
  await using store = await openTestStore(scratch.path)
  const [entry] = await Array.fromAsync(glob(`${folder}/.commonweight/*.part`))
  await flipByteKeepingStamp(entry ?? '', 250)
  const refused = store.readSpan(file.root, { offset: 110, end: 120 }, into)
  await expect(refused).rejects.toMatchObject({ code: 'INTEGRITY' })
  expect(store.present(file.root)?.count).toBe(1)
})

test('gives out no byte of a file that was edited, and another copy when there is one', async () => {
  await using scratch = await openScratchFolder()
  await using store = await openTestStore(scratch.path)
  await seedModel(store, scratch.file('one'), { 'a.bin': file })
  const edited = Buffer.from(file.bytes)
  edited[105] = (edited[105] ?? 0) ^ 1
  await writeFile(join(scratch.file('one'), 'a.bin'), edited)
  const refused = store.readSpan(file.root, { offset: 0, end: size }, into)
  await expect(refused).rejects.toMatchObject({ code: 'INTEGRITY' })
  await seedModel(store, scratch.file('two'), { 'b.bin': file })
  const { bytes } = await readAll(store, file.root, { offset: 0, end: size })
  expect(bytes).toEqual(file.bytes)
})

test('refuses bytes that the file does not have', async () => {
  await using scratch = await openScratchFolder()
  await using store = await openTestStore(scratch.path)
  await seedModel(store, scratch.file('model'), { 'a.bin': file })
  for (const span of [
    { offset: 0, end: size + 1 },
    { offset: -1, end: 5 },
    { offset: 5, end: 5 },
  ]) {
    await expect(store.readSpan(file.root, span, into)).rejects.toMatchObject({ code: 'NOT_FOUND' })
  }
})
