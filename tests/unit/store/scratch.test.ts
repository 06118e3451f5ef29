import { expect, test } from 'vitest'
import { MiB } from '../../../src/core/units.ts'
import { Scratch } from '../../../src/store/scratch.ts'
import { settle } from '../../support/fake-clock.ts'

test('gives eight buffers out at a time, and each to who waited longest', async () => {
  const scratch = new Scratch()
  const begun: number[] = []
  const ends = Array.from({ length: 20 }, () => Promise.withResolvers<void>())
  const used = new Set<Buffer>()
  const uses = ends.map(({ promise }, index) =>
    scratch.use(async buffer => {
      begun.push(index)
      used.add(buffer)
      expect(buffer).toHaveLength(MiB)
      await promise
      return index
    }),
  )
  await settle()
  expect(begun).toHaveLength(8)
  ends[3]?.resolve()
  await settle()
  expect(begun).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8])
  for (const end of ends) end.resolve()
  expect(await Promise.all(uses)).toEqual(Array.from({ length: 20 }, (_, index) => index))
  expect(used.size).toBe(8)
})

test('a use that fails gives its buffer back', async () => {
  const scratch = new Scratch()
  for (let times = 0; times < 20; times += 1) {
    const failed = scratch.use(() => Promise.reject(new Error('unreadable')))
    await expect(failed).rejects.toThrow('unreadable')
  }
  expect(await scratch.use(async buffer => buffer.length)).toBe(MiB)
})
