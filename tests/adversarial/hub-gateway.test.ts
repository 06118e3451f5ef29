/**
 * The Hub gateway over real HTTP and a real node: the conformance list of docs/spec/hub-gateway.md, and
 * what hostile pages, clients and names do to it.
 */

import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { MiB } from '../../src/core/units.ts'
import { type HubGateway, openHubGateway } from '../support/hub-gateway.ts'
import { seededBytes, tensorFile } from '../support/model-files.ts'
import { heldBytes } from '../support/garbage.ts'

const weights = tensorFile({
  small: seededBytes('small', 700),
  large: seededBytes('large', 3 * MiB + 17),
  last: seededBytes('last', 5000),
})
const odd = 'sub dir/odd #1 name%.json'
const files = {
  'config.json': '{"a":1}',
  'empty.txt': '',
  'model.safetensors': weights,
  [odd]: 'odd',
  'sub dir/deep/x.bin': 'x',
  'page.html': '<script>alert(1)</script>',
}
const sha256 = (bytes: Uint8Array | string): string =>
  createHash('sha256').update(bytes).digest('hex')

let hub: HubGateway
let commit: string

beforeAll(async () => {
  hub = await openHubGateway()
  await hub.seed('Org/Model', files)
  await hub.seed('solo', { 'config.json': '{}' })
  commit = String((await hub.ask('/Org/Model/resolve/main/config.json')).headers['x-repo-commit'])
})
afterAll(() => hub[Symbol.asyncDispose]())

const at = (path: string, revision = 'main'): string => `/Org/Model/resolve/${revision}/${path}`
const api = (rest = ''): string => `/api/models/Org/Model${rest}`

interface Entry {
  readonly type: string
  readonly path: string
  readonly oid: string
  readonly size: number
  readonly lfs?: { readonly oid: string; readonly size: number; readonly pointerSize: number }
}

describe('conformance', () => {
  test('C1, C2: a head has the commit, the digest and the size', async () => {
    const { body, headers, status } = await hub.ask(at('model.safetensors'), { method: 'HEAD' })
    expect(status).toBe(200)
    expect(body).toHaveLength(0)
    expect(headers).toMatchObject({
      'x-repo-commit': expect.stringMatching(/^[0-9a-f]{40}$/),
      etag: `"${sha256(weights)}"`,
      'x-linked-etag': `"${sha256(weights)}"`,
      'x-linked-size': String(weights.length),
      'content-length': String(weights.length),
      'accept-ranges': 'bytes',
    })
    expect(headers).not.toHaveProperty('location')
    expect(headers).not.toHaveProperty('x-xet-hash')
  })

  test('C3: without a range the whole file comes, as 200 and as it is', async () => {
    const answer = await hub.ask(at('model.safetensors'), {
      headers: { 'accept-encoding': 'gzip, deflate' },
    })
    expect(answer.status).toBe(200)
    expect(answer.headers['content-encoding']).toBeUndefined()
    expect(sha256(answer.body)).toBe(sha256(weights))
  })

  test.for<[string, number, number]>([
    ['bytes=0-0', 0, 1],
    ['bytes=100-5243979', 100, weights.length],
    [`bytes=${MiB - 3}-${MiB + 900}`, MiB - 3, MiB + 901],
    [`bytes=${weights.length - 5}-`, weights.length - 5, weights.length],
    ['bytes=-7', weights.length - 7, weights.length],
  ])('C4: %s', async ([range, start, end]) => {
    const answer = await hub.ask(at('model.safetensors'), { headers: { range } })
    expect(answer.status).toBe(206)
    expect(answer.headers['content-range']).toBe(`bytes ${start}-${end - 1}/${weights.length}`)
    expect(sha256(answer.body)).toBe(sha256(weights.subarray(start, end)))
  })

  test('C4: a range behind the end is 416', async () => {
    const range = `bytes=${weights.length}-`
    const answer = await hub.ask(at('model.safetensors'), { headers: { range } })
    expect(answer.status).toBe(416)
    expect(answer.headers['content-range']).toBe(`bytes */${weights.length}`)
  })

  test.for<Record<string, string>>([{}, { range: 'bytes=0-0' }])(
    'C5: an empty file, asked with %o',
    async headers => {
      const answer = await hub.ask(at('empty.txt'), { headers })
      expect(answer.status).toBe(200)
      expect(answer.headers['content-length']).toBe('0')
    },
  )

  test('C6: who has the file is told so', async () => {
    const headers = { 'if-none-match': `"${sha256('{"a":1}')}"` }
    expect((await hub.ask(at('config.json'), { headers })).status).toBe(304)
  })

  test.for([
    ['/Org/None/resolve/main/config.json', 'RepoNotFound'],
    ['/api/models/Org/None', 'RepoNotFound'],
    [at('config.json', 'dev'), 'RevisionNotFound'],
    [api('/tree/0000000000000000000000000000000000000000'), 'RevisionNotFound'],
    [at('none.json'), 'EntryNotFound'],
    [at('sub%20dir'), 'EntryNotFound'],
    [api('/tree/main/additional_chat_templates'), 'EntryNotFound'],
  ])('C7: %s is %s', async ([path, code]) => {
    for (const method of ['GET', 'HEAD']) {
      const { headers, status } = await hub.ask(path ?? '', { method })
      expect(status).toBe(404)
      expect(headers['x-error-code']).toBe(code)
      expect(headers['x-repo-commit']).toBe(code === 'EntryNotFound' ? commit : undefined)
    }
  })

  test.for(['', '/revision/main', '/revision/HEAD', '/revision/refs%2Fheads%2Fmain'])(
    'C8: info of %s',
    async rest => {
      const info = (await hub.ask(api(rest))).json() as Record<string, unknown>
      expect(info).toMatchObject({ id: 'Org/Model', sha: commit, private: false, gated: false })
      expect(info['siblings']).toContainEqual({ rfilename: odd })
    },
  )

  test('C8: info at the commit, with blobs', async () => {
    const answer = await hub.ask(api(`/revision/${commit}?blobs=True`))
    const { siblings } = answer.json() as { siblings: { rfilename: string; lfs: object }[] }
    expect(siblings.find(({ rfilename }) => rfilename === 'model.safetensors')).toMatchObject({
      size: weights.length,
      blobId: expect.stringMatching(/^[0-9a-f]{40}$/),
      lfs: { sha256: sha256(weights), size: weights.length },
    })
  })

  test('C9: the tree, its folders by both spellings, and all of it', async () => {
    const list = async (rest: string): Promise<string[]> =>
      ((await hub.ask(api(`/tree/${rest}`))).json() as Entry[]).map(({ path }) => path)
    expect(await list('main')).toEqual([
      'config.json',
      'empty.txt',
      'model.safetensors',
      'page.html',
      'sub dir',
    ])
    expect(await list('main/sub%20dir/deep')).toEqual(['sub dir/deep/x.bin'])
    expect(await list('main/sub%20dir%2Fdeep')).toEqual(['sub dir/deep/x.bin'])
    expect(await list('refs/heads/main/sub%20dir/deep')).toEqual(['sub dir/deep/x.bin'])
    expect(await list(`${commit}?recursive=1`)).toHaveLength(8)
  })

  test('C9: pages are linked by an absolute URL', async () => {
    const seen: string[] = []
    let path = api('/tree/main?recursive=true&limit=3')
    for (;;) {
      const answer = await hub.ask(path)
      seen.push(...(answer.json() as Entry[]).map(entry => entry.path))
      const { link } = answer.headers
      if (link === undefined) break
      const next = /^<(http:\/\/127\.0\.0\.1:\d+)(\/[^>]*)>; rel="next"$/.exec(String(link))
      expect(next?.[1]).toBe(hub.url)
      path = next?.[2] ?? ''
    }
    expect(new Set(seen).size).toBe(8)
    expect(seen).toHaveLength(8)
  })

  test('C10: there is always a main', async () => {
    expect((await hub.ask(api('/refs?include_prs=1'))).json()).toEqual({
      branches: [{ name: 'main', ref: 'refs/heads/main', targetCommit: commit }],
      converts: [],
      tags: [],
      pullRequests: [],
    })
  })

  test.for([
    ['application/x-www-form-urlencoded', 'paths=config.json&paths=none&paths=sub+dir&expand=True'],
    ['application/json', '{"paths":["config.json","none","sub dir"],"expand":true}'],
  ])('C11: paths as %s', async ([type = '', body = '']) => {
    const headers = { 'content-type': type }
    const answer = await hub.ask(api('/paths-info/main'), { headers, body })
    const entries = answer.json() as Entry[]
    expect(entries.map(({ path }) => path)).toEqual(['config.json', 'sub dir'])
  })

  test('C12: what clients ask beside', async () => {
    expect((await hub.ask('/api/agent-harnesses')).json()).toEqual({
      standardEnvVars: [],
      harnesses: {},
    })
    expect((await hub.ask('/api/telemetry/hf', { method: 'HEAD' })).status).toBe(200)
    expect((await hub.ask('/api/whoami-v2')).status).toBe(401)
    const headers = { authorization: 'Bearer hf_secret' }
    expect((await hub.ask('/api/whoami-v2', { headers })).json()).toMatchObject({ name: 'local' })
    expect((await hub.ask(api('/auth-check'))).status).toBe(200)
    expect((await hub.ask(api('/discussions?p=0'))).status).toBe(404)
    expect((await hub.ask(api('/commits/main'))).json()).toMatchObject([{ id: commit }])
    expect((await hub.ask('/api/models?search=MOD&limit=5')).json()).toMatchObject([
      { id: 'Org/Model' },
    ])
  })

  test('C13: raw gives the pointer, whose name is that of the tree', async () => {
    const answer = await hub.ask('/Org/Model/raw/main/model.safetensors')
    const text = answer.body.toString()
    expect(text).toContain(`oid sha256:${sha256(weights)}\nsize ${weights.length}\n`)
    const oid = createHash('sha1').update(`blob ${text.length}\0${text}`).digest('hex')
    expect(answer.headers.etag).toBe(`"${oid}"`)
    const tree = (await hub.ask(api('/tree/main'))).json() as Entry[]
    expect(tree.find(({ path }) => path === 'model.safetensors')?.oid).toBe(oid)
    const part = await hub.ask('/Org/Model/raw/main/config.json', {
      headers: { range: 'bytes=0-6' },
    })
    expect([part.status, part.body.toString()]).toEqual([206, 'version'])
  })

  test('C17: names with spaces, # and %', async () => {
    const path = odd.split('/').map(encodeURIComponent).join('/')
    expect((await hub.ask(at(path))).body.toString()).toBe('odd')
  })

  test('C18: ids in any case, answered in their own', async () => {
    expect((await hub.ask('/api/models/org/MODEL')).json()).toMatchObject({ id: 'Org/Model' })
    expect((await hub.ask('/api/models/SOLO')).json()).toMatchObject({ id: 'solo' })
    expect((await hub.ask('/solo/resolve/main/config.json')).body.toString()).toBe('{}')
  })

  test('C20: the bytes of every file are those of the tree', async () => {
    const tree = (await hub.ask(api('/tree/main?recursive=true'))).json() as Entry[]
    for (const { lfs, path, size } of tree.filter(({ type }) => type === 'file')) {
      const place = path.split('/').map(encodeURIComponent).join('/')
      const { body } = await hub.ask(at(place, commit))
      expect([path, body.length, sha256(body)]).toEqual([path, size, lfs?.oid])
    }
  })

  test('the same folder on another node is the same commit', async () => {
    await using other = await openHubGateway()
    await other.seed('else/where', files)
    const answer = await other.ask('/api/models/else/where')
    expect(answer.json()).toMatchObject({ sha: commit })
  })
})

describe('what is hostile', () => {
  test.for(['/', api(), at('config.json'), '/api/agent-harnesses', '/none'])(
    'a name that is not ours reaches nothing of %s',
    async path => {
      const { status } = await hub.ask(path, { headers: { host: 'evil.test' } })
      expect(status).toBe(421)
    },
  )

  test('a request without a name is refused, and an allowed one is served', async () => {
    const text = await rawExchange('GET /api/agent-harnesses HTTP/1.0\r\n\r\n')
    expect(text).toMatch(/^HTTP\/1\.1 400 /)
    const headers = { host: 'hub.lab:4080' }
    expect((await hub.ask(at('config.json'), { headers })).status).toBe(200)
  })

  test('who looks for a page is told what there is', async () => {
    for (const path of ['/', '/Org/Model']) {
      const { headers, status } = await hub.ask(path)
      expect(status).toBe(404)
      expect(headers['x-error-message']).toMatch(/\/api\/models lists the models/u)
    }
  })

  test('a web page gets nothing, and no answer lets one read', async () => {
    const signs: Record<string, string>[] = [
      { referer: 'http://evil.test/' },
      { origin: 'https://evil.test' },
      { 'sec-fetch-site': 'cross-site' },
    ]
    for (const sign of signs) {
      const answer = await hub.ask(at('config.json'), { headers: sign })
      expect(answer.status).toBe(403)
      expect(answer.headers).not.toHaveProperty('access-control-allow-origin')
    }
    const { headers } = await hub.ask(at('page.html'))
    expect(headers).not.toHaveProperty('access-control-allow-origin')
    expect(headers).not.toHaveProperty('set-cookie')
    expect(headers).toMatchObject({
      'x-content-type-options': 'nosniff',
      'content-type': 'application/octet-stream',
      'content-disposition': expect.stringMatching(/^attachment/),
    })
  })

  test.for(['POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'])('%s writes nothing', async method => {
    for (const path of ['/api/repos/create', api('/commit/main'), at('config.json')]) {
      const answer = await hub.ask(path, { method, headers: { 'content-length': '0' } })
      expect(answer.status).toBe(403)
      expect(answer.headers['x-error-message']).toContain('only reads')
    }
  })

  test('an upload is refused before it is read', async () => {
    const text = await rawExchange(
      'PUT /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999\r\n\r\nxxxx',
    )
    expect(text).toMatch(/^HTTP\/1\.1 403 /)
    expect(text).toMatch(/\r\nconnection: close\r\n/i)
  })

  test.for([
    '/Org/Model/resolve/main/../../../../etc/passwd',
    '/Org/Model/resolve/main/..%2F..%2Fconfig.json',
    '/Org/Model/resolve/main/%2e%2e/config.json',
    '/Org/Model/resolve/main//config.json',
    '/Org/Model/resolve/main/sub%20dir/deep/../../config.json',
    '/Org/Model/resolve/main/config.json%00',
    '/Org/Model/resolve/main/CONFIG.JSON',
    '/Org/../Org/Model/resolve/main/config.json',
  ])('%s is no file', async path => {
    expect((await hub.ask(path)).status).toBe(404)
  })

  test.for(['/Org/Model/resolve/main/%ff', '/%zz', `/${'a/'.repeat(100)}`])(
    '%s is no path',
    async path => {
      const answer = await hub.ask(path)
      expect(answer.status).toBe(400)
      // In the words of the Hub, not of the control API.
      expect(answer.headers['x-error-message']).toBeDefined()
      expect(answer.json()).toEqual({ error: expect.any(String) })
    },
  )

  test('a head without end is refused', async () => {
    const text = await rawExchange(
      `GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: ${'x'.repeat(40_000)}\r\n\r\n`,
    )
    expect(text).toMatch(/^HTTP\/1\.1 431 /)
  })

  test('a question of too many paths is refused', async () => {
    const headers = { 'content-type': 'application/json' }
    const body = JSON.stringify({ paths: Array.from({ length: 20_000 }, () => 'a') })
    const path = api('/paths-info/main')
    expect((await hub.ask(path, { headers, body })).status).toBe(400)
    const large = await hub.ask(path, { headers, body: 'x'.repeat(5 * MiB) })
    expect(large.status).toBe(413)
    expect(large.json()).toHaveProperty('error')
  })

  test('a token is in no log', async () => {
    const headers = { authorization: 'Bearer hf_verysecret' }
    await hub.ask(at('config.json'), { headers })
    await hub.ask('/api/whoami-v2?token=hf_verysecret', { headers })
    await hub.ask('/%zz?token=hf_verysecret', { headers })
    expect(hub.logged.filter(line => line.includes('hf_verysecret'))).toEqual([])
  })

  test('a file that was edited is not sent as what it was', async () => {
    await hub.seed('org/edited', { 'model.bin': seededBytes('edited', 2 * MiB) })
    await writeFile(hub.file('org-edited/model.bin'), seededBytes('other', 2 * MiB))
    const answer = await hub.ask('/org/edited/resolve/main/model.bin')
    expect(answer.status).toBe(503)
    expect(answer.headers['retry-after']).toBeDefined()
  })

  test('who asks with huggingface_hub 1.x for what is not here is told 429, with 0.x 503', async () => {
    const asked = async (agent: string): Promise<number> => {
      const headers = { 'user-agent': agent }
      return (await hub.ask('/org/edited/resolve/main/model.bin', { headers })).status
    }
    expect(await asked('unknown/None; hf_hub/1.33.0; python/3.11')).toBe(429)
    expect(await asked('unknown/None; hf_hub/0.36.2; python/3.11')).toBe(503)
  })

  test('readers that take nothing hold two pieces each, and others are served', async () => {
    await hub.seed('org/large', { 'large.bin': seededBytes('large', 24 * MiB) })
    const before = process.memoryUsage().rss
    const sockets = await Promise.all(
      Array.from({ length: 40 }, async () => {
        const socket = connect(hub.port, '127.0.0.1')
        socket.pause()
        await once(socket, 'connect')
        socket.write('GET /org/large/resolve/main/large.bin HTTP/1.1\r\nHost: localhost\r\n\r\n')
        return socket
      }),
    )
    const { body } = await hub.ask('/org/large/resolve/main/large.bin')
    expect(body).toHaveLength(24 * MiB)
    // 40 readers of 24 MiB: held whole they would take 960 MiB.
    expect(process.memoryUsage().rss - before).toBeLessThan(400 * MiB)
    for (const socket of sockets) socket.destroy()
  })

  test('readers who leave in the middle end nothing but their own', async () => {
    const large = seededBytes('left', 24 * MiB)
    await hub.seed('org/left', { 'large.bin': large })
    const before = hub.logged.length
    const leave = async (_: unknown, reader: number): Promise<void> => {
      const socket = connect(hub.port, '127.0.0.1')
      socket.on('error', () => undefined)
      await once(socket, 'connect')
      socket.write('GET /org/left/resolve/main/large.bin HTTP/1.1\r\nHost: localhost\r\n\r\n')
      let left = (reader * 123_457) % (8 * MiB)
      for await (const bytes of socket) {
        left -= (bytes as Buffer).length
        if (left < 0) break
      }
      // Half of them without a goodbye.
      if (reader % 2 === 0) socket.resetAndDestroy()
      else socket.destroy()
    }
    // Who stays reads what it asked for, in memory that others had and left.
    const digests = Array.from({ length: 6 }, async (_, reader) => {
      const start = reader * 999_983
      const headers = { range: `bytes=${start}-` }
      const { body } = await hub.ask('/org/left/resolve/main/large.bin', { headers })
      return sha256(body) === sha256(large.subarray(start))
    })
    await Promise.all(Array.from({ length: 100 }, leave))
    expect(await Promise.all(digests)).toEqual(Array(6).fill(true))
    expect(hub.logged.slice(before).filter(line => /^(?:warn|error)/u.test(line))).toEqual([])
  })

  test('names that nobody knows leave nothing behind', { timeout: 120_000 }, async () => {
    const rounds = 10
    const each = 10_000
    const flood = async (round: number): Promise<void> => {
      const text = Array.from(
        { length: each },
        (_, index) =>
          `GET /api/models/none/m${round}-${index} HTTP/1.1\r\nHost: localhost\r\n` +
          `${index === each - 1 ? 'Connection: close\r\n' : ''}\r\n`,
      ).join('')
      const answers = await rawExchange(text)
      expect(answers.match(/HTTP\/1\.1 404 /g)).toHaveLength(each)
    }
    await flood(0)
    const before = heldBytes()
    for (let round = 1; round <= rounds; round += 1) await flood(round)
    expect(heldBytes() - before).toBeLessThan(16 * MiB)
  })
})

/** Sends the text as it is, and returns all that comes back. */
async function rawExchange(text: string): Promise<string> {
  const socket = connect(hub.port, '127.0.0.1')
  let answer = ''
  socket.on('data', bytes => (answer += bytes.toString('latin1')))
  socket.on('error', () => undefined)
  await once(socket, 'connect')
  socket.write(text)
  await once(socket, 'close')
  return answer
}
