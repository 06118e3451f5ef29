/** What stays free. */

import { tmpdir } from 'node:os'
import { statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { StorageError } from '../../../src/core/errors.ts'
import { GiB, MiB, TiB } from '../../../src/core/units.ts'
import { requireSpace, spaceOf } from '../../../src/store/space.ts'

const folder = tmpdir()

test('reserves the larger of bytes and fraction', async () => {
  const { blocks, bsize } = await statfs(folder)
  const total = blocks * bsize
  const small = await spaceOf(folder, { reserveBytes: MiB, reserveFraction: 0.5 })
  expect(small.reservedBytes).toBe(Math.ceil(total / 2))
  const large = await spaceOf(folder, { reserveBytes: total, reserveFraction: 0.05 })
  expect(large.reservedBytes).toBe(total)
})

test('asks the nearest folder that exists', async () => {
  const { reservedBytes } = await spaceOf(join(folder, 'not', 'yet', 'there'), {
    reserveBytes: GiB,
    reserveFraction: 0,
  })
  expect(reservedBytes).toBe(GiB)
})

test('refuses what would eat into the reserve', async () => {
  const reserve = { reserveBytes: 1000 * TiB, reserveFraction: 0 }
  await expect(requireSpace(folder, 1, reserve)).rejects.toThrow(StorageError)
  await expect(
    requireSpace(folder, 1, { reserveBytes: 0, reserveFraction: 0 }),
  ).resolves.toBeUndefined()
})
