/** Hashing a file while it grows, in a real thread. */

import { randomBytes } from 'node:crypto'
import { type FileHandle, open } from 'node:fs/promises'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { sha256 } from '../../../src/core/digest.ts'
import { StorageError } from '../../../src/core/errors.ts'
import { MiB } from '../../../src/core/units.ts'
import { type GrowingHashes, openGrowingHashes } from '../../../src/ingest/growing-hash.ts'
import { openScratchFolder } from '../../support/scratch-folder.ts'

const bytes = randomBytes(11 * MiB + 5)

let stack: AsyncDisposableStack
let hashes: GrowingHashes
let file: FileHandle

beforeEach(async () => {
  stack = new AsyncDisposableStack()
  const scratch = stack.use(await openScratchFolder())
  file = await open(scratch.file('weights.part'), 'w+')
  stack.defer(() => file.close())
  hashes = stack.use(openGrowingHashes())
})

afterEach(() => stack.disposeAsync())

async function write(from: number, to: number): Promise<void> {
  await file.write(bytes, from, to - from, from)
}

test('gives the SHA-256 of what was reached, step by step', async () => {
  const growing = hashes.follow(file.fd)
  for (const [from, to] of [
    [0, 3 * MiB],
    [3 * MiB, 3 * MiB + 1],
    [3 * MiB + 1, bytes.length],
  ] as const) {
    await write(from, to)
    growing.reach(to)
  }
  expect(await growing.digest()).toEqual(Uint8Array.from(sha256(bytes)))
})

test('follows several files at once, and forgets one without a word', async () => {
  await write(0, bytes.length)
  const all = [1, 2, 3, 4].map(mib => {
    const growing = hashes.follow(file.fd)
    growing.reach(mib * MiB)
    return growing
  })
  await all[1]?.forget()
  for (const [at, growing] of all.entries()) {
    if (at === 1) continue
    const expected = Uint8Array.from(sha256(bytes.subarray(0, (at + 1) * MiB)))
    expect(await growing.digest()).toEqual(expected)
  }
})

test('a file that became shorter gives an error and no digest', async () => {
  await write(0, MiB)
  const growing = hashes.follow(file.fd)
  growing.reach(2 * MiB)
  await expect(growing.digest()).rejects.toBeInstanceOf(StorageError)
})

test('whoever waits hears when it is closed', async () => {
  const growing = hashes.follow(file.fd)
  const digest = growing.digest().catch((error: unknown) => error)
  await hashes[Symbol.asyncDispose]()
  expect(await digest).toBeInstanceOf(Error)
})
