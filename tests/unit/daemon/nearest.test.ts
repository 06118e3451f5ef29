import { expect, test } from 'vitest'
import { nearest } from '../../../daemon/nearest.ts'
import { cpuMs } from '../../support/cpu-time.ts'

test.for([
  ['listn', 'listen'],
  ['storage.reserve_byte', 'storage.reserve_bytes'],
  ['mDNS', 'mdns'],
  ['storage', 'storage.reserve_bytes'],
  ['', 'mdns'],
])('takes %s for %s', ([word = '', expected]) => {
  expect(nearest(word, ['listen', 'storage.reserve_bytes', 'mdns'])).toBe(expected)
})

test('answers at once for a word without end', () => {
  const startedMs = cpuMs()
  nearest('x'.repeat(10_000_000), ['listen'])
  expect(cpuMs() - startedMs).toBeLessThan(100)
})
