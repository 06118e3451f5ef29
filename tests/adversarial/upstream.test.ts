/** A gateway that passes a hub through: what is read is fetched once, checked, kept; what is wrong never ends. */

import { afterEach, beforeEach, expect, test } from 'vitest'
import { KiB, MiB } from '../../src/core/units.ts'
import { type HubGateway, openHubGateway } from '../support/hub-gateway.ts'
import { type MockHub, openMockHub } from '../support/mock-hub.ts'
import { seededBytes } from '../support/model-files.ts'

const weights = seededBytes('upstream', 20 * MiB + 7)
const files = {
  'README.md': Buffer.from('# Model'),
  'config.json': Buffer.from('{}'),
  'other.bin': seededBytes('other', 300 * KiB),
  'sub/model.bin': weights,
}

let hub: MockHub
let gateway: HubGateway
let commit: string

beforeEach(async () => {
  hub = await openMockHub()
  commit = hub.commit('org/Model', files)
  gateway = await openHubGateway({ upstream: hub.url })
})

afterEach(async () => {
  await gateway[Symbol.asyncDispose]()
  await hub[Symbol.asyncDispose]()
})

async function models(): Promise<{ name: string | null; files: number; state: string }[]> {
  return gateway.node.models(new AbortController().signal)
}

test('what is read of an unknown name comes from the hub, is kept, and is the commit in the end', async () => {
  const info = (await gateway.ask('/api/models/org/model/revision/main')).json()
  expect(info).toMatchObject({ id: 'org/Model', sha: commit })
  const tree = (await gateway.ask(`/api/models/org/Model/tree/${commit}?recursive=true`)).json()
  expect(tree).toMatchObject([
    { path: 'README.md' },
    { path: 'config.json' },
    { path: 'other.bin' },
    { path: 'sub' },
    { path: 'sub/model.bin', lfs: { size: weights.length } },
  ])
  expect(hub.bytesSent).toEqual({ hub: 0, cdn: 0 })
  const read = await gateway.ask('/org/Model/resolve/main/sub/model.bin')
  expect(read.headers['x-repo-commit']).toBe(commit)
  expect(read.body.equals(weights)).toBe(true)
  // Small files come along; a part of a commit has no name: the name lists all files.
  await expect.poll(models).toMatchObject([{ name: null, files: 3 }])
  const other = await gateway.ask(`/org/Model/resolve/${commit}/other.bin`)
  expect(other.body.equals(files['other.bin'])).toBe(true)
  await expect.poll(models).toMatchObject([{ name: 'org/Model', files: 4, state: 'complete' }])
  const { source } = await gateway.node.show('org/Model', new AbortController().signal)
  expect(source).toMatchObject({ commit, whole: true, upstream: hub.url })
  // From now on the hub is not needed.
  await hub[Symbol.asyncDispose]()
  const again = await gateway.ask('/org/Model/resolve/main/sub/model.bin')
  expect(again.body.equals(weights)).toBe(true)
  expect((await gateway.ask('/api/models/org/Model')).json()).toMatchObject({ sha: commit })
})

test('a page that hides behind a browser makes the hub be asked nothing', async () => {
  const headers = { 'user-agent': 'Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0' }
  for (const path of ['/api/models/org/Model', '/org/Model/resolve/main/sub/model.bin'])
    expect((await gateway.ask(path, { headers })).status).toBe(404)
  expect(hub.requests).toEqual([])
})

test('a range in the middle does not wait for what lies before it', async () => {
  const start = 15 * MiB
  const held: (() => void)[] = []
  hub.behave = ({ server, request, serve }) => {
    const first = Number(/^bytes=(\d+)-/u.exec(request.headers.range ?? '')?.[1] ?? 0)
    if (server === 'cdn' && first < start) {
      held.push(serve)
    } else {
      serve()
    }
  }
  const headers = { range: `bytes=${start}-${start + 99}` }
  const { status, body } = await gateway.ask('/org/Model/resolve/main/sub/model.bin', { headers })
  expect(status).toBe(206)
  expect(body.equals(weights.subarray(start, start + 100))).toBe(true)
  hub.behave = undefined
  held.forEach(serve => serve())
})

test('many readers of one file are one download', async () => {
  const reads = await Promise.all(
    Array.from({ length: 8 }, () => gateway.ask('/org/Model/resolve/main/sub/model.bin')),
  )
  expect(reads.every(({ body }) => body.equals(weights))).toBe(true)
  expect(hub.bytesSent.cdn).toBe(weights.length)
})

test('wrong bytes never become a file: the answer ends before its end', async () => {
  hub.behave = ({ server, request, response, serve }) => {
    if (server === 'hub') {
      serve()
      return
    }
    const [, start = '0', end = '0'] =
      /^bytes=(\d+)-(\d+)$/u.exec(request.headers.range ?? '') ?? []
    const part = Buffer.alloc(Number(end) + 1 - Number(start), 1)
    const range = `bytes ${start}-${end}/${weights.length}`
    response.writeHead(206, { 'content-range': range, 'content-length': part.length }).end(part)
  }
  const read = gateway.ask('/org/Model/resolve/main/sub/model.bin')
  await expect(read).rejects.toThrow(/aborted|reset|hang up/u)
  expect(await models()).toEqual([])
  hub.behave = undefined
  const good = await gateway.ask('/org/Model/resolve/main/sub/model.bin')
  expect(good.body.equals(weights)).toBe(true)
})

test('what the hub does not have, or not for everybody, is unknown, and it is not asked again at once', async () => {
  hub.repo('org/private', { private: true })
  hub.commit('org/private', files)
  hub.repo('org/gated', { gated: 'auto' })
  hub.commit('org/gated', files)
  for (const name of ['org/none', 'org/private', 'org/gated']) {
    const { status, headers } = await gateway.ask(`/api/models/${name}`)
    expect({ name, status, code: headers['x-error-code'] }).toEqual({
      name,
      status: 404,
      code: 'RepoNotFound',
    })
  }
  const asked = hub.requests.length
  await gateway.ask('/api/models/org/none')
  await gateway.ask('/org/None/resolve/main/config.json')
  expect(hub.requests.length).toBe(asked)
})

test('a gateway that asks for somebody else is not passed through', async () => {
  const headers = { 'x-commonweight': 'mirror' }
  expect((await gateway.ask('/api/models/org/Model', { headers })).status).toBe(404)
  expect(hub.requests).toEqual([])
})

test('a token of a reader does not reach the hub', async () => {
  const headers = { authorization: 'Bearer hf_secret' }
  await gateway.ask('/org/Model/resolve/main/config.json', { headers })
  expect(hub.requests.some(({ authorization }) => authorization !== undefined)).toBe(false)
})

test('when the last reader has left a download goes on for a while and is gone on with later', async () => {
  let asked = 0
  hub.behave = ({ server, serve }) => {
    asked += server === 'cdn' ? 1 : 0
    // Slow enough to be left.
    if (server === 'cdn') setTimeout(serve, 50)
    else serve()
  }
  const headers = { range: `bytes=0-${100 * KiB}` }
  await gateway.ask('/org/Model/resolve/main/sub/model.bin', { headers })
  await expect.poll(models).toHaveLength(1)
  expect(hub.bytesSent.cdn).toBe(weights.length)
  expect(asked).toBeGreaterThan(1)
})
