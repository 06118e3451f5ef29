import { expect, test } from 'vitest'
import { sameStamp, stampOf } from '../../../src/core/file-stamp.ts'

const stats = { size: 5n, mtimeNs: 1_700_000_000_123_456_789n, ino: 2n ** 63n }

test('a stamp keeps nanoseconds and inodes in full', () => {
  expect(stampOf(stats)).toEqual({ size: 5, mtimeNs: stats.mtimeNs, ino: stats.ino })
})

test('any difference makes another stamp', () => {
  const stamp = stampOf(stats)
  expect(sameStamp(stamp, stampOf({ ...stats }))).toBe(true)
  expect(sameStamp(stamp, { ...stamp, size: 6 })).toBe(false)
  expect(sameStamp(stamp, { ...stamp, mtimeNs: stamp.mtimeNs + 1n })).toBe(false)
  expect(sameStamp(stamp, { ...stamp, ino: stamp.ino - 1n })).toBe(false)
})
