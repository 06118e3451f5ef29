import type { IncomingHttpHeaders } from 'node:http'
import { expect, test } from 'vitest'
import { ProtocolError } from '../../../../src/core/errors.ts'
import { judge, type RangeAsk, retryAfter } from '../../../../src/net/web/range-answer.ts'

const middle: RangeAsk = { offset: 100, length: 50, size: 1000 }
const start: RangeAsk = { offset: 0, length: 50, size: 1000 }
const whole: RangeAsk = { offset: 0, length: 1000, size: 1000 }
const nowMs = Date.parse('2026-11-24T12:00:00Z')

function verdict(status: number, headers: IncomingHttpHeaders, ask = middle) {
  return judge({ status, headers, nowMs }, ask)
}

test('takes the range that was asked for, and only that', () => {
  const range = { 'content-range': 'bytes 100-149/1000' }
  expect(verdict(206, { ...range, 'content-length': '50' })).toEqual({
    type: 'bytes',
    isWhole: true,
  })
  // Without a length where the body ends is not known: its connection is not used again.
  expect(verdict(206, range)).toEqual({ type: 'bytes', isWhole: false })
  expect(verdict(206, { 'content-range': 'bytes 100-149/*' })).toMatchObject({ type: 'bytes' })
})

test.for([
  {},
  { 'content-range': 'bytes 0-49/1000' },
  { 'content-range': 'bytes 100-150/1000' },
  { 'content-range': 'bytes 100-148/1000' },
  { 'content-range': 'bytes 101-149/1000' },
  { 'content-range': 'bytes */1000' },
  { 'content-range': 'bytes 1e2-149/1000' },
  { 'content-range': 'bytes 100-149/1000, bytes 100-149/1000' },
  { 'content-range': 'items 100-149/1000' },
  { 'content-type': 'multipart/byteranges; boundary=x' },
  { 'content-range': 'bytes 100-149/1000', 'content-length': '51' },
  { 'content-range': 'bytes 100-149/1000', 'content-length': '49' },
  { 'content-range': 'bytes 100-149/1000', 'content-encoding': 'gzip' },
] satisfies IncomingHttpHeaders[])('a 206 with %j breaks the rules', headers => {
  expect(() => verdict(206, headers)).toThrow(ProtocolError)
})

test('a file of another size is another file', () => {
  const other = { 'content-range': 'bytes 100-149/999' }
  expect(verdict(206, other)).toMatchObject({ type: 'missing' })
  expect(verdict(200, { 'content-length': '999' }, start)).toMatchObject({ type: 'missing' })
})

test('a 200 is read from its start only', () => {
  const headers = { 'content-length': '1000' }
  expect(verdict(200, headers)).toEqual({ type: 'no-ranges' })
  expect(verdict(200, headers, start)).toEqual({ type: 'bytes', isWhole: false })
  expect(verdict(200, headers, whole)).toEqual({ type: 'bytes', isWhole: true })
  expect(verdict(200, {}, start)).toEqual({ type: 'bytes', isWhole: false })
  const packed = { ...headers, 'content-encoding': 'br' }
  expect(() => verdict(200, packed, start)).toThrow(ProtocolError)
})

test('who does not have a file says so in many ways', () => {
  for (const status of [400, 401, 403, 404, 410, 416, 451]) {
    expect(verdict(status, {})).toMatchObject({ type: 'missing', why: `it answered ${status}` })
  }
})

test('who is busy, and who is broken, is asked again', () => {
  for (const status of [408, 425, 429, 503]) {
    expect(verdict(status, { 'retry-after': '7' })).toMatchObject({ type: 'busy', retryMs: 7000 })
  }
  for (const status of [500, 502, 504]) {
    expect(verdict(status, {})).toMatchObject({ type: 'failing' })
  }
})

test('answers that mean nothing here break the rules', () => {
  for (const status of [0, 201, 204, 300, 304]) {
    expect(() => verdict(status, {})).toThrow(ProtocolError)
  }
  expect(() => verdict(302, {})).toThrow(ProtocolError)
  expect(verdict(302, { location: '/x' })).toEqual({ type: 'redirect', location: '/x' })
})

test('Retry-After is seconds or a date', () => {
  const after = (text?: string) =>
    retryAfter(text === undefined ? {} : { 'retry-after': text }, nowMs)
  expect(after('120')).toBe(120_000)
  expect(after('Tue, 24 Nov 2026 12:00:30 GMT')).toBe(30_000)
  expect(after('Tue, 24 Nov 2026 11:00:00 GMT')).toBe(0)
  expect(after()).toBeUndefined()
  expect(after('soon')).toBeUndefined()
})
