import { expect, test } from 'vitest'
import * as errors from '../../../src/core/errors.ts'

const { CommonweightError, errorFromCode, errorTable, exitCodeOf, isAbort, messageOf, systemCode } =
  errors

type ErrorClass = new (message: string, details?: errors.ErrorDetails) => errors.CommonweightError

test('each class has its own code, and its name is that of the class', () => {
  const classes = Object.entries(errors).filter(
    ([name]) => name.endsWith('Error') && name !== 'CommonweightError',
  )
  expect(classes.length).toBeGreaterThanOrEqual(8)
  const codes = classes.map(([name, value]) => {
    const cause = new Error('below')
    const error = new (value as unknown as ErrorClass)('what was done', { hint: 'do this', cause })
    expect(error).toBeInstanceOf(CommonweightError)
    expect(error).toMatchObject({ name, message: 'what was done', hint: 'do this', cause })
    return error.code
  })
  expect(new Set(codes).size).toBe(classes.length)
})

test('an error without a cause has none', () => {
  expect('cause' in new errors.StorageError('full')).toBe(false)
})

test('the exit code is that of the table; aborts are 130 and bugs 1', () => {
  for (const [code, { exit }] of Object.entries(errorTable)) {
    expect(exitCodeOf(errorFromCode(code as errors.ErrorCode, 'x'))).toBe(exit)
  }
  expect(exitCodeOf(new DOMException('stopped', 'AbortError'))).toBe(130)
  expect(exitCodeOf(new TypeError('bug'))).toBe(1)
  expect(exitCodeOf('thrown text')).toBe(1)
})

test('abort and time-out of the platform are told from other errors', () => {
  const stop = new AbortController()
  stop.abort()
  expect(isAbort(stop.signal.reason)).toBe(true)
  expect(isAbort(new DOMException('late', 'TimeoutError'))).toBe(true)
  expect(isAbort(new Error('AbortError'))).toBe(false)
  expect(isAbort({ name: 'AbortError' })).toBe(false)
})

test('anything that was thrown has a message', () => {
  expect(messageOf(new Error('text'))).toBe('text')
  expect(messageOf('text')).toBe('text')
  expect(messageOf(undefined)).toBe('undefined')
})

test('the code of a system error is found, other codes are not', () => {
  expect(systemCode(Object.assign(new Error('x'), { code: 'ENOENT' }))).toBe('ENOENT')
  expect(systemCode(Object.assign(new Error('x'), { code: 5 }))).toBeUndefined()
  expect(systemCode({ code: 'ENOENT' })).toBeUndefined()
})
