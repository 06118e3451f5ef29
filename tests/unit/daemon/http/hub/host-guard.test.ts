import { describe, expect, test } from 'vitest'
import { mayStart, refuseStranger } from '../../../../../daemon/http/hub/host-guard.ts'

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

describe('on a LAN without TLS, where browsers tell less', () => {
  const host = '192.168.1.5:4080'
  const lan = { host: '192.168.1.5', allowed: [], corsOrigins: ['https://app.lab'] }
  const firefox = 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0'
  const powerShell =
    'Mozilla/5.0 (Windows NT; Windows NT 10.0; en-US) WindowsPowerShell/5.1.19041.1'

  test.for(['http://evil.test/', 'http://192.168.1.5/', 'https://app.lab/', 'about:blank', ''])(
    'what a page at %s embeds or links to is refused',
    referer => {
      expect(refuseStranger({ host, referer, 'user-agent': firefox }, lan)?.status).toBe(403)
    },
  )

  test('a page of our own address is let in, by what the browser says of it first', () => {
    const own = { host, referer: 'http://192.168.1.5:4080/models' }
    expect(refuseStranger(own, lan)).toBeUndefined()
    expect(mayStart({ ...own, 'user-agent': firefox }, lan)).toBe(true)
    // A reverse proxy with TLS that changed the name on the way.
    const behind = { host, referer: 'https://hub.lab/', 'sec-fetch-site': 'same-origin' } as const
    expect(refuseStranger(behind, lan)).toBeUndefined()
  })

  test('a browser that does not say which page asks starts nothing', () => {
    const silent = { host, 'user-agent': firefox, accept: 'image/avif,image/webp,*/*' }
    expect(refuseStranger(silent, lan)).toBeUndefined()
    expect(mayStart(silent, lan)).toBe(false)
    expect(mayStart({ ...silent, accept: '*/*', 'accept-language': 'en' }, lan)).toBe(false)
  })

  test('a browser that says that its user asks, or an allowed page, starts what it needs', () => {
    expect(mayStart({ host, 'user-agent': firefox, 'sec-fetch-site': 'none' }, lan)).toBe(true)
    expect(mayStart({ host, 'user-agent': firefox, origin: 'https://app.lab' }, lan)).toBe(true)
  })

  test.for([
    undefined,
    'curl/8.14.1',
    'Wget/1.25.0',
    'aria2/1.37.0',
    'unknown/None; hf_hub/1.2.0; python/3.13.5; torch/2.9.0',
    'transformers.js/3.7.6; is_ci/false;',
    'node',
    'ollama/0.13.0 (amd64 linux) Go/go1.24.1',
    'llama-cpp',
    powerShell,
  ])('the program %s starts what it needs', agent => {
    expect(mayStart(agent === undefined ? { host } : { host, 'user-agent': agent }, lan)).toBe(true)
  })
})
