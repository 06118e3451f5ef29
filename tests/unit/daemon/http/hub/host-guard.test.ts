import { expect, test } from 'vitest'
import { refuseStranger } from '../../../../../daemon/http/hub/host-guard.ts'

const options = { host: '127.0.0.1', allowed: ['hub.lab'], corsOrigins: ['https://app.lab'] }

test.for(['127.0.0.1', '127.0.0.1:4080', 'localhost:4080', 'LOCALHOST', '[::1]:4080', 'hub.lab:1'])(
  'lets %s in',
  host => {
    expect(refuseStranger({ host }, options)).toBeUndefined()
  },
)

test.for([
  'evil.test',
  'evil.test:4080',
  '127.0.0.1.evil.test',
  '127.0.0.1:4080:1',
  'localhost.',
  '0.0.0.0:4080',
  'user@localhost',
  '[::1',
  '127.0.0.1:port',
])('turns %s away', host => {
  expect(refuseStranger({ host }, options)?.status).toBe(421)
})

test('asks for a name', () => {
  expect(refuseStranger({}, options)?.status).toBe(400)
})

test('knows the address that it listens on', () => {
  const lan = { host: '192.168.1.5', allowed: [], corsOrigins: [] }
  expect(refuseStranger({ host: '192.168.1.5:4080' }, lan)).toBeUndefined()
  expect(refuseStranger({ host: '192.168.1.6:4080' }, lan)?.status).toBe(421)
})

test.for(['0.0.0.0', '::'])('listening on %s, knows the address that was reached', host => {
  const lan = { host, allowed: [], corsOrigins: [] }
  const reached = '::ffff:192.168.1.5'
  expect(refuseStranger({ host: '192.168.1.5:4080' }, lan, reached)).toBeUndefined()
  expect(refuseStranger({ host: '192.168.1.6:4080' }, lan, reached)?.status).toBe(421)
  expect(refuseStranger({ host: '0.0.0.0:4080' }, lan, reached)?.status).toBe(421)
  expect(refuseStranger({ host: 'hub.lab' }, lan, reached)?.status).toBe(421)
  expect(refuseStranger({ host: '[fd00::5]:4080' }, lan, 'fd00::5')).toBeUndefined()
})

test('lets pages of exactly the configured origins in, by a name that is ours', () => {
  const host = 'localhost'
  const sign = { 'sec-fetch-site': 'cross-site' } as const
  expect(refuseStranger({ host, origin: 'https://app.lab', ...sign }, options)).toBeUndefined()
  for (const origin of [
    'https://app.lab.evil.test',
    'http://app.lab',
    'https://app.lab:8443',
    'https://APP.lab',
    'https://app.lab/',
    'null',
    '*',
    '',
  ]) {
    expect([origin, refuseStranger({ host, origin, ...sign }, options)?.status]).toEqual([
      origin,
      403,
    ])
  }
  const rebound = { host: 'evil.test', origin: 'https://app.lab' }
  expect(refuseStranger(rebound, options)?.status).toBe(421)
})

test('turns web pages away, and not a person who types the address', () => {
  const host = 'localhost'
  expect(refuseStranger({ host, origin: 'https://evil.test' }, options)?.status).toBe(403)
  expect(refuseStranger({ host, 'sec-fetch-site': 'cross-site' }, options)?.status).toBe(403)
  expect(refuseStranger({ host, 'sec-fetch-site': 'none' }, options)).toBeUndefined()
})
