import { expect, test } from 'vitest'
import { BufferPool } from '../../../src/core/buffers.ts'
import { KiB, MiB } from '../../../src/core/units.ts'

test('gives the buffer that came back last', () => {
  const pool = new BufferPool()
  const [first, second] = [pool.take(MiB), pool.take(900 * KiB)]
  expect(second).not.toBe(first)
  pool.give(first)
  pool.give(second)
  expect(pool.take(MiB)).toBe(second)
  expect(pool.take(MiB)).toBe(first)
})

test('keeps no small ones, and no more than a few', () => {
  const pool = new BufferPool()
  const small = pool.take(KiB)
  expect(small).toHaveLength(KiB)
  pool.give(small)
  expect(pool.take(KiB)).not.toBe(small)
  const many = Array.from({ length: 100 }, () => pool.take(MiB))
  for (const buffer of many) pool.give(buffer)
  const again = new Set(Array.from({ length: 100 }, () => pool.take(MiB)))
  expect(many.filter(buffer => again.has(buffer)).length).toBeLessThan(20)
})
