import { expect, test } from 'vitest'
import {
  day,
  formatBytes,
  formatCount,
  formatDuration,
  formatRate,
  GiB,
  hour,
  KiB,
  MiB,
  minute,
  parseBytes,
  second,
  TiB,
} from '../../../src/core/units.ts'

test.for([
  [0, '0 B'],
  [1023, '1023 B'],
  [KiB, '1.00 KiB'],
  [1536, '1.50 KiB'],
  [12.34 * MiB, '12.3 MiB'],
  [456 * GiB, '456 GiB'],
  [2 ** 60, '1024 PiB'],
] as const)('%i bytes are %s', ([bytes, text]) => {
  expect(formatBytes(bytes)).toBe(text)
  expect(formatRate(bytes)).toBe(`${text}/s`)
})

test.for([
  [0, '0.0s'],
  [9_500, '9.5s'],
  [59_400, '59s'],
  [59_600, '1m 0s'],
  [90 * second, '1m 30s'],
  [hour + 2 * minute, '1h 2m'],
  [3 * day + 5 * hour, '3d 5h'],
] as const)('%i ms are %s', ([ms, text]) => {
  expect(formatDuration(ms)).toBe(text)
})

test('counts are grouped whatever the locale of the machine', () => {
  expect(formatCount(1_234_567)).toBe('1,234,567')
  expect(TiB).toBe(1024 ** 4)
})

test.for([
  ['42', 42],
  ['42 B', 42],
  ['1.5 KiB', 1536],
  ['10MiB', 10 * MiB],
  ['500KB', 500_000],
  ['500 kB', 500_000],
  ['2GB', 2e9],
  [' 1 TiB ', TiB],
  // Megabits are not guessed to be megabytes.
  ['10Mb', undefined],
  ['10 mib', undefined],
  ['-1', undefined],
  ['1e9', undefined],
  ['', undefined],
  ['MiB', undefined],
  ['9999999 TiB', undefined],
] as const)('%o is so many bytes: %o', ([text, bytes]) => {
  expect(parseBytes(text)).toBe(bytes)
})
