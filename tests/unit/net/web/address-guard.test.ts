import type { LookupAddress } from 'node:dns'
import { expect, test } from 'vitest'
import {
  faultOfAddresses,
  guardedLookup,
  isLinkLocal,
  literalOf,
  zoneOf,
  zoneOfHost,
} from '../../../../src/net/web/address-guard.ts'

/** The spellings of this machine that a URL takes, and what lies next to it. */
export const insideUrls = [
  'https://127.0.0.1/',
  'https://127.1/',
  'https://0x7f.1/',
  'https://2130706433/',
  'https://0177.0.0.1/',
  'https://0x7f000001/',
  'https://127.0.0.1./',
  'https://１２７.０.０.１/',
  'https://0.0.0.0/',
  'https://0/',
  'https://[::1]/',
  'https://[::]/',
  'https://[::ffff:127.0.0.1]/',
  'https://[::ffff:7f00:1]/',
  'https://[64:ff9b::7f00:1]/',
  'https://[2002:7f00:1::]/',
]

test.for(insideUrls)('%s names a private address by itself', text => {
  const literal = literalOf(new URL(text))
  expect(literal).toBeDefined()
  expect(zoneOf(literal ?? '')).toBe('private')
})

test.for([
  '10.0.0.1',
  '100.64.0.1',
  '100.127.255.255',
  '169.254.169.254',
  '172.16.0.1',
  '172.31.255.255',
  '192.168.1.1',
  '192.0.0.8',
  '192.0.2.1',
  '192.88.99.1',
  '198.18.0.1',
  '198.19.255.255',
  '198.51.100.7',
  '203.0.113.7',
  '224.0.0.251',
  '255.255.255.255',
  'fe80::1',
  'fe80::1%eth0',
  '2606:4700::1%eth0',
  'fc00::1',
  'fd12::1',
  'ff02::1',
  '64:ff9b:1::1',
  '2001::1',
  '2001:db8::1',
  '3fff::1',
  '100::1',
  '::127.0.0.1',
  '::ffff:8.8.8.8',
  '',
  'localhost',
])('%j is private', address => {
  expect(zoneOf(address)).toBe('private')
})

test.for([
  '1.1.1.1',
  '8.8.8.8',
  '100.63.255.255',
  '100.128.0.1',
  '172.15.255.255',
  '172.32.0.1',
  '192.0.1.1',
  '198.17.255.255',
  '198.20.0.1',
  '223.255.255.255',
  '2001:4860:4860::8888',
  '2606:4700::1111',
  '2a00:1450::1',
])('%s is public', address => {
  expect(zoneOf(address)).toBe('public')
})

test.for([
  '169.254.0.1',
  '169.254.169.254',
  '169.254.255.255',
  '::ffff:169.254.169.254',
  '::ffff:a9fe:a9fe',
  '64:ff9b::a9fe:a9fe',
  '2002:a9fe:a9fe::1',
  '::169.254.169.254',
  'fe80::1',
  'fe80::1%eth0',
  'febf:ffff::1',
  'fd00:ec2::254',
  'fd20:ce::254',
  '100.100.100.200',
])('%s is where credentials may be, and never asked', async address => {
  expect(isLinkLocal(address)).toBe(true)
  expect(zoneOf(address)).toBe('private')
  for (const addresses of [[address], ['10.0.0.1', address], ['8.8.8.8', address]]) {
    const lookup = () => Promise.resolve(addresses)
    await expect(zoneOfHost(new URL('http://nas.lan/'), lookup)).rejects.toThrow('link-local')
    for (const zone of ['private', 'public'] as const) {
      await expect(ask(guardedLookup(lookup, zone), true)).rejects.toThrow('link-local')
      expect(faultOfAddresses(addresses, zone, 'nas.lan')?.message).toContain('link-local')
    }
  }
})

test.for(['10.0.0.1', '127.0.0.1', '100.100.100.201', 'fec0::1', 'fd00:ec2::1', ''])(
  '%j is private and may be allowed',
  address => {
    expect(isLinkLocal(address)).toBe(false)
    expect(faultOfAddresses([address], 'private', 'nas.lan')).toBeUndefined()
    expect(faultOfAddresses([address], 'public', 'nas.lan')?.message).toContain('private address')
  },
)

test('a URL that spells a link-local address in any way is refused before it is asked', async () => {
  const lookup = () => Promise.reject(new Error('looked up'))
  for (const host of [
    '169.254.43518',
    '0xa9fea9fe',
    '2852039166',
    '[::ffff:a9fe:a9fe]',
    '[fe80::1]',
  ]) {
    const zone = zoneOfHost(new URL(`http://${host}/latest/meta-data/`), lookup)
    await expect(zone).rejects.toMatchObject({ code: 'PROTOCOL' })
  }
})

test('a name is private when one of its addresses is, or when it has none', async () => {
  const url = new URL('https://mirror.example.org/')
  const zone = (...addresses: string[]) => zoneOfHost(url, () => Promise.resolve(addresses))
  expect(await zone('8.8.8.8', '2606:4700::1')).toBe('public')
  expect(await zone('8.8.8.8', '127.0.0.1')).toBe('private')
  expect(await zone()).toBe('private')
})

test('a URL with an address in it is never looked up', async () => {
  const lookup = () => Promise.reject(new Error('looked up'))
  expect(await zoneOfHost(new URL('https://8.8.8.8/'), lookup)).toBe('public')
  expect(await zoneOfHost(new URL('https://[::1]/'), lookup)).toBe('private')
})

type Found = string | LookupAddress[]

function ask(
  lookup: ReturnType<typeof guardedLookup>,
  all: boolean,
): Promise<{ found: Found; family: number | undefined }> {
  return new Promise((resolve, reject) => {
    lookup('mirror.example.org', { all }, (error, found, family) => {
      if (error === null) resolve({ found, family })
      else reject(error)
    })
  })
}

test('a name that was public and is private when connected to is refused', async () => {
  const lookup = guardedLookup(() => Promise.resolve(['8.8.8.8', '10.0.0.1']), 'public')
  await expect(ask(lookup, true)).rejects.toMatchObject({ code: 'PROTOCOL' })
  await expect(ask(lookup, false)).rejects.toMatchObject({ code: 'PROTOCOL' })
})

test('what was looked up is what is connected to, in both forms that sockets ask for', async () => {
  const addresses = ['8.8.8.8', '2606:4700::1']
  for (const zone of ['public', 'private'] as const) {
    const lookup = guardedLookup(() => Promise.resolve(addresses), zone)
    expect(await ask(lookup, false)).toEqual({ found: '8.8.8.8', family: 4 })
    expect((await ask(lookup, true)).found).toEqual([
      { address: '8.8.8.8', family: 4 },
      { address: '2606:4700::1', family: 6 },
    ])
  }
})

test('a resolver that fails fails the connection', async () => {
  const lookup = guardedLookup(() => Promise.reject(new Error('no such name')), 'private')
  await expect(ask(lookup, true)).rejects.toThrow('no such name')
})
