/** Hubs that break, lie, stall, ask for patience or list what must not be; and what that costs. */

import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { readFile, stat, symlink, writeFile, mkdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, expect, test } from 'vitest'
import {
  CommonweightError,
  ConflictError,
  IntegrityError,
  InvalidInputError,
  LimitError,
  ProtocolError,
  UnavailableError,
} from '../../src/core/errors.ts'
import { systemClock } from '../../src/core/clock.ts'
import { KiB, MiB, second } from '../../src/core/units.ts'
import type { MirroredEvent } from '../../src/api/contract.ts'
import { openHub } from '../../src/hub/hub.ts'
import { type MirrorFixture, openMirrorFixture } from '../support/mirror-fixture.ts'
import {
  type MockExchange,
  type MockHub,
  type MockRequest,
  openMockHub,
} from '../support/mock-hub.ts'
import { filesBelow, seededBytes, tensorFile } from '../support/model-files.ts'
import { ggufFile, ggufString, keyValue, tensorInfo } from '../support/weight-files.ts'
import { untilTime } from '../support/fuzz.ts'

const oid = fc.constantFrom('a'.repeat(40), 'b'.repeat(64), 'main', '', 'A'.repeat(40))
const number = fc.oneof(fc.integer(), fc.double(), fc.constant(2 ** 53))
const path = fc.constantFrom('config.json', '../x', '', 'a/b', 'CONFIG.JSON', 'con')
/** Nearly what a hub lists, and nearly what it says of a repository. */
const entryLike = fc.record(
  {
    type: fc.constantFrom('file', 'directory', 'commit', ''),
    path,
    oid,
    size: number,
    lfs: fc.option(fc.record({ oid, size: number }, { requiredKeys: [] })),
    xetHash: fc.option(oid),
  },
  { requiredKeys: [] },
)
const infoLike = fc.record(
  {
    id: fc.constantFrom('org/m', 'org/other', '..', 5, null),
    sha: oid,
    private: fc.oneof(fc.boolean(), fc.string()),
    gated: fc.oneof(fc.boolean(), fc.constantFrom('auto', 'manual', 'else', null)),
    tags: fc.oneof(fc.array(fc.string()), fc.jsonValue()),
    cardData: fc.jsonValue(),
  },
  { requiredKeys: [] },
)

let hub: MockHub
let here: MirrorFixture

beforeEach(async () => {
  hub = await openMockHub()
  here = await openMirrorFixture()
})

afterEach(async () => {
  await here[Symbol.asyncDispose]()
  await hub[Symbol.asyncDispose]()
})

const weights = seededBytes('adversarial', 5 * MiB + 123)
const files = { 'config.json': Buffer.from('{}'), 'model.bin': weights }

function mirror(ref = 'hf:org/m', more: object = {}): Promise<MirroredEvent> {
  return here.mirror({ ref, upstream: hub.url, ...more })
}

async function expectMirrored(
  wanted: Readonly<Record<string, Uint8Array>>,
  { path }: MirroredEvent,
): Promise<void> {
  expect(await filesBelow(path)).toEqual(Object.keys(wanted).toSorted())
  const different: string[] = []
  for (const [name, bytes] of Object.entries(wanted)) {
    if (!(await readFile(join(path, name))).equals(bytes)) different.push(name)
  }
  expect(different).toEqual([])
}

/** Behaves badly for the first `times` requests that fit. */
function misbehave(
  fits: (exchange: MockExchange) => boolean,
  times: number,
  how: (exchange: MockExchange) => void,
): void {
  let left = times
  hub.behave = exchange => {
    if (left === 0 || !fits(exchange)) {
      exchange.serve()
      return
    }
    left -= 1
    how(exchange)
  }
}

const isCdn = ({ server }: MockExchange): boolean => server === 'cdn'
const isTree = ({ url }: MockExchange): boolean => url.includes('/tree/')
const isTreeUrl = ({ url }: MockRequest): boolean => url.includes('/tree/')
const isResolve = ({ url }: MockExchange): boolean => url.includes('/resolve/')
const always = Infinity

/** Sends what a good CDN would, changed. */
function sendChanged(
  { request, response }: MockExchange,
  bytes: Uint8Array,
  headers: Record<string, string | number> = {},
): void {
  const [, start = '0', end = '0'] = /^bytes=(\d+)-(\d+)$/u.exec(request.headers.range ?? '') ?? []
  const part = bytes.subarray(Number(start), Number(end) + 1)
  response.writeHead(206, {
    'content-range': `bytes ${start}-${Number(start) + part.length - 1}/${bytes.length}`,
    'content-length': part.length,
    ...headers,
  })
  response.end(part)
}

test('transfers that break off go on from their last byte', async () => {
  hub.commit('org/m', files)
  misbehave(isCdn, 5, ({ request, response }) => {
    const [, start = '0', end = '0'] =
      /^bytes=(\d+)-(\d+)$/u.exec(request.headers.range ?? '') ?? []
    const length = Number(end) + 1 - Number(start)
    response.writeHead(206, {
      'content-range': `bytes ${start}-${end}/${weights.length}`,
      'content-length': length,
    })
    const part = weights.subarray(Number(start), Number(start) + 700 * KiB)
    response.write(part, () => response.destroy())
  })
  const mirrored = await mirror()
  await expectMirrored(files, mirrored)
  expect(mirrored.bytesFetched).toBe(mirrored.bytes)
})

test('a hub that falls silent in the middle is given up, and gone on with', async () => {
  const commit = hub.commit('org/m', files)
  misbehave(isCdn, 1, ({ response }) => {
    response.writeHead(206, {
      'content-range': `bytes 0-${weights.length - 1}/${weights.length}`,
      'content-length': weights.length,
    })
    response.write(weights.subarray(0, MiB))
  })
  const { clock, log } = here.deps
  using asked = openHub(
    { clock, log, onNotice: () => undefined },
    { upstream: hub.url, allowPrivate: false, agent: 'test', silenceMs: 300 },
  )
  const { signal } = new AbortController()
  const digest = createHash('sha256').update(weights).digest('hex')
  const file = { path: 'model.bin', size: weights.length, sha256: digest }
  const from = { type: 'model', repo: 'org/m', commit, file } as const
  const parts: Uint8Array[] = []
  const read = async (start: number): Promise<void> => {
    const range = { start, end: weights.length }
    for await (const part of asked.read(from, range, signal)) parts.push(Buffer.from(part))
  }
  await expect(read(0)).rejects.toThrow(UnavailableError)
  const got = Buffer.concat(parts).length
  expect(got).toBe(MiB)
  await read(got)
  expect(Buffer.concat(parts).equals(weights)).toBe(true)
})

test('signed URLs that ran out are asked for again', async () => {
  hub.commit('org/m', { 'model.bin': seededBytes('expiring', 40 * MiB) })
  let cdnRequests = 0
  hub.behave = exchange => {
    cdnRequests += exchange.server === 'cdn' ? 1 : 0
    if (cdnRequests === 2) hub.expireUrls()
    exchange.serve()
  }
  const mirrored = await mirror()
  expect(mirrored.bytesFetched).toBe(40 * MiB)
  expect(hub.requests.filter(({ url }) => url.includes('/resolve/')).length).toBeGreaterThan(1)
})

test('wrong bytes are fetched once more, and then refused without a file', async () => {
  hub.commit('org/m', files)
  const wrong = Buffer.from(weights)
  wrong[3 * MiB] = (wrong[3 * MiB] ?? 0) ^ 1
  misbehave(isCdn, 1, exchange => sendChanged(exchange, wrong))
  await expectMirrored(files, await mirror())
  hub.commit('org/m', { 'model.bin': seededBytes('other', 5 * MiB) })
  misbehave(isCdn, always, exchange => sendChanged(exchange, Buffer.alloc(5 * MiB)))
  await expect(mirror()).rejects.toThrow(IntegrityError)
  expect(here.store.models()).toHaveLength(1)
  const left = await filesBelow(join(here.deps.modelsFolder, 'org'))
  expect(left.filter(path => path.endsWith('model.bin'))).toHaveLength(1)
})

test('a small file that is not what git calls it is refused', async () => {
  hub.commit('org/m', files)
  misbehave(
    ({ url }) => url.includes('/resolve-cache/'),
    always,
    exchange => sendChanged(exchange, Buffer.from('[]')),
  )
  await expect(mirror()).rejects.toThrow(IntegrityError)
})

test.for([
  ['another size', { 'x-linked-size': '5' }],
  ['another hash', { 'x-linked-etag': `"${'0'.repeat(64)}"` }],
  ['another commit', { 'x-repo-commit': 'f'.repeat(40) }],
] as const)(
  'a hub that says on the way that the file has %s is not believed',
  async ([, headers]) => {
    hub.commit('org/m', files)
    misbehave(isResolve, always, ({ response, serve }) => {
      const set = response.setHeader.bind(response)
      for (const [name, value] of Object.entries(headers)) set(name, value)
      response.setHeader = (name, value) => (name in headers ? response : set(name, value))
      serve()
    })
    await expect(mirror()).rejects.toThrow('has another')
  },
)

test.for([
  ['another range', { 'content-range': `bytes 1-2/${weights.length}` }, ProtocolError],
  ['another size in the range', { 'content-range': `bytes 0-1/7` }, IntegrityError],
  ['packed bytes', { 'content-encoding': 'gzip' }, ProtocolError],
] as const)('%s from a CDN end the mirror', async ([, headers, kind]) => {
  hub.commit('org/m', files)
  misbehave(isCdn, always, exchange => sendChanged(exchange, weights, headers))
  await expect(mirror()).rejects.toThrow(kind)
})

test('a CDN that gives whole files only is of use for files of one request', async () => {
  hub.commit('org/m', files)
  misbehave(isCdn, always, ({ response }) => {
    response.writeHead(200, { 'content-length': weights.length }).end(weights)
  })
  const mirrored = await mirror()
  await expectMirrored(files, mirrored)
  expect(mirrored.bytesFetched).toBe(mirrored.bytes)
})

test('a hub that asks for patience is left alone for as long as it says', async () => {
  hub.commit('org/m', files)
  misbehave(isResolve, 2, ({ response }) => {
    const policy = '"fixed window";"resolvers";q=3000;w=300'
    response.writeHead(429, { ratelimit: '"resolvers";r=0;t=55', 'ratelimit-policy': policy }).end()
  })
  await expectMirrored(files, await mirror())
  expect(here.waitsMs.some(ms => ms > 55_000 && ms <= 56_000)).toBe(true)
  expect(here.notices.join()).toContain('answered 429: asked again in 56s')
})

test('a good answer that says that nothing is left is obeyed before the next request', async () => {
  hub.commit('org/m', files)
  misbehave(isTree, 1, ({ response, serve }) => {
    response.setHeader('ratelimit', '"api";r=0;t=30')
    serve()
  })
  await mirror()
  expect(here.waitsMs.some(ms => ms > 30_000 && ms <= 31_000)).toBe(true)
})

test('waits longer after each failure, and gives up in the end', async () => {
  hub.commit('org/m', files)
  misbehave(isTree, 3, ({ response }) => void response.writeHead(500).end('<html>'))
  await expectMirrored(files, await mirror())
  expect(here.waitsMs.slice(0, 3)).toEqual([1000, 2000, 4000])
  hub.commit('org/m', { a: Buffer.from('new') })
  misbehave(isTree, always, ({ response }) => response.destroy())
  await expect(mirror()).rejects.toThrow(UnavailableError)
})

test.for([
  ['a page for people', '<!doctype html><title>Hi</title>'],
  ['nothing', ''],
  ['JSON of another shape', '{"id":5}'],
  ['a commit that is none', '{"id":"org/m","sha":"main"}'],
  ['a name that climbs', `{"id":"../x","sha":"${'a'.repeat(40)}"}`],
] as const)('%s where a repository should be is no hub', async ([, body]) => {
  hub.behave = ({ response }) => void response.writeHead(200).end(body)
  await expect(mirror()).rejects.toThrow(ProtocolError)
})

test('whatever JSON a hub sends, it is refused in our words or taken', async () => {
  hub.commit('org/m', files)
  const bodies = fc.oneof(fc.jsonValue(), fc.array(entryLike, { maxLength: 5 }), infoLike)
  await fc.assert(
    fc.asyncProperty(
      bodies,
      fc.constantFrom('/revision/', '/tree/', '/refs'),
      async (body, part) => {
        hub.behave = ({ url, response, serve }) => {
          if (url.includes(part)) response.writeHead(200).end(JSON.stringify(body))
          else serve()
        }
        const ended = await mirror('hf:org/m', { include: ['config.json'] }).then(
          () => undefined,
          (error: unknown) => error,
        )
        expect(ended === undefined || ended instanceof CommonweightError).toBe(true)
      },
    ),
    { numRuns: 150, plugins: [untilTime(15 * second)] },
  )
})

test('an answer without end is cut off', async () => {
  hub.commit('org/m', files)
  misbehave(isTree, 1, ({ response }) => {
    response.writeHead(200)
    const more = (): void => {
      while (!response.destroyed && response.write(Buffer.alloc(MiB, 0x20)));
    }
    response.on('drain', more)
    more()
  })
  await expect(mirror()).rejects.toThrow(LimitError)
})

test('a list of long paths is refused at its first page', async () => {
  hub.commit('org/m', files)
  misbehave(isTree, always, ({ response, url }) => {
    response.setHeader('link', `<${hub.url}${url}>; rel="next"`)
    const entry = { type: 'file', path: 'a'.repeat(MiB), oid: 'a'.repeat(40), size: 1 }
    response.writeHead(200).end(JSON.stringify([entry]))
  })
  await expect(mirror()).rejects.toThrow(ProtocolError)
  expect(hub.requests.filter(isTreeUrl)).toHaveLength(1)
})

test('the pages of a list are bounded together', async () => {
  hub.commit('org/m', files)
  misbehave(isTree, always, ({ response, url }) => {
    response.setHeader('link', `<${hub.url}${url}>; rel="next"`)
    response.writeHead(200).end(Buffer.concat([Buffer.from('[]'), Buffer.alloc(31 * MiB, 0x20)]))
  })
  await expect(mirror()).rejects.toThrow('more than 160 MiB')
  expect(hub.requests.filter(isTreeUrl)).toHaveLength(6)
})

test('a page of very many entries is taken', async () => {
  hub.commit('org/m', files)
  const text = Array.from(
    { length: 190_000 },
    (_, at) => `{"type":"file","path":"${at}","oid":"${'a'.repeat(40)}","size":1}`,
  )
  misbehave(isTree, 1, ({ response }) => void response.writeHead(200).end(`[${text.join()}]`))
  await expect(mirror('hf:org/m', { include: ['nothing'] })).rejects.toThrow(CommonweightError)
})

test('a model card that nests without end is left out', async () => {
  const commit = hub.commit('org/m', files)
  const deep = `${'['.repeat(3_000_000)}${']'.repeat(3_000_000)}`
  misbehave(
    ({ url }) => url.includes('/revision/'),
    1,
    ({ response }) => {
      response.writeHead(200).end(`{"id":"org/m","sha":"${commit}","cardData":${deep}}`)
    },
  )
  expect(await mirror()).toMatchObject({ commit, whole: true })
})

test('an answer that drips is given up', async () => {
  hub.commit('org/m', files)
  misbehave(isTree, always, ({ response }) => {
    response.writeHead(200)
    const drip = setInterval(() => response.write(' '), 50)
    response.on('close', () => clearInterval(drip))
  })
  const { log } = here.deps
  using asked = openHub(
    { clock: systemClock, log, onNotice: () => undefined },
    { upstream: hub.url, allowPrivate: false, agent: 'test', silenceMs: 300 },
  )
  const listing = asked.files(
    { type: 'model', repo: 'org/m' },
    'a'.repeat(40),
    new AbortController().signal,
  )
  await expect(listing).rejects.toThrow('too slowly')
})

test('of the body of a redirect nothing is read that may be long', async () => {
  hub.commit('org/m', files)
  let sent = 0
  let hasClosed = false
  misbehave(isResolve, 1, ({ response, url }) => {
    response.writeHead(302, { location: `${hub.url}${url}` })
    const more = (): void => {
      for (; !response.destroyed && response.write(Buffer.alloc(MiB));) sent += 1
    }
    response.on('drain', more)
    response.on('close', () => (hasClosed = true))
    more()
  })
  await mirror()
  expect(hasClosed).toBe(true)
  expect(sent).toBeLessThan(16)
})

test('a list that leads back to itself ends', async () => {
  hub.commit('org/m', files)
  misbehave(isTree, always, ({ response, url }) => {
    response.setHeader('link', `<${hub.url}${url}>; rel="next"`)
    response.writeHead(200).end('[]')
  })
  await expect(mirror()).rejects.toThrow(LimitError)
})

test('a next page at another host is asked of the hub itself', async () => {
  hub.commit('org/m', files)
  misbehave(isTree, 1, ({ response, serve }) => {
    response.setHeader('link', `<http://192.0.2.1${'/api/models/org/m/tree/main'}>; rel="next"`)
    serve()
  })
  await expect(mirror()).rejects.toThrow('config.json and config.json are one file')
  expect(hub.requests.filter(({ url }) => url === '/api/models/org/m/tree/main')).toHaveLength(1)
})

test.for(['../evil', '/etc/passwd', 'a/../../b', 'con', 'a\\b', '.git/config', 'a\u202eb'])(
  'a path like %j is refused before anything is fetched',
  async path => {
    hub.commit('org/m', { ok: Buffer.from('ok'), [path]: Buffer.from('evil') })
    await expect(mirror()).rejects.toThrow(InvalidInputError)
    expect(hub.bytesSent).toEqual({ hub: 0, cdn: 0 })
  },
)

test.for([
  ['to itself', (url: string) => url],
  ['to no URL', () => 'http://'],
  ['to a file', () => 'file:///etc/passwd'],
  ['to what is link-local', () => 'http://169.254.169.254/latest'],
  ['with a password', () => 'http://user:pw@127.0.0.1/'],
] as const)('a redirect %s ends the mirror', async ([, locate]) => {
  hub.commit('org/m', files)
  misbehave(isResolve, always, ({ response, url }) => {
    response.writeHead(302, { location: locate(url) }).end()
  })
  await expect(mirror()).rejects.toThrow(ProtocolError)
})

test('a token goes to the hub and to nobody that it leads to', async () => {
  hub.repo('org/m', {})
  hub.commit('org/m', files)
  await mirror('hf:org/m', { token: 'hf_secret' })
  const withToken = hub.requests.filter(({ authorization }) => authorization !== undefined)
  expect(withToken.every(({ server }) => server === 'hub')).toBe(true)
  expect(withToken.length).toBe(hub.requests.filter(({ server }) => server === 'hub').length)
  expect(
    JSON.stringify(here.store.originsOf({ hub: 'huggingface.co', type: 'model', repo: 'org/m' })),
  ).not.toContain('hf_secret')
})

test('a repository of which the hub says next to nothing is mirrored', async () => {
  const commit = hub.commit('org/m', files)
  const url = (exchange: MockExchange): boolean => exchange.url.includes('/revision/')
  misbehave(url, 1, ({ response }) => {
    response.writeHead(200).end(JSON.stringify({ id: 'org/m', sha: commit }))
  })
  expect(await mirror()).toMatchObject({ licence: null, gated: null, commit })
})

test('a commit that is kept elsewhere stays there, and only its files come to another folder', async () => {
  hub.commit('org/m', files)
  const first = await mirror()
  const sent = hub.bytesSent.cdn
  const to = here.file('copy')
  const copy = await mirror('hf:org/m', { to })
  await expectMirrored(files, copy)
  expect(copy).toMatchObject({ path: to, manifest: first.manifest, bytesFetched: 0 })
  expect(hub.bytesSent.cdn).toBe(sent)
  expect(here.store.models()).toMatchObject([{ folder: first.path, state: 'complete' }])
})

test('a commit that its user shares from a folder is here already', async () => {
  hub.commit('org/m', files)
  const { path } = await mirror('hf:org/m', { to: here.file('mine') })
  const [model] = here.store.models()
  const block = model === undefined ? undefined : here.store.manifestBlock(model.manifest)
  if (model === undefined || block === undefined) throw new Error('no model')
  const placed = here.store.filesOf(model.manifest)
  here.store.addModel({ ...model, block, origin: 'seeded', files: placed })
  expect(await mirror()).toMatchObject({ path, bytesFetched: 0, changes: null })
  expect(here.store.models()).toMatchObject([{ folder: path, origin: 'seeded' }])
})

test('two mirrors into one folder do not write over each other', async () => {
  hub.commit('org/m', files)
  const started = Promise.withResolvers<void>()
  const held: (() => void)[] = []
  hub.behave = ({ server, serve }) => {
    if (server === 'hub') serve()
    else held.push(serve)
    if (server === 'cdn') started.resolve()
  }
  const first = mirror()
  await started.promise
  await expect(mirror('hf:org/m', { include: ['*.bin'] })).rejects.toThrow(ConflictError)
  hub.behave = undefined
  for (const serve of held) serve()
  await expectMirrored(files, await first)
  expect(await mirror('hf:org/m')).toMatchObject({ bytesFetched: 0 })
})

test('nor do two into one folder by two of its names', async () => {
  hub.commit('org/m', files)
  await mkdir(here.file('real'))
  await symlink(here.file('real'), here.file('link'))
  const started = Promise.withResolvers<void>()
  const held: (() => void)[] = []
  hub.behave = ({ server, serve }) => {
    if (server === 'hub') serve()
    else held.push(serve)
    if (server === 'cdn') started.resolve()
  }
  const first = mirror('hf:org/m', { to: here.file('real') })
  await started.promise
  await expect(mirror('hf:org/m', { to: here.file('link') })).rejects.toThrow(ConflictError)
  hub.behave = undefined
  for (const serve of held) serve()
  await expectMirrored(files, await first)
})

test('what a hub says of an error is one line', async () => {
  hub.commit('org/m', files)
  misbehave(isTree, always, ({ response }) => {
    response.writeHead(400).end(JSON.stringify({ error: 'no\nmirrored 3 files\u001b[2K' }))
  })
  await expect(mirror()).rejects.toThrow('no mirrored 3 files [2K')
})

test('a mirror with a limit keeps to it, over few connections', async () => {
  const slow = { 'model.bin': seededBytes('slow', MiB) }
  hub.commit('org/m', slow)
  let open = 0
  let peak = 0
  hub.behave = ({ server, response, serve }) => {
    if (server === 'cdn') {
      peak = Math.max(peak, (open += 1))
      response.on('close', () => (open -= 1))
    }
    serve()
  }
  const before = here.deps.clock.monotonic()
  await expectMirrored(slow, await mirror('hf:org/m', { maxDown: 256 * KiB }))
  expect(here.deps.clock.monotonic() - before).toBeGreaterThan(3000)
  const done = here.progress.map(({ bytesDone }) => bytesDone)
  expect(done).toEqual(done.toSorted((a, b) => a - b))
  expect(new Set(done).size).toBeGreaterThan(3)
  expect(here.progress.at(-1)).toMatchObject({ phase: 'fetching', bytesTotal: MiB, filesTotal: 1 })
  expect(peak).toBe(1)
})

test('a renamed repository has its new name', async () => {
  hub.commit('org/old', files)
  hub.rename('org/old', 'org/new')
  expect(await mirror('hf:org/old')).toMatchObject({ ref: 'hf:org/new', name: 'org/new' })
  expect(here.notices).toContain('the hub calls org/old org/new: that is the name from here on')
})

test('an answer that only calls itself by another name is refused', async () => {
  hub.commit('anything/else', files)
  misbehave(
    ({ url }) => url.includes('/revision/'),
    always,
    ({ response }) => {
      response.writeHead(200).end(JSON.stringify({ id: 'org/famous', sha: 'a'.repeat(40) }))
    },
  )
  await expect(mirror('hf:anything/else')).rejects.toThrow('answers with org/famous')
})

test('a name stays with the model of another source, and the user is told', async () => {
  hub.commit('org/m', files)
  const first = await mirror()
  await using other = await openMockHub()
  other.commit('org/m', { 'evil.txt': Buffer.from('evil') })
  expect(await mirror('hf:org/m', { upstream: other.url })).toMatchObject({ name: null })
  expect(here.store.findName('org/m')?.manifest.toString()).toBe(first.manifest)
  expect(here.notices.join('\n')).toContain('org/m is the name of another model here')
  hub.commit('org/m', { ...files, 'config.json': Buffer.from('{"new":1}') })
  const newer = await mirror()
  expect(newer.name).toBe('org/m')
  expect(here.store.findName('org/m')?.manifest.toString()).toBe(newer.manifest)
})

test('a file of somebody else at the place stays, and ends the mirror', async () => {
  hub.commit('org/m', files)
  const to = here.file('target')
  await mkdir(to)
  await writeFile(join(to, 'config.json'), 'mine')
  await expect(mirror('hf:org/m', { to })).rejects.toThrow(ConflictError)
  expect(await readFile(join(to, 'config.json'), 'utf8')).toBe('mine')
})

test('what lies at the place already, whole, is taken as it is', async () => {
  hub.commit('org/m', files)
  const to = here.file('target')
  for (const [name, bytes] of Object.entries(files)) {
    await mkdir(dirname(join(to, name)), { recursive: true })
    await writeFile(join(to, name), bytes)
  }
  expect(await mirror('hf:org/m', { to })).toMatchObject({ bytesFetched: 0, whole: true })
})

test('files with equal bytes come once each, and both are there', async () => {
  const twice = { 'a.bin': weights, 'b/c.bin': weights, x: Buffer.from('x'), y: Buffer.from('x') }
  hub.commit('org/m', twice)
  const mirrored = await mirror()
  await expectMirrored(twice, mirrored)
  expect(mirrored.files).toBe(4)
})

test('what another model here has is linked and not fetched', async () => {
  hub.commit('org/m', files)
  await mirror()
  hub.commit('org/fork', { ...files, 'README.md': Buffer.from('fork') })
  const fork = await mirror('hf:org/fork')
  expect(fork.bytesFetched).toBeLessThan(100)
  const [a, b] = await Promise.all(
    [fork.path, join(here.deps.modelsFolder, 'org')].map(path => filesBelow(path)),
  )
  expect(a).toContain('model.bin')
  expect(b?.length).toBeGreaterThan(2)
  expect((await stat(join(fork.path, 'model.bin'))).nlink).toBe(2)
})

test('an aborted mirror goes on where it was', async () => {
  const big = { 'model.bin': seededBytes('big', 48 * MiB) }
  hub.commit('org/m', big)
  const stop = new AbortController()
  const others: Promise<unknown>[] = []
  let asked = 0
  hub.behave = exchange => {
    asked += exchange.server === 'cdn' ? 1 : 0
    if (exchange.server === 'cdn' && asked === 3) {
      // The other two are there by then, but for what the sockets hold.
      void Promise.all(others).then(() => setTimeout(() => stop.abort(new Error('x')), 3000))
      return
    }
    if (exchange.server === 'cdn') others.push(once(exchange.response, 'finish'))
    exchange.serve()
  }
  const request = { ref: 'hf:org/m', upstream: hub.url }
  await expect(here.mirror(request, stop.signal)).rejects.toThrow('x')
  hub.behave = undefined
  const before = hub.bytesSent.cdn
  await expectMirrored(big, await here.mirror(request))
  expect(hub.bytesSent.cdn - before).toBeLessThan(20 * MiB)
})

/** Forty tensors of 256 KiB; those that are named have other bytes. */
function tensors(changed: readonly number[], metadata: string): Buffer {
  const made = Array.from({ length: 40 }, (_, index) => {
    const seed = changed.includes(index) ? `changed ${index}` : `tensor ${index}`
    return [`layers.${index}.weight`, seededBytes(seed, 256 * KiB + index * 8)] as const
  })
  return tensorFile(Object.fromEntries(made), { metadata })
}

async function mirrorTwice(
  before: Buffer,
  after: Buffer,
  name = 'model.safetensors',
): Promise<MirroredEvent> {
  hub.commit('org/m', { 'model.safetensors': before })
  await mirror()
  hub.commit('org/m', { [name]: after })
  const mirrored = await mirror()
  await expectMirrored({ [name]: after }, mirrored)
  return mirrored
}

test('of weights with other metadata the header is fetched', async () => {
  const { bytesFetched, bytesReused } = await mirrorTwice(
    tensors([], 'a'),
    tensors([], 'of another length, so that all tensors lie elsewhere'),
  )
  expect(bytesFetched).toBeLessThan(700 * KiB)
  expect(bytesReused).toBeGreaterThan(9 * MiB)
  expect(here.notices.join()).toContain('the commit before is kept, too')
})

test('of weights with some other tensors those are fetched, wherever the file is', async () => {
  const after = tensors([0, 7, 39], 'b')
  const { bytesFetched } = await mirrorTwice(
    tensors([], 'a'),
    after,
    'renamed-00001-of-00001.safetensors',
  )
  expect(bytesFetched).toBeLessThan(4 * MiB)
})

test('of a GGUF with another chat template the header is fetched', async () => {
  const template = (text: string): Buffer => {
    const count = 16
    const bytes = 512 * KiB
    const infos = Array.from({ length: count }, (_, at) => tensorInfo(`blk.${at}.w`, at * bytes))
    const value = keyValue('tokenizer.chat_template', 8, ggufString(text))
    const file = ggufFile({ keyValues: [value], tensors: infos, dataBytes: count * bytes })
    seededBytes('gguf', count * bytes).copy(file, file.length - count * bytes)
    return file
  }
  hub.commit('org/g', { 'model.gguf': template('a') })
  await mirror('hf:org/g')
  const after = template('another one, and longer than that of before')
  hub.commit('org/g', { 'model.gguf': after })
  const mirrored = await mirror('hf:org/g')
  await expectMirrored({ 'model.gguf': after }, mirrored)
  expect(mirrored.bytesFetched).toBeLessThan(600 * KiB)
})

test('of weights that were only cut into files anew the headers are fetched', async () => {
  const made = Array.from({ length: 40 }, (_, index) => {
    return [`layers.${index}.weight`, seededBytes(`tensor ${index}`, 512 * KiB)] as const
  })
  const shard = (start: number, end: number): Buffer =>
    tensorFile(Object.fromEntries(made.slice(start, end)))
  hub.commit('org/m', { 'model.safetensors': shard(0, 40) })
  await mirror()
  const shards = { '1-of-2.safetensors': shard(0, 17), '2-of-2.safetensors': shard(17, 40) }
  hub.commit('org/m', shards)
  const mirrored = await mirror()
  await expectMirrored(shards, mirrored)
  expect(mirrored.bytesFetched).toBeLessThan(MiB)
})

test('weights that all changed are fetched whole, after a few samples', async () => {
  const all = Array.from({ length: 40 }, (_, index) => index)
  const after = tensors(all, 'b')
  const { bytesFetched } = await mirrorTwice(tensors([], 'a'), after)
  expect(bytesFetched).toBeGreaterThanOrEqual(after.length)
  expect(bytesFetched).toBeLessThan(after.length + 600 * KiB)
})

test('a change that no sample shows is found by the hash of the whole', async () => {
  const after = tensors([], 'a')
  const at = after.length - 8
  after[at] = (after[at] ?? 0) ^ 1
  const { bytesFetched } = await mirrorTwice(tensors([], 'a'), after)
  expect(bytesFetched).toBeGreaterThanOrEqual(after.length - 600 * KiB)
})
