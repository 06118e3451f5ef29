/**
 * What the list of conformance (C1 to C20) asks beyond hub-gateway.test.ts: a model that was mirrored is
 * answered as its hub answers, llama.cpp's whole sequence of requests, and a holder that falls silent.
 * C15 is in registry.test.ts, C19 in tests/interop.
 */

import { createHash } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { mirrorRequestSchema } from '../../src/api/contract.ts'
import { KiB, MiB, second } from '../../src/core/units.ts'
import { type HubAnswer, type HubGateway, openHubGateway } from '../support/hub-gateway.ts'
import { type MockHub, openMockHub } from '../support/mock-hub.ts'
import { seededBytes, tensorFile } from '../support/model-files.ts'
import { modelGguf } from '../support/weight-files.ts'

const weights = tensorFile({ a: seededBytes('a', MiB + 17), b: seededBytes('b', 900) })
const odd = 'sub dir/odd #1 näme%.json'
const files = {
  '.gitattributes': Buffer.from('*.safetensors filter=lfs\n'),
  'README.md': Buffer.from('---\npipeline_tag: text-generation\n---\n'),
  'config.json': Buffer.from('{"model_type":"bert"}'),
  'empty.txt': Buffer.alloc(0),
  'model.safetensors': weights,
  [odd]: Buffer.from('{}'),
  'sub dir/deep/x.bin': Buffer.from('in LFS, and small'),
}
const id = 'Org/Model'
const sha1 = (bytes: Uint8Array | string): string => createHash('sha1').update(bytes).digest('hex')
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')
const blobOid = (bytes: Uint8Array): string =>
  sha1(Buffer.concat([Buffer.from(`blob ${bytes.length}\0`), bytes]))

interface Entry {
  readonly type: string
  readonly path: string
  readonly oid: string
  readonly size: number
  readonly lfs?: { readonly oid: string; readonly size: number; readonly pointerSize: number }
}

let upstream: MockHub
let gateway: HubGateway
let commit: string

beforeAll(async () => {
  upstream = await openMockHub()
  upstream.repo(id, {
    tags: ['license:mit', 'bert'],
    cardData: { license: 'mit', library_name: 'transformers', pipeline_tag: 'text-generation' },
  })
  commit = upstream.commit(id, files)
  gateway = await openHubGateway()
  await mirror(gateway, id)
})
afterAll(async () => {
  await gateway[Symbol.asyncDispose]()
  await upstream[Symbol.asyncDispose]()
})

async function mirror(into: HubGateway, repo: string): Promise<void> {
  const request = mirrorRequestSchema.parse({
    kind: 'mirror',
    ref: `hf:${repo}`,
    upstream: upstream.url,
  })
  const signal = new AbortController().signal
  await into.node.mirror(request, { signal, onEvent: () => undefined })
}

const encoded = (path: string): string => path.split('/').map(encodeURIComponent).join('/')
const at = (path: string, revision = 'main'): string =>
  `/${id}/resolve/${encodeURIComponent(revision)}/${encoded(path)}`
const api = (rest: string): string => `/api/models/${id}${rest}`

describe('a mirrored model', () => {
  test.for(Object.keys(files))('C1, C2: the head of %s is what its hub says', async path => {
    // The hub's first answer is a redirect, which has them all but the length.
    const theirs = await fetch(upstream.url + at(path), { method: 'HEAD', redirect: 'manual' })
    const { headers, status } = await gateway.ask(at(path), { method: 'HEAD' })
    expect(status).toBe(200)
    const linked = theirs.headers.get('x-linked-etag') ?? undefined
    expect(headers).toMatchObject({
      'x-repo-commit': commit,
      etag: linked ?? theirs.headers.get('etag'),
      'content-length': String(files[path as keyof typeof files].length),
    })
    expect(headers['x-linked-etag']).toBe(linked)
    expect(headers['x-linked-size']).toBe(theirs.headers.get('x-linked-size') ?? undefined)
  })

  test.for(['', '/revision/main', '/revision/HEAD', '/revision/COMMIT'])(
    'C8: its info by %s',
    async rest => {
      const path = api(rest.replace('COMMIT', commit))
      const theirs = (await (await fetch(upstream.url + path)).json()) as Record<string, unknown>
      const ours = (await gateway.ask(path)).json() as Record<string, unknown>
      const fields = ['id', 'sha', 'author', 'private', 'gated', 'disabled', 'tags', 'cardData']
      for (const field of fields) expect([field, ours[field]]).toEqual([field, theirs[field]])
      expect(ours).toMatchObject({
        library_name: 'transformers',
        pipeline_tag: 'text-generation',
        lastModified: theirs['lastModified'],
      })
    },
  )

  test('C8: with blobs, sizes for all and LFS for what is in LFS', async () => {
    const answer = await gateway.ask(api('?blobs=true'))
    const { siblings } = answer.json() as { siblings: { rfilename: string }[] }
    expect(siblings).toContainEqual({
      rfilename: 'config.json',
      size: files['config.json'].length,
      blobId: blobOid(files['config.json']),
    })
    expect(siblings).toContainEqual({
      rfilename: 'model.safetensors',
      size: weights.length,
      blobId: expect.stringMatching(/^[0-9a-f]{40}$/),
      lfs: { sha256: sha256(weights), size: weights.length, pointerSize: expect.any(Number) },
    })
  })

  test.for(['refs%2Fpr%2F1', 'refs/pr/1', 'v9', '0123456'])(
    'C8: %s is no revision of it',
    async revision => {
      const answer = await gateway.ask(api(`/revision/${revision}`))
      expect(answer.headers['x-error-code']).toBe('RevisionNotFound')
    },
  )

  test('C9, C20: its tree is that of its hub, and so are the bytes', async () => {
    const path = api(`/tree/${commit}?recursive=true&expand=false`)
    const theirs = (await (await fetch(upstream.url + path)).json()) as Entry[]
    const ours = (await gateway.ask(path)).json() as Entry[]
    const filesOf = (tree: readonly Entry[]): Map<string, Entry> =>
      new Map(tree.filter(({ type }) => type === 'file').map(entry => [entry.path, entry]))
    expect(filesOf(ours)).toEqual(filesOf(theirs))
    for (const { lfs, oid, path: file } of filesOf(ours).values()) {
      const { body, headers } = await gateway.ask(at(file, commit))
      const name = lfs === undefined ? blobOid(body) : sha256(body)
      expect([file, name]).toEqual([file, lfs?.oid ?? oid])
      expect(headers.etag).toBe(`"${name}"`)
    }
  })

  test('C9: the oid of a folder is that of its children', async () => {
    const list = async (rest: string): Promise<Entry[]> =>
      (await gateway.ask(api(`/tree/main${rest}`))).json() as Entry[]
    const [file] = await list('/sub%20dir%2Fdeep')
    const deep = (await list('/sub%20dir')).find(({ type }) => type === 'directory')
    const record = Buffer.concat([
      Buffer.from('100644 x.bin\0'),
      Buffer.from(file?.oid ?? '', 'hex'),
    ])
    expect(deep?.oid).toBe(sha1(Buffer.concat([Buffer.from(`tree ${record.length}\0`), record])))
  })

  test('C11: paths by their names', async () => {
    const paths = ['config.json', 'model.safetensors', odd]
    const body = JSON.stringify({ paths, expand: true })
    const headers = { 'content-type': 'application/json' }
    const entries = (await gateway.ask(api('/paths-info/main'), { headers, body })).json()
    expect((entries as Entry[]).map(({ lfs, path }) => [path, lfs?.oid])).toEqual([
      ['config.json', undefined],
      ['model.safetensors', sha256(weights)],
      [odd, undefined],
    ])
  })

  test('C13: raw is the pointer of what is in LFS, and the file of what is not', async () => {
    const raw = (path: string, range?: string): Promise<HubAnswer> =>
      gateway.ask(`/${id}/raw/main/${path}`, range === undefined ? {} : { headers: { range } })
    expect((await raw('model.safetensors')).body.toString()).toMatch(/^version https:/)
    const plain = await raw('config.json')
    expect([plain.status, plain.headers.etag]).toEqual([200, `"${blobOid(plain.body)}"`])
    expect(plain.body.equals(files['config.json'])).toBe(true)
    const part = await raw('config.json', 'bytes=1-12')
    expect([part.status, part.body.toString()]).toEqual([206, '"model_type"'])
  })

  test('C7: what it lacks is said with its commit', async () => {
    const { headers, status } = await gateway.ask(at('none.json'))
    expect([status, headers['x-error-code'], headers['x-repo-commit']]).toEqual([
      404,
      'EntryNotFound',
      commit,
    ])
  })

  test('C5, C6: an empty file outside LFS, and what its reader has', async () => {
    const range = { range: 'bytes=0-0' }
    const empty = await gateway.ask(at('empty.txt'), { headers: range })
    expect([empty.status, empty.headers['content-length']]).toEqual([200, '0'])
    expect(empty.headers['content-range']).toBe('bytes */0')
    const known = { 'if-none-match': `"${blobOid(files['config.json'])}"` }
    expect((await gateway.ask(at('config.json'), { headers: known })).status).toBe(304)
  })

  test('is the same by its link alone', async () => {
    await using near = await openHubGateway()
    near.node.name('near/model', gateway.node.link(id).link)
    for (const path of ['config.json', 'model.safetensors']) {
      const { body, headers } = await near.ask(`/near/model/resolve/main/${path}`)
      const ours = await gateway.ask(at(path))
      expect([headers.etag, headers['x-repo-commit']]).toEqual([ours.headers.etag, commit])
      expect(body.equals(ours.body)).toBe(true)
    }
  })
})

test('a tag of its hub is a revision, as long as it is this commit', async () => {
  await using hub = await openMockHub()
  hub.repo('org/tagged')
  const tagged = hub.commit('org/tagged', { 'config.json': Buffer.from('{}') })
  const other = '0'.repeat(40)
  hub.behave = ({ response, serve, url }) => {
    if (!url.endsWith('/refs')) return serve()
    const ref = (name: string, targetCommit: string): object => ({
      name,
      ref: `refs/tags/${name}`,
      targetCommit,
    })
    const branches = [{ name: 'main', ref: 'refs/heads/main', targetCommit: tagged }]
    const body = { branches, converts: [], tags: [ref('v1.0', tagged), ref('v0.9', other)] }
    response.setHeader('content-type', 'application/json')
    response.end(JSON.stringify(body))
  }
  const signal = new AbortController().signal
  const request = { kind: 'mirror', ref: 'hf:org/tagged', upstream: hub.url }
  await gateway.node.mirror(mirrorRequestSchema.parse(request), {
    signal,
    onEvent: () => undefined,
  })
  const of = (rest: string): Promise<HubAnswer> => gateway.ask(`/api/models/org/tagged${rest}`)
  expect((await of('/refs')).json()).toMatchObject({
    branches: [{ name: 'main', targetCommit: tagged }],
    tags: [{ name: 'v1.0', ref: 'refs/tags/v1.0', targetCommit: tagged }],
  })
  for (const revision of ['v1.0', 'refs%2Ftags%2Fv1.0', 'refs/tags/v1.0']) {
    expect((await of(`/revision/${revision}`)).json()).toMatchObject({ sha: tagged })
  }
  expect((await of('/revision/v0.9')).status).toBe(404)
})

test("C3, C4: llama.cpp's requests, one after the other", async () => {
  const gguf = modelGguf(15, seededBytes('for llama.cpp', 2 * MiB))
  await gateway.seed('org/gguf', { 'model-Q4_K_M.gguf': gguf, 'README.md': 'a model' })
  const ask = (path: string, headers: Record<string, string> = {}, method = 'GET') =>
    gateway.ask(path, { method, headers: { 'user-agent': 'llama-cpp/b9000', ...headers } })
  const refs = (await ask('/api/models/org/gguf/refs')).json() as {
    branches: { name: string; targetCommit: string }[]
  }
  const main = refs.branches.find(({ name }) => name === 'main')?.targetCommit ?? ''
  expect(main).toMatch(/^[0-9a-f]{40}$/)
  // The first page is all that it reads.
  const tree = await ask(`/api/models/org/gguf/tree/${main}?recursive=true`)
  expect(tree.headers.link).toBeUndefined()
  const file = (tree.json() as Entry[]).find(({ path }) => path.endsWith('.gguf'))
  expect(file?.lfs?.oid).toBe(sha256(gguf))
  const url = `/org/gguf/resolve/${main}/${file?.path ?? ''}`
  const head = await ask(url, {}, 'HEAD')
  expect([head.status, head.headers['content-length']]).toEqual([200, String(gguf.length)])
  expect(head.headers['accept-ranges']).toBe('bytes')
  // 206 without a range is an error to it, and so is 200 with one.
  const whole = await ask(url)
  expect([whole.status, sha256(whole.body)]).toEqual([200, sha256(gguf)])
  const rest = await ask(url, { range: `bytes=${MiB}-` })
  expect([rest.status, sha256(rest.body)]).toEqual([206, sha256(gguf.subarray(MiB))])
})

interface Reconstruction {
  readonly offset_into_first_range: number
  readonly terms: readonly { hash: string; unpacked_length: number }[]
  readonly xorbs: Readonly<
    Record<string, [{ url: string; ranges: [{ bytes: { start: number; end: number } }] }]>
  >
}

describe('C14: a file that is taken for too large', () => {
  const large = seededBytes('too large for plain HTTP', 3 * MiB + 77)
  const path = '/org/large/resolve/main/model.bin'
  const agent = { 'user-agent': 'unknown/None; hf_hub/1.33.0; python/3.11' }
  let hub: HubGateway
  beforeAll(async () => {
    hub = await openHubGateway({ plainBytesMax: MiB })
    await hub.seed('org/large', { 'model.bin': large })
  })
  afterAll(() => hub[Symbol.asyncDispose]())

  async function casOf(): Promise<{ cas: string; hash: string }> {
    const { headers } = await hub.ask(path, { method: 'HEAD', headers: agent })
    const auth = /^<([^>]+)>; rel="xet-auth"/u.exec(String(headers.link))?.[1] ?? ''
    const answer = await hub.ask(auth.replace(hub.url, ''), { headers: agent })
    expect(answer.headers).toMatchObject({
      'x-xet-cas-url': expect.stringMatching(/^http:/),
      'x-xet-access-token': expect.stringMatching(/./),
      'x-xet-token-expiration': expect.stringMatching(/^\d+$/),
    })
    const { accessToken, casUrl, exp } = answer.json() as Record<string, unknown>
    expect(answer.headers['x-xet-cas-url']).toBe(casUrl)
    expect(answer.headers['x-xet-access-token']).toBe(accessToken)
    expect(Number(exp)).toBeGreaterThan(Date.now() / second + 60)
    return { cas: String(casUrl).replace(hub.url, ''), hash: String(headers['x-xet-hash']) }
  }

  test('other clients are told nothing of Xet', async () => {
    const { headers } = await hub.ask(path, { method: 'HEAD' })
    expect(headers).not.toHaveProperty('x-xet-hash')
    const tree = (await hub.ask('/api/models/org/large/tree/main', { headers: agent })).json()
    expect(JSON.stringify(tree)).not.toContain('xetHash')
  })

  test('a range behind the end is 416: clients find the end by it', async () => {
    const { cas, hash } = await casOf()
    const range = `bytes=${large.length}-${large.length + 10 * MiB}`
    const answer = await hub.ask(`${cas}/v2/reconstructions/${hash}`, { headers: { range } })
    expect(answer.status).toBe(416)
  })

  test.for([
    [0, large.length],
    [0, 1],
    [200_000, 300_001],
    [large.length - 5, large.length],
  ] as const)('its bytes from %i to %i, put together from xorbs', async ([start, end]) => {
    const { cas, hash } = await casOf()
    const range = `bytes=${start}-${end - 1}`
    const answer = await hub.ask(`${cas}/v2/reconstructions/${hash}`, { headers: { range } })
    const { offset_into_first_range: offset, terms, xorbs } = answer.json() as Reconstruction
    const parts: Buffer[] = []
    for (const term of terms) {
      const [{ ranges, url }] = xorbs[term.hash] ?? [{ url: '', ranges: [{ bytes: undefined }] }]
      const { bytes } = ranges[0]
      const headers = { range: `bytes=${bytes?.start}-${bytes?.end}` }
      const xorb = await hub.ask(url.replace(hub.url, ''), { headers })
      expect(xorb.status).toBe(206)
      const unpacked = unpack(xorb.body)
      expect(unpacked).toHaveLength(term.unpacked_length)
      parts.push(unpacked)
    }
    const whole = Buffer.concat(parts).subarray(offset, offset + end - start)
    expect(whole.equals(large.subarray(start, end))).toBe(true)
  })
})

/** Chunks of a xorb that are not compressed: version, length, scheme, length, bytes. */
function unpack(xorb: Buffer): Buffer {
  const chunks: Buffer[] = []
  for (let at = 0; at < xorb.length;) {
    const length = xorb.readUIntLE(at + 1, 3)
    expect([xorb[at], xorb[at + 4], xorb.readUIntLE(at + 5, 3)]).toEqual([0, 0, length])
    chunks.push(xorb.subarray(at + 8, at + 8 + length))
    at += 8 + length
  }
  return Buffer.concat(chunks)
}

test('C16: while its holder is slow a body is never silent, and never ends early', async () => {
  // 16 KiB a second, and a chunk of 200: the second one takes longer than any client is patient.
  const slow = tensorFile({
    first: seededBytes('first tensor', 1000),
    second: seededBytes('second tensor', 200 * KiB),
    third: seededBytes('third tensor', 1000),
  })
  await using far = await openHubGateway({ bandwidth: { maxUp: 16 * KiB, limitLan: true } })
  await far.seed('org/slow', { 'model.safetensors': slow })
  await using near = await openHubGateway()
  near.node.name('org/slow', far.node.link('org/slow').link)
  const response = await fetch(`${near.url}/org/slow/resolve/main/model.safetensors`)
  expect(response.status).toBe(200)
  const digest = createHash('sha256')
  let silence = 0
  let lastMs = performance.now()
  const startMs = lastMs
  for await (const bytes of response.body ?? []) {
    digest.update(bytes as Uint8Array)
    silence = Math.max(silence, performance.now() - lastMs)
    lastMs = performance.now()
  }
  expect(digest.digest('hex')).toBe(sha256(slow))
  // It was slow, or nothing was shown.
  expect(performance.now() - startMs).toBeGreaterThan(10 * second)
  expect(silence).toBeLessThan(8 * second)
})
