import { expect, test } from 'vitest'
import { Bitfield } from '../../../src/core/bitfield.ts'
import { MiB } from '../../../src/core/units.ts'
import { type GrowingHash, PrefixHash } from '../../../src/store/prefix-hash.ts'
import { tableOfLengths } from '../../support/swarm-simulator.ts'

const table = tableOfLengths(
  'weights',
  Array.from({ length: 40 }, () => MiB),
)
const sha256 = new Uint8Array(32).fill(7)

/** Notes what it is told. */
class Told implements GrowingHash {
  readonly reached: number[] = []
  digests = 0
  forgotten = 0
  fails = false

  reach(bytes: number): void {
    this.reached.push(bytes / MiB)
  }

  digest(): Promise<Uint8Array> {
    this.digests += 1
    return this.fails ? Promise.reject(new Error('the disk')) : Promise.resolve(sha256)
  }

  forget(): Promise<void> {
    this.forgotten += 1
    return Promise.resolve()
  }
}

function start(held = new Bitfield(40)): { hash: PrefixHash; told: Told; held: Bitfield } {
  const told = new Told()
  const hash = new PrefixHash({ follow: () => told }, { fd: 3, table, held })
  return { hash, told, held }
}

function fill({ hash, held }: { hash: PrefixHash; held: Bitfield }, order: Iterable<number>): void {
  for (const chunk of order) {
    held.add(chunk)
    hash.grow()
  }
}

test('tells of the part from the start only, in steps, and of all at the end', async () => {
  const file = start()
  fill(file, [20, 21, 22])
  expect(file.told.reached).toEqual([])
  fill(file, Array(20).keys())
  expect(file.told.reached).toEqual([8, 16])
  fill(file, Array(40).keys())
  expect(file.told.reached).toEqual([8, 16, 24, 32, 40])
  expect(await file.hash.digest()).toBe(sha256)
  await file.hash.end()
  expect(file.told.forgotten).toBe(0)
})

test('starts with what an earlier run left', () => {
  const held = new Bitfield(40)
  for (let chunk = 0; chunk < 30; chunk += 1) held.add(chunk)
  expect(start(held).told.reached).toEqual([30])
})

test('gives no digest once a chunk was taken back, or when the hashing failed', async () => {
  const dropped = start()
  fill(dropped, Array(40).keys())
  dropped.hash.giveUp()
  expect(await dropped.hash.digest()).toBeUndefined()
  expect(dropped.told).toMatchObject({ digests: 0, forgotten: 1 })
  const failed = start()
  failed.told.fails = true
  fill(failed, Array(40).keys())
  expect(await failed.hash.digest()).toBeUndefined()
})

test('lets go of a file that is closed before it is whole', async () => {
  const file = start()
  fill(file, [0, 1])
  await file.hash.end()
  await file.hash.end()
  fill(file, [2, 3, 4, 5, 6, 7, 8, 9])
  expect(file.told).toMatchObject({ forgotten: 1, reached: [] })
})

test('does not bother about small files, nor without anybody who hashes', async () => {
  const small = tableOfLengths('small', [MiB])
  const told = new Told()
  const hash = new PrefixHash(
    { follow: () => told },
    { fd: 3, table: small, held: Bitfield.full(1) },
  )
  expect([told.reached, await hash.digest()]).toEqual([[], undefined])
  const alone = new PrefixHash(undefined, { fd: 3, table, held: Bitfield.full(40) })
  expect(await alone.digest()).toBeUndefined()
})
