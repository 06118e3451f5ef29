import { expect, test } from 'vitest'
import { codecs, makeCid } from '../../../src/core/cid.ts'
import { sha256 } from '../../../src/core/digest.ts'
import { InvalidInputError } from '../../../src/core/errors.ts'
import { encodeManifest, makeManifest, manifestCid } from '../../../src/manifest/manifest.ts'
import { linkOf, linkTo } from '../../../src/ops/link.ts'
import { parseLink } from '../../../src/ops/ref.ts'
import type { HeldModel } from '../../../src/store/store.ts'

const manifest = makeCid(codecs.dagCbor, sha256(Buffer.from('manifest')))
const model = { manifest, name: 'org/model' } as HeldModel

function linkFrom(...addresses: string[]): string {
  return linkTo({ addresses: () => addresses }, model)
}

test('names no loopback address when there is another, and two at most', () => {
  const link = linkFrom(
    '/ip4/127.0.0.1/tcp/4011',
    '/ip4/192.0.2.7/tcp/4011',
    '/ip6/::1/tcp/4011',
    '/ip4/192.0.2.8/tcp/4011',
    '/ip4/192.0.2.9/tcp/4011',
  )
  expect(link).toBe(
    `cw://${manifest.toString()}?peer=/ip4/192.0.2.7/tcp/4011&peer=/ip4/192.0.2.8/tcp/4011&name=org/model`,
  )
})

test('names loopback when it is all there is: two nodes on one machine', () => {
  expect(linkFrom('/ip4/127.0.0.1/tcp/4011')).toContain('peer=/ip4/127.0.0.1/tcp/4011')
})

/** The link to a model of so many empty files. */
function linkWith(files: number, webSeeds: readonly string[]): string {
  const digest = sha256(new Uint8Array(0))
  const root = makeCid(codecs.raw, digest)
  const all = Array.from({ length: files }, (_, index) => ({
    path: `${index}.bin`,
    size: 0,
    sha256: digest,
    root,
  }))
  const block = encodeManifest(makeManifest(all))
  const held = { manifest: manifestCid(block), name: 'org/model' } as HeldModel
  const store = {
    model: () => held,
    models: () => [held],
    filesOf: () => [],
    manifestBlock: () => block,
    originOf: () => undefined,
  }
  const net = { addresses: () => ['/ip4/192.0.2.7/tcp/4011'] }
  const options = { allowPrivate: false, agent: 'test' }
  return linkOf({ store, net, webSeeds: options }, 'org/model', webSeeds).link
}

test('writes web seeds into the link, as a pull reads them', () => {
  const urls = ['https://mirror.example.org/models/minilm/', 'https://b.example/a%20b/']
  expect(parseLink(linkWith(2, urls)).webSeeds).toEqual(urls)
  const signed = ['https://bucket.example/w.gguf?X-Signature=a&b=c+d']
  expect(parseLink(linkWith(1, signed)).webSeeds).toEqual(signed)
  expect(linkWith(2, [])).not.toContain('ws=')
})

test.for([
  ['what is no URL', 2, ['mirror']],
  ['plain http', 2, ['http://mirror.example.org/m/']],
  ['a private address', 2, ['https://192.168.1.2/m/']],
  ['one file for a model of two', 2, ['https://mirror.example.org/w.gguf']],
  ['more than a link holds', 2, Array.from({ length: 9 }, (_, at) => `https://${at}.example/`)],
] as const)('refuses %s', ([, files, urls]) => {
  expect(() => linkWith(files, urls)).toThrow(InvalidInputError)
})
