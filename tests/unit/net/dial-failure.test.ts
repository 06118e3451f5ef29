import { expect, test } from 'vitest'
import { UnavailableError } from '../../../src/core/errors.ts'
import { dialFailure } from '../../../src/net/dial-failure.ts'

function coded(code: string, message: string): Error {
  return Object.assign(new Error(message), { code })
}

function named(name: string, message: string): Error {
  return Object.assign(new Error(message), { name })
}

const refused = coded(
  'ECONNREFUSED',
  'connection error 192.0.2.1:4011: connect ECONNREFUSED 192.0.2.1:4011',
)

test.each([
  ['connection refused (192.0.2.1:4011)', refused],
  ['no such host (x.test:1)', coded('ENOTFOUND', 'connection error x.test:1: getaddrinfo')],
  ['timed out', new DOMException('The operation was aborted due to timeout', 'TimeoutError')],
  ['timed out', named('EncryptionFailedError', 'The operation was aborted due to timeout')],
  ['no transport here for its address', named('NoValidAddressesError', 'none')],
  [
    'what answers there is no such node (Unexpected EOF)',
    named('EncryptionFailedError', 'Unexpected EOF'),
  ],
  ['peer X is banned: it lied', new UnavailableError('peer X is banned: it lied')],
])('says: %s', (words, error) => {
  expect(dialFailure(error)).toBe(words)
  expect(dialFailure(new UnavailableError('peer X: as above', { cause: error }))).toBe(words)
})

test('says each reason once, and the first three, when there were several addresses', () => {
  const errors = [refused, refused, ...['a', 'b', 'c'].map(message => new Error(message))]
  const error = new UnavailableError('peer X: all failed', { cause: new AggregateError(errors) })
  expect(dialFailure(error)).toBe('connection refused (192.0.2.1:4011), and a, and b')
})
