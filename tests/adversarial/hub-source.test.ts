/** A model of a hub's commit is answered under the names that the hub gives it, by whoever holds it. */

import { expect, test } from 'vitest'
import { mirrorRequestSchema } from '../../src/api/contract.ts'
import { gitOid } from '../../src/core/git.ts'
import { type HubGateway, openHubGateway } from '../support/hub-gateway.ts'
import { type MockHub, openMockHub } from '../support/mock-hub.ts'
import { seededBytes } from '../support/model-files.ts'

const readme = '---\nlicense: mit\n---\n# model'
const files = {
  'README.md': Buffer.from(readme),
  'config.json': Buffer.from('{"model_type":"none"}'),
  'empty.txt': Buffer.from(''),
  'model.safetensors': seededBytes('source', 3_000_000),
  'sub/odd #1.json': Buffer.from('{}'),
}
const api = '/api/models/Org/Model'

async function mirrored(upstream: MockHub): Promise<HubGateway> {
  const near = await openHubGateway()
  const request = { kind: 'mirror', ref: 'hf:Org/Model', upstream: upstream.url }
  const signal = new AbortController().signal
  const options = { signal, onEvent: () => undefined }
  await near.node.mirror(mirrorRequestSchema.parse(request), options)
  return near
}

async function openBoth(): Promise<
  { hub: MockHub; near: HubGateway; commit: string } & AsyncDisposable
> {
  await using opening = new AsyncDisposableStack()
  const hub = opening.use(await openMockHub())
  const cardData = { license: 'mit', library_name: 'transformers', pipeline_tag: 'fill-mask' }
  hub.repo('Org/Model', { tags: ['license:mit'], cardData })
  const commit = hub.commit('Org/Model', files)
  const near = opening.use(await mirrored(hub))
  const parts = opening.move()
  return { hub, near, commit, [Symbol.asyncDispose]: () => parts.disposeAsync() }
}

async function json(url: string): Promise<unknown> {
  const answer = await fetch(url)
  expect([url, answer.status]).toEqual([url, 200])
  return answer.json()
}

interface Entry {
  readonly path: string
  readonly type: string
}

function byPath(entries: unknown): Entry[] {
  return (entries as Entry[]).toSorted((a, b) => (a.path < b.path ? -1 : 1))
}

test('its commit, its tree and every oid are those of the hub', async () => {
  await using both = await openBoth()
  const { hub, near, commit } = both
  for (const revision of ['main', commit]) {
    const tree = `${api}/tree/${revision}?recursive=true`
    const ours = byPath(await json(near.url + tree)).filter(({ type }) => type === 'file')
    const theirs = byPath(await json(hub.url + tree)).filter(({ type }) => type === 'file')
    expect(ours).toEqual(theirs)
  }
  const info = (await json(`${near.url}${api}?blobs=true`)) as Record<string, unknown>
  expect(info).toMatchObject({
    id: 'Org/Model',
    sha: commit,
    gated: false,
    tags: expect.arrayContaining(['license:mit']),
    cardData: { license: 'mit' },
    library_name: 'transformers',
    pipeline_tag: 'fill-mask',
  })
  const siblings = info['siblings'] as { rfilename: string }[]
  const config = siblings.find(({ rfilename }) => rfilename === 'config.json')
  expect(config).toEqual({
    rfilename: 'config.json',
    size: files['config.json'].length,
    blobId: gitOid('blob', files['config.json']),
  })
})

test('a file has the ETag that the hub gives it, and what is not in LFS says nothing of links', async () => {
  await using both = await openBoth()
  const { hub, near, commit } = both
  for (const path of Object.keys(files)) {
    const place = `/Org/Model/resolve/${commit}/${path.split('/').map(encodeURIComponent).join('/')}`
    const there = await fetch(hub.url + place, { method: 'HEAD', redirect: 'manual' })
    const here = await near.ask(place, { method: 'HEAD' })
    expect([path, here.status, here.headers['x-repo-commit']]).toEqual([path, 200, commit])
    const linked = there.headers.get('x-linked-etag')
    const isLfs = path === 'model.safetensors'
    const blob = `"${gitOid('blob', files[path as keyof typeof files])}"`
    expect(here.headers.etag).toBe(isLfs ? linked : blob)
    expect(here.headers['x-linked-etag']).toBe(isLfs ? linked : undefined)
    const { body } = await near.ask(place)
    expect(body.equals(files[path as keyof typeof files])).toBe(true)
  }
})

test('raw gives the bytes of a small file and the pointer of one in LFS, as git has them', async () => {
  await using both = await openBoth()
  const { near, commit } = both
  const small = await near.ask('/Org/Model/raw/main/README.md')
  expect(small.body.toString()).toBe(readme)
  expect(small.headers.etag).toBe(`"${gitOid('blob', files['README.md'])}"`)
  const pointer = await near.ask('/Org/Model/raw/main/model.safetensors')
  const tree = byPath((await near.ask(`${api}/tree/main`)).json()) as (Entry & { oid: string })[]
  const oid = tree.find(({ path }) => path === 'model.safetensors')?.oid
  expect(gitOid('blob', pointer.body)).toBe(oid)
  const range = { range: 'bytes=0-6' }
  expect((await near.ask('/Org/Model/raw/main/README.md', { headers: range })).status).toBe(206)
  const paths = { 'content-type': 'application/json' }
  const body = '{"paths":["config.json"]}'
  const infos = await near.ask(`${api}/paths-info/${commit}`, { headers: paths, body })
  expect(infos.json()).toEqual([
    {
      type: 'file',
      path: 'config.json',
      size: files['config.json'].length,
      oid: gitOid('blob', files['config.json']),
    },
  ])
})

test('who only knows the model by its link answers the same', async () => {
  await using both = await openBoth()
  await using far = await openHubGateway()
  far.node.name('Org/Model', both.near.node.link('Org/Model').link)
  const here = (await far.ask(`${api}/revision/${both.commit}`)).json() as Record<string, unknown>
  expect(here).toMatchObject({ sha: both.commit, id: 'Org/Model', gated: false })
  const tree = `${api}/tree/main?recursive=true`
  expect((await far.ask(tree)).json()).toEqual((await both.near.ask(tree)).json())
  const head = await far.ask('/Org/Model/resolve/main/config.json', { method: 'HEAD' })
  expect(head.headers.etag).toBe(`"${gitOid('blob', files['config.json'])}"`)
})

test('names of the hub for the same commit are revisions, and others are not', async () => {
  await using both = await openBoth()
  const { near, commit } = both
  expect((await near.ask(`${api}/refs`)).json()).toMatchObject({
    branches: [{ name: 'main', targetCommit: commit }],
    tags: [],
  })
  expect((await near.ask(`${api}/revision/v9`)).status).toBe(404)
})
