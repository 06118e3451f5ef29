/** Files that this node does not hold, read through the gateway while they come from another node. */

import { createHash } from 'node:crypto'
import { expect, test } from 'vitest'
import { MiB, second } from '../../src/core/units.ts'
import type { CacheOptions } from '../../src/node.ts'
import { type HubGateway, openHubGateway } from '../support/hub-gateway.ts'
import { seededBytes } from '../support/model-files.ts'
import { until } from '../support/poll.ts'
import { openWebServer } from '../support/web-server.ts'

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')
const weights = seededBytes('weights that are far away', 96 * MiB + 11)
const files = { 'config.json': '{"a":1}', 'empty.txt': '', 'model.safetensors': weights }

/** Two nodes; the second knows the model of the first by a name and a link, and holds nothing of it. */
async function openTwo(
  cache: Partial<CacheOptions> = {},
): Promise<{ far: HubGateway; near: HubGateway } & AsyncDisposable> {
  await using opening = new AsyncDisposableStack()
  const far = opening.use(await openHubGateway())
  const manifest = await far.seed('far/model', files)
  const near = opening.use(await openHubGateway({ cache }))
  expect(near.node.name('org/model', far.node.link(manifest).link).held).toBe(false)
  const parts = opening.move()
  return { far, near, [Symbol.asyncDispose]: () => parts.disposeAsync() }
}

test('a model known by a link is listed and read, and has the commit of its holder', async () => {
  await using two = await openTwo()
  const { far, near } = two
  const there = (await far.ask('/api/models/far/model')).json() as { sha: string }
  const here = (await near.ask('/api/models/org/model')).json() as { sha: string }
  expect(here.sha).toBe(there.sha)
  const head = await near.ask('/org/model/resolve/main/model.safetensors', { method: 'HEAD' })
  expect(head.headers['content-length']).toBe(String(weights.length))
  const { body, status } = await near.ask('/org/model/resolve/main/model.safetensors')
  expect([status, sha256(body)]).toEqual([200, sha256(weights)])
  expect((await near.ask('/org/model/resolve/main/config.json')).body.toString()).toBe('{"a":1}')
  // Readers met the moment at which the file was published, and took nothing for damaged.
  expect(near.logged.filter(line => line.includes('do not match'))).toEqual([])
  // What was read is kept, without a promise to keep it.
  const [model] = await near.node.models(new AbortController().signal)
  expect(model).toMatchObject({ name: 'org/model', pinned: false })
  expect(model?.bytesHeld).toBeGreaterThanOrEqual(weights.length)
})

test('a page that hides behind a browser starts no download, and a program does', async () => {
  await using two = await openTwo()
  const { far, near } = two
  const page = { 'user-agent': 'Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0', accept: 'image/*' }
  const path = '/org/model/resolve/main/model.safetensors'
  const ask = async (where: string): Promise<number> =>
    (await near.ask(where, { headers: page })).status
  // Not even the manifest is asked for.
  for (const where of [path, '/api/models/org/model', '/v2/org/model/manifests/latest'])
    expect([where, await ask(where)]).toEqual([where, 403])
  expect(await near.node.models(new AbortController().signal)).toEqual([])
  // Known, and held in part.
  expect((await near.ask('/org/model/resolve/main/config.json')).status).toBe(200)
  expect(await ask('/org/model/resolve/main/config.json')).toBe(200)
  expect(await ask('/api/models/org/model')).toBe(200)
  const { headers, status } = await near.ask(path, { headers: page })
  expect(status).toBe(403)
  expect(headers['x-error-message']).toMatch(/nothing is fetched for a browser/u)
  const { files: held } = await near.node.show('org/model', new AbortController().signal)
  expect(held.find(file => file.path === 'model.safetensors')?.chunksHeld).toBe(0)
  // What is here is read like everywhere else.
  const there = await far.ask(path.replace('org', 'far'), { headers: page })
  expect(there.status).toBe(200)
  expect((await near.ask(path)).status).toBe(200)
  expect(await ask(path)).toBe(200)
})

test('what is read here is not removed under its reader, who is what is said of it', async () => {
  await using two = await openTwo()
  const { near } = two
  await near.ask('/api/models/org/model')
  const range = 'bytes=0-99'
  await near.ask('/org/model/resolve/main/model.safetensors', { headers: { range } })
  const error = { code: 'CONFLICT', message: expect.stringContaining('for a program that reads') }
  await expect(near.node.remove('org/model', { files: true })).rejects.toMatchObject(error)
})

test('a range in the middle comes before what lies before it', async () => {
  await using two = await openTwo()
  const { near } = two
  await near.ask('/api/models/org/model')
  const start = 90 * MiB
  const range = `bytes=${start}-${start + 99}`
  const answer = await near.ask('/org/model/resolve/main/model.safetensors', { headers: { range } })
  expect(answer.status).toBe(206)
  expect(sha256(answer.body)).toBe(sha256(weights.subarray(start, start + 100)))
  const { files: held } = await near.node.show('org/model', new AbortController().signal)
  const file = held.find(({ path }) => path === 'model.safetensors')
  // It was asked for first: a part of the file is here, and the range is in it.
  expect(file?.chunksHeld).toBeLessThan(file?.chunks ?? 0)
})

test('web seeds of the link that a name is bound to are asked too', async () => {
  await using far = await openHubGateway()
  const manifest = await far.seed('far/model', files)
  await using web = await openWebServer({ 'model.safetensors': weights })
  await using near = await openHubGateway({ allowPrivate: true })
  const { link } = far.node.link(manifest)
  const name = near.node.name('org/model', `${link}&ws=${encodeURIComponent(web.url)}`)
  expect(name.held).toBe(false)
  const { body } = await near.ask('/org/model/resolve/main/model.safetensors')
  expect(sha256(body)).toBe(sha256(weights))
  expect(web.requests.map(({ path }) => path)).toContain('model.safetensors')
})

test('a web seed that may not be asked is left out, and the file comes from peers', async () => {
  await using far = await openHubGateway()
  const manifest = await far.seed('far/model', files)
  await using web = await openWebServer({ 'config.json': Buffer.from('{"a":1}') })
  await using near = await openHubGateway()
  const { link } = far.node.link(manifest)
  near.node.name('org/model', `${link}&ws=${encodeURIComponent(web.url)}`)
  expect((await near.ask('/org/model/resolve/main/config.json')).body.toString()).toBe('{"a":1}')
  expect(web.requests).toEqual([])
  expect(near.logged.filter(line => line.includes('left out'))).not.toEqual([])
})

test('a name whose manifest comes later is busy at first, and then there', async () => {
  await using late = await openHubGateway()
  const twin = await openHubGateway()
  const manifest = await twin.seed('far/model', files)
  const { link } = twin.node.link(manifest)
  await twin[Symbol.asyncDispose]()
  // Its only known holder is gone.
  await using near = await openHubGateway()
  near.node.name('org/model', link)
  const agent = { 'user-agent': 'unknown/None; hf_hub/0.36.2' }
  const asked = near.ask('/api/models/org/model', { headers: agent })
  const missing = await near.ask('/api/models/org/other')
  expect(missing.headers['x-error-code']).toBe('RepoNotFound')
  expect((await asked).status).toBe(503)
  // Another holder comes, and tells us where it is.
  await late.seed('far/model', files)
  await near.node.connect(late.node.addresses()[0] ?? '', new AbortController().signal)
  await until('the model is known', async () => {
    const { status } = await near.ask('/api/models/org/model', { headers: agent })
    return status === 200 ? true : undefined
  })
  const { body } = await near.ask('/org/model/resolve/main/config.json')
  expect(body.toString()).toBe('{"a":1}')
})

test('many readers of one file share its download', async () => {
  await using two = await openTwo()
  const { far, near } = two
  const answers = await Promise.all(
    Array.from({ length: 8 }, () => near.ask('/org/model/resolve/main/model.safetensors')),
  )
  for (const { body } of answers) expect(sha256(body)).toBe(sha256(weights))
  const [peer] = far.node.peers()
  expect(peer?.bytesSent).toBeLessThan(weights.length * 1.2)
})

test('a known model that nobody serves is busy, soon', async () => {
  await using two = await openTwo()
  const { far, near } = two
  await far[Symbol.asyncDispose]()
  const startedMs = performance.now()
  const headers = { 'user-agent': 'unknown/None; hf_hub/1.33.0' }
  const { headers: given, status } = await near.ask('/api/models/org/model', { headers })
  expect([status, given['retry-after']]).toEqual([429, '10'])
  expect(performance.now() - startedMs).toBeLessThan(9.5 * second)
})

const forever = new AbortController().signal

/** Reads all of it; how much of the model is here right after, and whether it is pinned. */
async function readAll({ near }: { near: HubGateway }): Promise<string> {
  const { body } = await near.ask('/org/model/resolve/main/model.safetensors')
  expect(sha256(body)).toBe(sha256(weights))
  const [model] = await near.node.models(forever)
  expect(model?.bytesHeld).toBe(weights.length)
  return model?.pinned === true ? 'pinned' : 'not pinned'
}

async function untilEvicted({ near }: { near: HubGateway }): Promise<void> {
  // Readers linger for half a minute.
  await until(
    'it is evicted',
    async () => (near.logged.some(line => line.startsWith('info: evicted')) ? true : undefined),
    100 * second,
  )
  const [model] = await near.node.models(forever)
  expect(model?.bytesHeld).toBe(0)
  // What it is called and what is in it is still known, and it can be read again.
  const head = await near.ask('/org/model/resolve/main/model.safetensors', { method: 'HEAD' })
  expect(head.headers['content-length']).toBe(String(weights.length))
  await readAll({ near })
}

test(
  'what was read is kept, pinned or dropped after its readers, as configured',
  { timeout: 180_000 },
  async () => {
    await using none = await openTwo({ keep: 'none' })
    await using small = await openTwo({ cacheBytes: 10 * MiB })
    await using pin = await openTwo({ keep: 'pin', cacheBytes: 10 * MiB })
    expect(await Promise.all([none, small, pin].map(readAll))).toEqual([
      'not pinned',
      'not pinned',
      'pinned',
    ])
    await Promise.all([none, small].map(untilEvicted))
    const [pinned] = await pin.near.node.models(forever)
    expect(pinned).toMatchObject({ pinned: true, bytesHeld: weights.length })
  },
)
