import { expect, test } from 'vitest'
import { parseByteRange } from '../../../../../daemon/http/hub/byte-range.ts'

const part = (start: number, end: number): object => ({ kind: 'part', start, end })

test.for<[string | undefined, number, object]>([
  [undefined, 10, { kind: 'whole' }],
  ['bytes=0-3', 10, part(0, 4)],
  ['bytes=4-', 10, part(4, 10)],
  ['bytes=-3', 10, part(7, 10)],
  ['bytes=-30', 10, part(0, 10)],
  ['bytes=8-99', 10, part(8, 10)],
  ['bytes=9-9', 10, part(9, 10)],
  ['bytes=10-', 10, { kind: 'outside' }],
  ['bytes=-0', 10, { kind: 'outside' }],
  ['bytes=0-0', 0, { kind: 'outside' }],
  // Not understood, which a server may ignore.
  ['bytes=0-1,4-5', 10, { kind: 'whole' }],
  ['bytes=5-2', 10, { kind: 'whole' }],
  ['bytes=-', 10, { kind: 'whole' }],
  ['bytes=0x1-3', 10, { kind: 'whole' }],
  ['lines=0-3', 10, { kind: 'whole' }],
  [`bytes=0-${'9'.repeat(16)}`, 10, part(0, 10)],
])('%s of %i bytes', ([header, size, range]) => {
  expect(parseByteRange(header, size)).toEqual(range)
})
