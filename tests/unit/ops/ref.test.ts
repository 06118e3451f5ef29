import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { codecs, makeCid, rawCid } from '../../../src/core/cid.ts'
import { sha256 } from '../../../src/core/digest.ts'
import type { CommonweightError } from '../../../src/core/errors.ts'
import { formatLink, linkPeersMax, linkWebSeedsMax, parseRef } from '../../../src/ops/ref.ts'

const digest = sha256(Buffer.from('weights'))
const manifest = makeCid(codecs.dagCbor, digest)

describe('parseRef', () => {
  test('tells a manifest from a file by the codec of the CID', () => {
    expect(parseRef(manifest.toString())).toMatchObject({ kind: 'manifest', peers: [] })
    expect(parseRef(rawCid(digest).toString())).toMatchObject({ kind: 'file' })
    expect(parseRef(makeCid(codecs.dagPb, digest).toString())).toMatchObject({ kind: 'file' })
  })

  test('takes a SHA-256 in either case', () => {
    const hex = Buffer.from(digest).toString('hex')
    for (const text of [hex, hex.toUpperCase()]) {
      const ref = parseRef(`sha256:${text}`)
      expect(ref.kind === 'sha256' && Buffer.compare(ref.digest, digest)).toBe(0)
    }
  })

  test('takes a name as hubs write them', () => {
    for (const name of ['tiny', 'org/model', 'Qwen/Qwen3-30B-A3B', 'org/модель.v1_2']) {
      expect(parseRef(name)).toEqual({ kind: 'name', name })
    }
  })

  test.for([
    ['', 'not a model name'],
    ['../../etc', 'not a model name'],
    ['/absolute', 'not a model name'],
    ['org//model', 'not a model name'],
    ['org/.hidden', 'not a model name'],
    ['a b', 'not a model name'],
    ['sha256:abcd', 'not a SHA-256'],
    [`sha256:${'g'.repeat(64)}`, 'not a SHA-256'],
    [`${manifest.toString().slice(0, -3)}`, 'not a CID'],
    [`${manifest.toString().slice(0, -1)}0`, 'not a CID'],
    [manifest.toString().toUpperCase(), 'not a CID'],
    ['cw://', 'names no manifest'],
    ['QmdmQXB2mzChmMeKY47C43LxUdg1NDJ5MWcKMKxDu7RgQm', 'it is version 0'],
    ['cw://nonsense?peer=x', 'not a CID'],
    [`cw://${rawCid(digest).toString()}`, 'names a manifest'],
    [`cw://${manifest.toString()}?name=../x`, 'not a model name'],
  ] as const)('refuses %j', ([text, reason]) => {
    expect(() => parseRef(text)).toThrow(expect.objectContaining({ code: 'INVALID_INPUT' }))
    expect(() => parseRef(text)).toThrow(reason)
  })

  test('throws nothing but INVALID_INPUT, whatever it is given', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.string().map(text => `cw://${text}`),
        ),
        text => {
          const error = errorOf(() => parseRef(text))
          const code = error === undefined ? undefined : (error as CommonweightError).code
          expect([undefined, 'INVALID_INPUT']).toContain(code)
        },
      ),
    )
  })
})

function errorOf(run: () => unknown): unknown {
  try {
    run()
    return undefined
  } catch (error) {
    return error
  }
}

describe('links', () => {
  test('read back as they were made, with slashes left readable', () => {
    const peers = ['/ip4/192.0.2.7/tcp/4011/p2p/12D3KooW', '/dns4/a.example/tcp/1?&=%/x']
    const webSeeds = ['https://mirror.example.org/models/x/', 'https://b.example/w.bin?a=1&b=%20+']
    const text = formatLink({ manifest, peers, webSeeds, name: 'org/model' })
    expect(text).toContain('peer=/ip4/192.0.2.7/tcp/4011')
    expect(text).toContain('ws=https://mirror.example.org/models/x/')
    const ref = parseRef(text)
    expect(ref).toMatchObject({ kind: 'manifest', peers, webSeeds, name: 'org/model' })
    expect(ref.kind === 'manifest' && ref.manifest.equals(manifest)).toBe(true)
  })

  test('carry a bounded number of addresses', () => {
    const peers = Array.from({ length: 100 }, (_, n) => `/ip4/192.0.2.${n}/tcp/4011`)
    const link = `cw://${manifest.toString()}?${peers.map(peer => `peer=${peer}`).join('&')}`
    const ref = parseRef(link)
    expect(ref.kind === 'manifest' && ref.peers.length).toBe(linkPeersMax)
    const seeds = parseRef(`cw://${manifest.toString()}?${'ws=https://a.example/&'.repeat(100)}`)
    expect(seeds.kind === 'manifest' && seeds.webSeeds.length).toBe(linkWebSeedsMax)
  })
})

test('who pulls a repository of a hub is told how to mirror it', () => {
  expect(() => parseRef('hf:org/model')).toThrow(
    expect.objectContaining({
      message: 'hf:org/model is a repository of a hub',
      hint: 'commonweight mirror hf:org/model fetches it; what is here has the name org/model',
    }),
  )
})
