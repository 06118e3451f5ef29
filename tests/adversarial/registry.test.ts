/**
 * The registry face over real HTTP and real nodes: the rules of docs/spec/oci.md, bytes that only
 * another node holds, and what hostile names, files and clients do to it.
 */

import { createHash } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { KiB, MiB, second } from '../../src/core/units.ts'
import {
  type HubAnswer,
  type HubCall,
  type HubGateway,
  openHubGateway,
} from '../support/hub-gateway.ts'
import { seededBytes } from '../support/model-files.ts'
import { modelGguf } from '../support/weight-files.ts'

const oci = 'application/vnd.oci.image.manifest.v1+json'
const docker = 'application/vnd.docker.distribution.manifest.v2+json'
const ollama = { accept: docker, 'user-agent': 'ollama/0.33.0 (amd64 linux) Go/go1.26.8' }
const skopeo = { accept: `${oci}, ${docker}, application/vnd.oci.image.index.v1+json` }
const llama = { accept: 'application/json', 'user-agent': 'llama-cpp' }

const gguf = (fileType: number, bytes: number): Buffer =>
  modelGguf(fileType, seededBytes(`tensors of ${fileType}`, bytes))

const files = {
  'model-Q4_K_M.gguf': gguf(15, 3 * MiB + 17),
  'model-Q8_0.gguf': gguf(7, 2 * MiB),
  'mmproj-model-f16.gguf': gguf(1, 1000),
  'shards/model-F16-00001-of-00002.gguf': gguf(1, 5000),
  'shards/model-F16-00002-of-00002.gguf': seededBytes('second shard', 5000),
  template: '{{ .Prompt }}',
  params: '{"stop":["</s>"]}',
  LICENSE: 'do what you like',
  'README.md': 'a model',
  'empty.txt': '',
}
const sha256 = (bytes: Uint8Array | string): string =>
  createHash('sha256').update(bytes).digest('hex')

interface Descriptor {
  readonly mediaType: string
  readonly digest: string
  readonly size: number
  readonly annotations?: Readonly<Record<string, string>>
}
interface Manifest {
  readonly mediaType: string
  readonly config: Descriptor
  readonly layers: readonly Descriptor[]
}

let hub: HubGateway
beforeAll(async () => {
  hub = await openHubGateway()
  await hub.seed('Org/Model', files)
  await hub.seed('solo', { 'config.json': '{}' })
  await hub.seed('org/broken', { 'broken.gguf': 'GGUF, but no more' })
})
afterAll(() => hub[Symbol.asyncDispose]())

const ask = (path: string, headers: HubCall['headers'] = {}, method = 'GET'): Promise<HubAnswer> =>
  hub.ask(`/v2/${path}`, { headers, method })

async function manifest(
  path: string,
  headers: HubCall['headers'],
): Promise<Manifest & { answer: HubAnswer }> {
  const answer = await ask(path, headers)
  expect(answer.status).toBe(200)
  return { ...(answer.json() as Manifest), answer }
}

const codeOf = (answer: HubAnswer): unknown =>
  (answer.json() as { errors: { code: string }[] }).errors.map(({ code }) => code)

describe('C15: conformance', () => {
  test('says that it is a registry', async () => {
    for (const path of ['', '?x=1']) {
      const answer = await ask(path)
      expect([answer.status, answer.json()]).toEqual([200, {}])
      expect(answer.headers['docker-distribution-api-version']).toBe('registry/2.0')
    }
    expect((await hub.ask('/v2')).status).toBe(200)
  })

  test.for([
    ['org/model/manifests/q4_k_m', ollama, docker],
    ['org/model/manifests/latest', skopeo, oci],
    ['org/model/manifests/Q8_0', llama, 'application/json'],
    ['org/model/manifests/latest', {}, oci],
  ] as const)('%s for %o is %s, named by its digest', async ([path, headers, type]) => {
    const answer = await ask(path, headers)
    const digest = `sha256:${sha256(answer.body)}`
    expect(answer.status).toBe(200)
    expect(answer.headers).toMatchObject({
      'content-type': type,
      'docker-content-digest': digest,
      'content-length': String(answer.body.length),
    })
    const head = await ask(path, headers, 'HEAD')
    expect([head.status, head.body.length]).toEqual([200, 0])
    expect(head.headers['docker-content-digest']).toBe(digest)
    expect(head.headers['content-length']).toBe(String(answer.body.length))
    if (type === 'application/json') return
    const same = await ask(`org/model/manifests/${digest}`, headers)
    expect(same.headers['content-type']).toBe(type)
    expect(same.body.equals(answer.body)).toBe(true)
  })

  test('Ollama finds the weights, what goes with them, and what they are', async () => {
    const { config, layers } = await manifest('Org/Model/manifests/latest', ollama)
    const layer = (kind: string, path: keyof typeof files): Descriptor => ({
      mediaType: `application/vnd.ollama.image.${kind}`,
      digest: `sha256:${sha256(files[path])}`,
      size: Buffer.byteLength(files[path]),
    })
    expect(layers).toEqual([
      layer('model', 'model-Q4_K_M.gguf'),
      layer('projector', 'mmproj-model-f16.gguf'),
      layer('license', 'LICENSE'),
      layer('template', 'template'),
      layer('params', 'params'),
    ])
    const blob = await ask(`org/model/blobs/${config.digest}`)
    expect([`sha256:${sha256(blob.body)}`, blob.body.length]).toEqual([config.digest, config.size])
    expect(blob.json()).toEqual({
      model_format: 'gguf',
      model_family: 'llama',
      model_families: ['llama'],
      model_type: '1B',
      file_type: 'Q4_K_M',
      os: 'linux',
      architecture: 'amd64',
      rootfs: { type: 'layers', diff_ids: [] },
    })
  })

  test('every other client finds all files, by their paths', async () => {
    const { config, layers } = await manifest('org/model/manifests/main', skopeo)
    const found = layers.map(({ annotations, digest, size }) => [
      annotations?.['org.opencontainers.image.title'],
      digest,
      size,
    ])
    const expected = Object.entries(files).map(([path, bytes]) => [
      path,
      `sha256:${sha256(bytes)}`,
      Buffer.byteLength(bytes),
    ])
    expect(found).toHaveLength(expected.length)
    expect(found).toEqual(expect.arrayContaining(expected))
    expect((await ask(`org/model/blobs/${config.digest}`)).body.toString()).toBe('{}')
  })

  test('a tag is a quant, in any case, or a file', async () => {
    const titles = async (tag: string): Promise<unknown[]> =>
      (await manifest(`org/model/manifests/${tag}`, skopeo)).layers.map(
        ({ annotations }) => annotations?.['org.opencontainers.image.title'],
      )
    const others = ['mmproj-model-f16.gguf', 'LICENSE', 'template', 'params']
    expect(await titles('q8_0')).toEqual(['model-Q8_0.gguf', ...others])
    expect(await titles('model-q8_0.gguf')).toEqual(['model-Q8_0.gguf', ...others])
    expect(await titles('F16')).toEqual([
      'shards/model-F16-00001-of-00002.gguf',
      'shards/model-F16-00002-of-00002.gguf',
      ...others,
    ])
  })

  test('tags are listed in order, and by pages', async () => {
    const tags = ['F16', 'Q4_K_M', 'Q8_0', 'latest']
    expect((await ask('org/model/tags/list')).json()).toEqual({ name: 'Org/Model', tags })
    const seen: string[] = []
    let path = 'org/model/tags/list?n=3'
    for (;;) {
      const answer = await ask(path)
      seen.push(...(answer.json() as { tags: string[] }).tags)
      const next = /^<\/v2\/([^>]+)>; rel="next"$/.exec(String(answer.headers.link))?.[1]
      if (next === undefined) break
      path = next
    }
    expect(seen).toEqual(tags)
  })

  test('llama.cpp is told the name of the file', async () => {
    const { ggufFile: found, mmprojFile } = (
      await ask('org/model/manifests/latest', llama)
    ).json() as {
      ggufFile: { rfilename: string; size: number; blobId: string; lfs: { sha256: string } }
      mmprojFile: { rfilename: string }
    }
    expect(found).toMatchObject({
      rfilename: 'model-Q4_K_M.gguf',
      size: files['model-Q4_K_M.gguf'].length,
      blobId: expect.stringMatching(/^[0-9a-f]{40}$/),
      lfs: { sha256: sha256(files['model-Q4_K_M.gguf']) },
    })
    expect(mmprojFile.rfilename).toBe('mmproj-model-f16.gguf')
    const { body } = await hub.ask(`/org/model/resolve/main/${found.rfilename}`)
    expect(sha256(body)).toBe(found.lfs.sha256)
  })

  const weights = files['model-Q4_K_M.gguf']
  const blob = `org/model/blobs/sha256:${sha256(weights)}`

  test('a blob has its size before it is read, and its place', async () => {
    const head = await ask(blob, ollama, 'HEAD')
    expect([head.status, head.body.length]).toEqual([200, 0])
    expect(head.headers).toMatchObject({
      'content-length': String(weights.length),
      'docker-content-digest': `sha256:${sha256(weights)}`,
      'accept-ranges': 'bytes',
      location: `/v2/${blob}`,
    })
    for (const headers of [ollama, skopeo]) {
      const whole = await ask(blob, headers)
      expect([whole.status, whole.headers.location]).toEqual([200, `/v2/${blob}`])
      expect(sha256(whole.body)).toBe(sha256(weights))
    }
    const dashed = await ask(blob.replace('sha256:', 'sha256-'))
    expect(sha256(dashed.body)).toBe(sha256(weights))
  })

  test.for<[string, number, number]>([
    ['bytes=0-0', 0, 1],
    [`bytes=${MiB}-${2 * MiB}`, MiB, 2 * MiB + 1],
    [`bytes=${weights.length - 5}-`, weights.length - 5, weights.length],
    ['bytes=100-99999999999', 100, weights.length],
  ])('a part of a blob: %s', async ([range, start, end]) => {
    const answer = await ask(blob, { ...ollama, range })
    expect(answer.status).toBe(206)
    expect(answer.headers['content-range']).toBe(`bytes ${start}-${end - 1}/${weights.length}`)
    expect(answer.headers).not.toHaveProperty('location')
    expect(sha256(answer.body)).toBe(sha256(weights.subarray(start, end)))
  })

  test('a part behind the end is none, and who has the blob is told so', async () => {
    expect((await ask(blob, { range: `bytes=${weights.length}-` })).status).toBe(416)
    const headers = { 'if-none-match': `"sha256:${sha256(weights)}"` }
    expect((await ask(blob, headers)).status).toBe(304)
    const empty = await ask(`org/model/blobs/sha256:${sha256('')}`)
    expect([empty.status, empty.body.length]).toEqual([200, 0])
  })

  test.for([
    ['org/none/manifests/latest', 404, 'NAME_UNKNOWN'],
    ['org/none/tags/list', 404, 'NAME_UNKNOWN'],
    ['org/model/manifests/q2_k', 404, 'MANIFEST_UNKNOWN'],
    [`org/model/manifests/sha256:${'0'.repeat(64)}`, 404, 'MANIFEST_UNKNOWN'],
    [`org/model/blobs/sha256:${'0'.repeat(64)}`, 404, 'BLOB_UNKNOWN'],
    [`org/model/blobs/sha256:${sha256('{}')}0`, 400, 'DIGEST_INVALID'],
    ['org/model/blobs/md5:00', 400, 'DIGEST_INVALID'],
    ['_catalog', 404, 'UNSUPPORTED'],
    ['org/model/nothing', 404, 'UNSUPPORTED'],
    ['a/b/c/d/manifests/latest', 404, 'UNSUPPORTED'],
    ['org/%2e%2e/manifests/latest', 404, 'NAME_UNKNOWN'],
  ] as const)('%s is %i %s', async ([path, status, code]) => {
    const answer = await ask(path, skopeo)
    expect([answer.status, codeOf(answer)]).toEqual([status, [code]])
  })

  test.for([
    ['org/model/manifests/q2_k', 'Q4_K_M, Q8_0, F16'],
    ['org/model/manifests/f16', 'shards'],
    ['solo/manifests/latest', 'no GGUF file'],
    ['org/broken/manifests/latest', 'no GGUF'],
  ])('Ollama is told why there is no %s', async ([path = '', reason = '']) => {
    const answer = await ask(path, ollama)
    expect(answer.status).toBe(400)
    expect(answer.body.toString()).toContain(reason)
  })

  test('a name without a namespace, alone and in the library', async () => {
    for (const name of ['solo', 'library/SOLO']) {
      const { layers } = await manifest(`${name}/manifests/latest`, skopeo)
      expect(layers.map(({ digest }) => digest)).toEqual([`sha256:${sha256('{}')}`])
    }
  })

  test('another node that has the same files under another name has the same manifests', async () => {
    await using other = await openHubGateway()
    await other.seed('else/where', files)
    for (const headers of [ollama, skopeo]) {
      for (const tag of ['latest', 'q8_0']) {
        const here = await ask(`org/model/manifests/${tag}`, headers)
        const there = await other.ask(`/v2/else/where/manifests/${tag}`, { headers })
        expect(there.body.toString()).toBe(here.body.toString())
      }
    }
  })

  test('an organisation of the name v2 is still one of the hub', async () => {
    await hub.seed('v2/model', { 'config.json': '{"v":2}' })
    const { body } = await hub.ask('/v2/model/resolve/main/config.json')
    expect(body.toString()).toBe('{"v":2}')
    expect((await ask('v2/model/manifests/latest', skopeo)).status).toBe(200)
  })
})

test('what only another node holds is fetched while it is read', async () => {
  await using near = await openHubGateway()
  near.node.name('near/model', hub.node.link('Org/Model').link)
  const call = { headers: ollama }
  const answer = await near.ask('/v2/near/model/manifests/q8_0', call)
  const here = await ask('org/model/manifests/q8_0', ollama)
  expect(answer.body.toString()).toBe(here.body.toString())
  const { config, layers } = answer.json() as Manifest
  for (const { digest } of [config, ...layers]) {
    const { body } = await near.ask(`/v2/near/model/blobs/${digest}`, call)
    expect(`sha256:${sha256(body)}`).toBe(digest)
  }
})

test('a digest that nobody was given here has nothing fetched', async () => {
  const { answer, config } = await manifest('org/model/manifests/q8_0', ollama)
  const digest = String(answer.headers['docker-content-digest'])
  await using near = await openHubGateway()
  near.node.name('near/model', hub.node.link('Org/Model').link)
  const status = async (path: string): Promise<number> =>
    (await near.ask(`/v2/near/model/${path}`, { headers: ollama })).status
  expect(await status(`manifests/${digest}`)).toBe(404)
  expect(await status(`blobs/${config.digest}`)).toBe(404)
  const { files: before } = await near.node.show('near/model', new AbortController().signal)
  expect(before.map(({ chunksHeld }) => chunksHeld)).toEqual(Object.keys(files).map(() => 0))
  // The tag brings the header, and with it both.
  expect(await status('manifests/q8_0')).toBe(200)
  expect(await status(`manifests/${digest}`)).toBe(200)
  expect(await status(`blobs/${config.digest}`)).toBe(200)
})

test('Ollama is told at once where a blob is, and waits for its parts longer than a hub', async () => {
  await using far = await openHubGateway({ bandwidth: { maxUp: 16 * KiB, limitLan: true } })
  // One chunk, which takes ten seconds and more: a client of a hub would be told to come back.
  const slow = seededBytes('a slow projector', 170 * KiB)
  await far.seed('org/slow', { 'model.gguf': 'GGUF', 'mmproj.gguf': slow })
  await using near = await openHubGateway()
  near.node.name('org/slow', far.node.link('org/slow').link)
  const path = `/v2/org/slow/blobs/sha256:${sha256(slow)}`
  expect((await near.ask(path, { method: 'HEAD' })).status).toBe(200)
  const startMs = performance.now()
  const left = new AbortController()
  const whole = await fetch(near.url + path, {
    headers: { 'user-agent': ollama['user-agent'] },
    signal: left.signal,
  })
  expect([whole.status, whole.headers.get('location')]).toEqual([200, path])
  expect(performance.now() - startMs).toBeLessThan(4 * second)
  left.abort()
  const part = await near.ask(path, { headers: { ...ollama, range: `bytes=0-${slow.length - 1}` } })
  expect([part.status, sha256(part.body)]).toEqual([206, sha256(slow)])
  expect(performance.now() - startMs).toBeGreaterThan(8 * second)
})

describe('what is hostile', () => {
  test('strangers and web pages are refused, in the words of a registry', async () => {
    const strange = await ask('', { host: 'evil.test' })
    expect([strange.status, codeOf(strange)]).toEqual([421, ['DENIED']])
    const page = await ask('org/model/manifests/latest', { origin: 'https://evil.test' })
    expect([page.status, codeOf(page)]).toEqual([403, ['DENIED']])
    expect(page.headers).not.toHaveProperty('access-control-allow-origin')
  })

  test.for([
    ['POST', 'org/model/blobs/uploads/'],
    ['PUT', 'org/model/manifests/latest'],
    ['PATCH', 'org/model/blobs/uploads/1'],
    ['DELETE', 'org/model/manifests/latest'],
  ])('%s %s writes nothing', async ([method = '', path = '']) => {
    const answer = await ask(path, { 'content-length': '0' }, method)
    expect([answer.status, codeOf(answer)]).toEqual([403, ['DENIED']])
  })

  test('a blob is nothing that a browser runs', async () => {
    await hub.seed('org/page', { 'page.html': '<script>alert(1)</script>' })
    const answer = await ask(`org/page/blobs/sha256:${sha256('<script>alert(1)</script>')}`)
    expect(answer.headers).toMatchObject({
      'x-content-type-options': 'nosniff',
      'content-type': 'application/octet-stream',
      'content-disposition': 'attachment',
    })
  })

  test('a blob of another model is none of this one', async () => {
    const digest = `sha256:${sha256(files['README.md'])}`
    expect((await ask(`org/model/blobs/${digest}`)).status).toBe(200)
    expect((await ask(`solo/blobs/${digest}`)).status).toBe(404)
  })

  test('a token is in no log', async () => {
    const headers = { ...ollama, authorization: 'Bearer secret_of_a_registry' }
    await ask('org/model/manifests/latest', headers)
    await ask('org/none/manifests/latest?secret_of_a_registry', headers)
    expect(hub.logged.filter(line => line.includes('secret_of_a_registry'))).toEqual([])
  })
})
