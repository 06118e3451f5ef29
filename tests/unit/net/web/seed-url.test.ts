import fc from 'fast-check'
import { expect, test } from 'vitest'
import { InvalidInputError } from '../../../../src/core/errors.ts'
import { parsePath } from '../../../../src/manifest/paths.ts'
import { parseWebSeed, urlOfFile } from '../../../../src/net/web/seed-url.ts'

const strict = { allowPrivate: false }
const open = { allowPrivate: true }

test('the path of a file follows the last / of a folder, each segment encoded', () => {
  const seed = parseWebSeed('https://hub.example.org/org/model/resolve/main/', strict)
  expect(seed.kind).toBe('tree')
  const href = (path: string) => urlOfFile(seed, path).href.slice(seed.url.href.length)
  expect(href('model.safetensors')).toBe('model.safetensors')
  expect(href('a/b/c.json')).toBe('a/b/c.json')
  expect(href('50% off/a+b & c?.txt#1')).toBe('50%25%20off/a%2Bb%20%26%20c%3F.txt%231')
  expect(href("it's (1)!*.bin")).toBe('it%27s%20%281%29%21%2A.bin')
  expect(href('модель/重み.bin')).toBe(
    '%D0%BC%D0%BE%D0%B4%D0%B5%D0%BB%D1%8C/%E9%87%8D%E3%81%BF.bin',
  )
})

test('every path of a manifest has a URL below the folder, and each its own', () => {
  const seed = parseWebSeed('https://mirror.example.org/models/x/', strict)
  const path = fc
    .array(fc.string({ unit: 'grapheme', minLength: 1, maxLength: 12 }), {
      minLength: 1,
      maxLength: 4,
    })
    .map(segments => segments.join('/'))
    .filter(isPath)
  fc.assert(
    fc.property(path, path, (one, other) => {
      const { href, search, hash } = urlOfFile(seed, one)
      expect(href.startsWith(seed.url.href)).toBe(true)
      expect([search, hash]).toEqual(['', ''])
      expect(decodeURIComponent(href.slice(seed.url.href.length))).toBe(one)
      expect(urlOfFile(seed, other).href === href).toBe(one === other)
    }),
    { numRuns: 500 },
  )
})

function isPath(text: string): boolean {
  return faultOf(() => parsePath(text)) === undefined
}

function faultOf(work: () => unknown): unknown {
  try {
    work()
    return undefined
  } catch (error) {
    return error
  }
}

test('the URL of a file stands for the only file, with its query, which is not shown', () => {
  const text = 'https://bucket.s3.example.org/w.bin?X-Amz-Signature=secret'
  const seed = parseWebSeed(text, strict)
  expect(seed.kind).toBe('file')
  expect(urlOfFile(seed, 'other/name.bin').href).toBe(text)
  expect(seed.id).toBe('https://bucket.s3.example.org/w.bin')
})

test.for([
  ['', 'not a URL'],
  ['mirror.example.org/models/', 'not a URL'],
  [`https://example.org/${'x'.repeat(2048)}`, 'not a URL'],
  ['ftp://example.org/models/', 'is not https'],
  ['file:///etc/passwd', 'is not https'],
  ['http://example.org/models/', 'is not https'],
  ['http://8.8.8.8/models/', 'is not https'],
  ['https://user@example.org/models/', 'user name or password'],
  ['https://user:word@example.org/models/', 'user name or password'],
  ['https://example.org/models/#top', 'fragment'],
  ['https://example.org/models/?token=1', 'a query behind a folder'],
  ['https://127.0.0.1/models/', 'private address'],
  ['https://[fd00::1]/models/', 'private address'],
] as const)('refuses %j', ([text, reason]) => {
  const parse = () => parseWebSeed(text, strict)
  expect(parse).toThrow(InvalidInputError)
  expect(parse).toThrow(reason)
})

test('never shows the password it refuses', () => {
  expect(() => parseWebSeed('https://user:word@example.org/', strict)).not.toThrow('word@')
})

test('private hosts need the setting, and http is for them alone', () => {
  expect(parseWebSeed('http://127.0.0.1:8080/models/', open).kind).toBe('tree')
  // Whether a name is private is found out when it is looked up.
  expect(parseWebSeed('http://nas.lan/models/', open).kind).toBe('tree')
  expect(() => parseWebSeed('http://nas.lan/models/', strict)).toThrow('is not https')
  expect(() => parseWebSeed('http://8.8.8.8/models/', open)).toThrow('is not https')
  expect(() => parseWebSeed('http://127.0.0.1/reboot?now=1', open)).toThrow('has a query')
})

test('throws nothing but INVALID_INPUT, whatever it is given', () => {
  const text = fc.oneof(
    fc.string(),
    fc.webUrl({ withFragments: true, withQueryParameters: true }),
    fc.string().map(rest => `https://${rest}`),
  )
  fc.assert(
    fc.property(text, fc.boolean(), (url, allowPrivate) => {
      const fault = faultOf(() => parseWebSeed(url, { allowPrivate }))
      expect(fault === undefined || fault instanceof InvalidInputError).toBe(true)
    }),
  )
})
