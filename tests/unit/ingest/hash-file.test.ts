/** Hashes of files against two other implementations and the golden vectors. */

import { sha256 as nobleSha256 } from '@noble/hashes/sha2.js'
import { execFile } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { readFile, stat, truncate, writeFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { afterAll, expect, test } from 'vitest'
import { toHex } from '../../../src/core/bytes.ts'
import { InvalidInputError, StorageError, systemCode } from '../../../src/core/errors.ts'
import { stampOf } from '../../../src/core/file-stamp.ts'
import { MiB } from '../../../src/core/units.ts'
import { chunkCount, openHashPool } from '../../../src/ingest/hash-file.ts'
import { openScratchFolder } from '../../support/scratch-folder.ts'
import { chunkingCases, contentOf } from '../../support/vectors.ts'

const scratch = await openScratchFolder()
const pool = openHashPool({ workers: 2 })
afterAll(async () => {
  await pool[Symbol.asyncDispose]()
  await scratch[Symbol.asyncDispose]()
})

async function put(name: string, bytes: Uint8Array): Promise<string> {
  await writeFile(scratch.file(name), bytes)
  return scratch.file(name)
}

function cut(bytes: Uint8Array, lengths: Iterable<number>): Uint8Array[] {
  let offset = 0
  return Array.from(lengths, length => bytes.subarray(offset, (offset += length)))
}

test.for(chunkingCases)('gives the golden plan, SHA-256 and root of $name', async golden => {
  const place = await put(golden.name, contentOf(golden.parts))
  const file = await pool.hashFile(place)
  const chunks = Array.from({ length: file.table.count }, (_, index) => {
    const { offset, length } = file.table.ref(index)
    return [offset, length]
  })
  expect(chunks).toEqual(golden.chunks)
  expect(toHex(file.sha256)).toBe(golden.sha256)
  expect(file.root.toString()).toBe(golden.root)
  expect(file.stamp.size).toBe(golden.size)
  expect(file.place).toBe(place)
})

// Around the border between one thread and two, around a slot, and past one round of the ring.
const sizes = [
  1,
  MiB,
  4 * MiB - 1,
  4 * MiB,
  4 * MiB + 1,
  7 * MiB,
  16 * MiB,
  17 * MiB + 3,
  40 * MiB + 77,
]

test.for(sizes)('hashes %d bytes as node:crypto and @noble/hashes do', async size => {
  const bytes = randomBytes(size)
  const place = await put(`random-${size}`, bytes)
  const { sha256, table } = await pool.hashFile(place)
  expect(toHex(sha256)).toBe(createHash('sha256').update(bytes).digest('hex'))
  expect(table.size).toBe(size)
  for (const index of [0, table.count >> 1, table.count - 1]) {
    const { offset, length, digest } = table.ref(index)
    const chunk = bytes.subarray(offset, offset + length)
    expect(toHex(digest)).toBe(toHex(nobleSha256(chunk)))
  }
  expect(toHex(await pool.sha256(place))).toBe(toHex(sha256))
})

test.for([5, 23])('hashes a file of %d MiB by a given plan of odd lengths', async mebibytes => {
  const bytes = randomBytes(mebibytes * MiB)
  const place = await put(`odd-${mebibytes}`, bytes)
  const lengths: number[] = []
  for (let left = bytes.length; left > 0; left -= lengths.at(-1) ?? 0) {
    lengths.push(Math.min(left, 1 + ((left * 7919) % MiB)))
  }
  const { digests, sha256 } = await pool.hashChunks(place, Uint32Array.from(lengths))
  expect(toHex(sha256)).toBe(createHash('sha256').update(bytes).digest('hex'))
  const expected = cut(bytes, lengths).map(chunk => createHash('sha256').update(chunk).digest())
  expect(toHex(digests)).toBe(toHex(Buffer.concat(expected)))
})

test.for([3, 9])(
  'leaves out the digests of what a file of %d MiB cut short lacks',
  async mebibytes => {
    const bytes = randomBytes(mebibytes * MiB)
    const place = await put(`short-${mebibytes}`, bytes)
    const lengths = new Uint32Array(mebibytes).fill(MiB)
    await truncate(place, 2 * MiB + 5)
    const { digests, sha256, stamp } = await pool.hashChunks(place, lengths)
    expect(digests.length).toBe(2 * 32)
    expect(stamp.size).toBe(2 * MiB + 5)
    const readable = bytes.subarray(0, 2 * MiB + 5)
    expect(toHex(sha256)).toBe(createHash('sha256').update(readable).digest('hex'))
  },
)

test('goes on to the end of a file that is far longer than the plan', async () => {
  const bytes = randomBytes(40 * MiB)
  const place = await put('long', bytes)
  const { digests, sha256, stamp } = await pool.hashChunks(place, Uint32Array.of(MiB, 5))
  expect(toHex(digests)).toBe(
    toHex(Buffer.concat(cut(bytes, [MiB, 5]).map(chunk => nobleSha256(chunk)))),
  )
  expect(toHex(sha256)).toBe(createHash('sha256').update(bytes).digest('hex'))
  expect(stamp.size).toBe(bytes.length)
})

test('refuses a plan with a chunk that is empty or too long', async () => {
  const place = await put('plain', randomBytes(10))
  await expect(pool.hashChunks(place, Uint32Array.of(0))).rejects.toThrow(InvalidInputError)
  await expect(pool.hashChunks(place, Uint32Array.of(MiB + 1))).rejects.toThrow(InvalidInputError)
})

test('tells the bytes of a file once each', async () => {
  const small = await put('told-small', randomBytes(1000))
  const large = await put('told-large', randomBytes(30 * MiB))
  const told: number[] = []
  await pool.hashFile(small, { onBytes: bytes => told.push(bytes) })
  expect(told.reduce((sum, bytes) => sum + bytes, 0)).toBe(1000)
  await pool.hashFile(large, { onBytes: bytes => told.push(bytes) })
  expect(told.reduce((sum, bytes) => sum + bytes, 0)).toBe(1000 + 30 * MiB)
})

test('hashes many files at once, in the order given', async () => {
  const contents = Array.from({ length: 3000 }, (_, index) => Buffer.from(`file ${index}`))
  const places = await Promise.all(contents.map((bytes, index) => put(`many-${index}`, bytes)))
  const large = await put('many-large', randomBytes(9 * MiB))
  let finished = 0
  const files = await pool.hashFiles([large, ...places], { onFile: () => (finished += 1) })
  expect(finished).toBe(3001)
  expect(files.map(chunkCount)).toEqual(files.map(({ table }) => table.count))
  expect(files.map(file => file.place)).toEqual([large, ...places])
  expect(files.slice(1).map(file => toHex(file.sha256))).toEqual(
    contents.map(bytes => createHash('sha256').update(bytes).digest('hex')),
  )
})

test('hashes a file that changed since it was looked at as it is now', async () => {
  const names = ['seen-same', 'seen-longer', 'seen-large', 'seen-tensors']
  const places = await Promise.all(names.map(name => put(name, randomBytes(100))))
  const stamps = await Promise.all(
    places.map(async place => stampOf(await stat(place, { bigint: true }))),
  )
  const longer = await put('seen-longer', randomBytes(200))
  const large = await put('seen-large', randomBytes(5 * MiB))
  const header = Buffer.from('{"a":{"dtype":"U8","shape":[9],"data_offsets":[0,9]}}')
  const length = Buffer.alloc(8)
  length.writeUInt32LE(header.length)
  await put('seen-tensors', Buffer.concat([length, header, randomBytes(9)]))
  const told: number[] = []
  const files = await pool.hashFiles(places, { stamps, onBytes: bytes => told.push(bytes) })
  for (const [index, { sha256, stamp }] of files.entries()) {
    const bytes = await readFile(places[index] as string)
    expect(toHex(sha256)).toBe(createHash('sha256').update(bytes).digest('hex'))
    expect(stamp).toEqual(stampOf(await stat(places[index] as string, { bigint: true })))
  }
  expect(files.map(({ table }) => table.count)).toEqual([1, 1, 5, 2])
  expect(files.map(({ place }) => place).slice(1, 3)).toEqual([longer, large])
  const sizes = files.map(({ stamp }) => stamp.size)
  expect(told.reduce((a, b) => a + b, 0)).toBe(sizes.reduce((a, b) => a + b, 0))
})

test('hashes no files when none are given', async () => {
  expect(await pool.hashFiles([])).toEqual([])
})

test.for(['hashFile', 'sha256'] as const)('%s names a file that is gone', async method => {
  const error: unknown = await pool[method](scratch.file('gone')).catch((thrown: unknown) => thrown)
  expect(error).toBeInstanceOf(StorageError)
  const { message, hint, cause } = error as StorageError
  expect(message).toContain(scratch.file('gone'))
  expect(hint).toBeDefined()
  expect(systemCode(cause)).toBe('ENOENT')
})

test('refuses a folder and a device', async () => {
  await expect(pool.hashFile(scratch.path)).rejects.toThrow(/is a folder, not a file|EISDIR/)
  await expect(pool.hashFile('/dev/null')).rejects.toThrow(StorageError)
})

test('one bad file fails the many, by its name', async () => {
  const good = await put('good', randomBytes(10))
  const all = pool.hashFiles([good, scratch.file('missing'), good])
  await expect(all).rejects.toThrow(/missing/)
  // The threads go on with what comes next.
  expect((await pool.hashFile(good)).stamp.size).toBe(10)
})

test('lets the process end while the pool is idle and open', async () => {
  const place = await put('idle', randomBytes(10 * MiB))
  const entry = new URL('../../../src/ingest/hash-file.ts', import.meta.url).href
  const script = `
    import { openHashPool } from ${JSON.stringify(entry)}
    const pool = openHashPool()
    const { stamp } = await pool.hashFile(${JSON.stringify(place)})
    process.stdout.write(String(stamp.size))`
  const args = ['--input-type=module', '--eval', script]
  const run = promisify(execFile)
  const { stdout } = await run(process.execPath, args, { timeout: 50_000 })
  expect(stdout).toBe(String(10 * MiB))
})
