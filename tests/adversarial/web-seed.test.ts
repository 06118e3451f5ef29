/** Web servers that lie, stall, never end and lead elsewhere; real sockets on loopback. */

import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { type Clock, systemClock } from '../../src/core/clock.ts'
import { LimitError, ProtocolError, UnavailableError } from '../../src/core/errors.ts'
import { silentLog } from '../../src/core/log.ts'
import { KiB, MiB, second } from '../../src/core/units.ts'
import { verifyDigest } from '../../src/dag/verify.ts'
import { openWebSeeds, type WebSeeds } from '../../src/net/web/web-seeds.ts'
import type { Lookup } from '../../src/net/web/address-guard.ts'
import { download } from '../../src/transfer/download.ts'
import type { ChunkRequest, Source } from '../../src/transfer/source.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { FakeFinder, FakeSource } from '../support/fake-source.ts'
import { until } from '../support/poll.ts'
import { openScratchFolder } from '../support/scratch-folder.ts'
import { openTestStore, type TestFile, testFile } from '../support/store-fixture.ts'
import { openWebServer, type WebExchange } from '../support/web-server.ts'

const model: Record<string, TestFile> = {
  'config.json': testFile('web/config', [300]),
  'sub folder/50% & more#?.bin': testFile('web/odd', [4000, 4000]),
  'weights.bin': testFile(
    'web/weights',
    Array.from({ length: 24 }, () => 64 * KiB),
  ),
}
const weights = model['weights.bin'] as TestFile
const served = Object.fromEntries(Object.entries(model).map(([path, { bytes }]) => [path, bytes]))
const options = { signal: new AbortController().signal }

interface Seeding {
  readonly urls: readonly string[]
  readonly clock?: Clock
  readonly lookup?: Lookup
  readonly allowPrivate?: boolean
  readonly notices?: string[]
}

function seedsOf({ urls, clock = systemClock, lookup, ...rest }: Seeding): WebSeeds {
  const { allowPrivate = true, notices = [] } = rest
  const files = Object.entries(model).map(([path, { root, table }]) => {
    return { path, root, size: table.size }
  })
  const onNotice = (_: string, message: string): void => void notices.push(message)
  return openWebSeeds(
    { clock, log: silentLog, onNotice, ...(lookup === undefined ? {} : { lookup }) },
    { named: urls, hinted: [], files },
    { allowPrivate, agent: 'commonweight/test' },
  )
}

/** Of a web seed that nothing else knows. */
function sourceOf(seeds: WebSeeds): Source {
  const [source] = seeds.sources
  if (source === undefined) throw new Error('no source')
  return source
}

function chunkOf(index: number, file = weights): ChunkRequest {
  const { offset, length } = file.table.ref(index)
  return { root: file.root, index, offset, length }
}

/** Pulls the model into a real store and compares every byte. */
async function pullModel(
  urls: readonly string[],
  { peers = [], notices = [] }: { peers?: readonly Source[]; notices?: string[] } = {},
) {
  await using scratch = await openScratchFolder()
  await using store = await openTestStore(scratch.path)
  const folder = scratch.file('target')
  using seeds = seedsOf({ urls, notices })
  const files = Object.entries(model).map(([path, { table, sha256, root }]) => {
    const place = join(folder, path)
    return { path, size: table.size, sha256, root, place, table: { root, table, blame: undefined } }
  })
  const finder = seeds.finderOver(new FakeFinder(peers))
  const deps = { store, finder, clock: systemClock, log: silentLog, random: Math.random }
  const result = await download(
    deps,
    { keys: files.map(({ root }) => root), folder, files },
    {
      ...options,
      peers: [],
      patienceMs: 20 * second,
      onProgress: () => undefined,
      onNotice: (_, message) => notices.push(message),
    },
  )
  for (const { path, place } of files) {
    const same = Buffer.compare(await readFile(place), served[path] as Uint8Array) === 0
    expect({ path, same }).toEqual({ path, same: true })
  }
  return { result, notices, bytesOf: new Map(result.sources.map(({ id, bytes }) => [id, bytes])) }
}

test('a web server alone gives a model whose chunks are known', async () => {
  await using server = await openWebServer(served)
  const { bytesOf, notices } = await pullModel([server.url])
  const bytes = Object.values(served).reduce((sum, { length }) => sum + length, 0)
  expect([...bytesOf]).toEqual([[server.url, bytes]])
  expect(notices).toEqual([])
  expect(server.connections.all).toBeLessThanOrEqual(6)
  for (const { headers } of server.requests) {
    expect(headers).toMatchObject({
      'accept-encoding': 'identity',
      'user-agent': 'commonweight/test',
    })
    expect(Object.keys(headers)).not.toContain('referer')
  }
})

test('a web server and a peer serve one download together', async () => {
  // A peer in memory would be done before the first connection is up: each waits for the other's first chunk.
  const byServer = Promise.withResolvers<void>()
  const byPeer = Promise.withResolvers<void>()
  await using server = await openWebServer(served, ({ response, serve }) => {
    response.once('finish', byServer.resolve)
    if (server.requests.length === 1) serve()
    else void byPeer.promise.then(serve)
  })
  const files = Object.values(model)
  const peer = new FakeSource('peer', files)
  const fetch = peer.fetchChunk.bind(peer)
  peer.fetchChunk = async (request, more) => {
    await byServer.promise
    const bytes = await fetch(request, more)
    byPeer.resolve()
    return bytes
  }
  const { bytesOf } = await pullModel([server.url], { peers: [peer] })
  expect(bytesOf.get(server.url)).toBeGreaterThan(0)
  expect(bytesOf.get('peer')).toBeGreaterThan(0)
})

type Behaviour = (exchange: WebExchange) => void

function part({ path, range }: WebExchange): Buffer {
  const { start, end } = range ?? { start: 0, end: 0 }
  return Buffer.from(served[path]?.subarray(start, end) ?? [])
}

function headOf({ path, range }: WebExchange, shift = 0): Record<string, string> {
  const { start, end } = range ?? { start: 0, end: 0 }
  const size = served[path]?.length ?? 0
  return { 'content-range': `bytes ${start + shift}-${end - 1 + shift}/${size}` }
}

const lies: Record<string, Behaviour> = {
  'flips a bit of each chunk': exchange => {
    const bytes = part(exchange)
    bytes[0] = (bytes[0] ?? 0) ^ 1
    exchange.response.writeHead(206, headOf(exchange)).end(bytes)
  },
  'sends the right bytes under the wrong range': exchange => {
    exchange.response.writeHead(206, headOf(exchange, 1)).end(part(exchange))
  },
  'sends another range': ({ path, response, range }) => {
    const size = served[path]?.length ?? 0
    const length = (range?.end ?? 0) - (range?.start ?? 0)
    // The one before it, or a range past the end.
    const start = range?.start === 0 ? size : (range?.start ?? 0) - length
    const head = { 'content-range': `bytes ${start}-${start + length - 1}/${size}` }
    response.writeHead(206, head).end(Buffer.alloc(length))
  },
  'says no range': exchange => exchange.response.writeHead(206).end(part(exchange)),
  'announces more than it was asked for': exchange => {
    const bytes = Buffer.concat([part(exchange), Buffer.alloc(1)])
    exchange.response
      .writeHead(206, { ...headOf(exchange), 'content-length': bytes.length })
      .end(bytes)
  },
  'packs what is to come as it is': exchange => {
    const head = { ...headOf(exchange), 'content-encoding': 'gzip' }
    exchange.response.writeHead(206, head).end(part(exchange))
  },
  'answers 204': ({ response }) => response.writeHead(204).end(),
  'redirects for ever': ({ request, response }) => {
    const next = Number(new URL(request.url ?? '/', 'http://x').pathname.slice(1)) || 0
    response.writeHead(302, { location: `/${next + 1}` }).end()
  },
  'redirects to a file of the disk': ({ response }) => {
    response.writeHead(302, { location: 'file:///etc/passwd' }).end()
  },
  'redirects with a password': ({ response, request }) => {
    response.writeHead(302, { location: `http://user:word@${request.headers.host ?? ''}/` }).end()
  },
  'pushes a button of a private host': ({ response }) => {
    response.writeHead(302, { location: '/reboot?now=1' }).end()
  },
  'redirects to no URL': ({ response }) => response.writeHead(302, { location: 'http://' }).end(),
  'sends a head without end': ({ request }) => {
    request.socket.write('HTTP/1.1 206 Partial Content\r\n')
    const line = `x: ${'y'.repeat(1000)}\r\n`
    for (let lines = 0; lines < 64; lines += 1) request.socket.write(line)
  },
  'does not speak HTTP': ({ request }) => {
    request.socket.end('SSH-2.0-OpenSSH_9.9\r\n\r\n')
  },
}

describe('breaks the rules and is banned, while another serves: it', () => {
  test.for(Object.entries(lies))('%s', async ([, behave]) => {
    const notices: string[] = []
    await using liar = await openWebServer(served, behave)
    // Serves once the other is found out: until then it could be too fast for that.
    await using honest = await openWebServer(served, ({ serve }) => {
      const isOut = (): Promise<true | undefined> =>
        Promise.resolve(notices.length > 0 ? true : undefined)
      void until('the liar is found out', isOut).then(serve)
    })
    const { bytesOf } = await pullModel([liar.url, honest.url], { notices })
    expect(bytesOf.has(liar.url)).toBe(false)
    expect(notices).toEqual([expect.stringContaining(`banned ${liar.url}`)])
    // Not asked again: what was under way at the first lie, and the redirects of that.
    expect(liar.requests.length).toBeLessThanOrEqual(6 * 4)
  })
})

const faults: Record<string, Behaviour> = {
  'does not have the files': ({ response }) => response.writeHead(404).end(),
  forbids: ({ response }) => response.writeHead(403).end('x'.repeat(MiB)),
  'has files of other sizes': ({ response, range }) => {
    const { start, end } = range ?? { start: 0, end: 1 }
    response.writeHead(206, { 'content-range': `bytes ${start}-${end - 1}/999999999` })
    response.end(Buffer.alloc(end - start))
  },
  'gives a page for everything': ({ response }) => {
    response.writeHead(200, { 'content-type': 'text/html', 'content-length': 9 }).end('Not found')
  },
  'closes midway': exchange => {
    const bytes = part(exchange)
    exchange.response.writeHead(206, { ...headOf(exchange), 'content-length': bytes.length })
    exchange.response.write(bytes.subarray(0, bytes.length >> 1), () =>
      exchange.request.socket.destroy(),
    )
  },
  'ends a body of no known length too soon': exchange => {
    exchange.response.writeHead(206, headOf(exchange)).end(part(exchange).subarray(1))
  },
  'is broken': ({ response }) => response.writeHead(500).end(),
  'is busy': ({ response }) => response.writeHead(503, { 'retry-after': '1' }).end(),
  'has too many users': ({ response }) => response.writeHead(429).end(),
  'resets every connection': ({ request }) => request.socket.resetAndDestroy(),
  'never answers': () => undefined,
}

describe('is of no use and not banned, while another serves: it', () => {
  test.for(Object.entries(faults))('%s', async ([, behave]) => {
    await using useless = await openWebServer(served, behave)
    await using honest = await openWebServer(served)
    const { bytesOf, notices } = await pullModel([useless.url, honest.url])
    expect(bytesOf.has(useless.url)).toBe(false)
    expect(notices.filter(text => text.startsWith('banned'))).toEqual([])
  })
})

test('a server that gives whole files only is read from their start', async () => {
  await using server = await openWebServer(served, ({ path, response }) => {
    const bytes = served[path] ?? new Uint8Array()
    response.writeHead(200, { 'content-length': bytes.length }).end(bytes)
  })
  await using honest = await openWebServer(served)
  const { notices } = await pullModel([server.url, honest.url])
  // Unless the other had the rest before that was found out.
  for (const notice of notices) expect(notice).toContain(`${server.url} gives whole files only`)
  using seeds = seedsOf({ urls: [server.url] })
  const bytes = await sourceOf(seeds).fetchChunk(chunkOf(0), options)
  verifyDigest(weights.table.digest(0), bytes)
  const next = sourceOf(seeds).fetchChunk(chunkOf(1), options)
  await expect(next).rejects.toThrow(UnavailableError)
})

test.for([206, 200])(
  'a %i without end is cut after the bytes that were asked for',
  async status => {
    let sent = 0
    const closed = Promise.withResolvers<void>()
    await using server = await openWebServer(served, exchange => {
      const { response } = exchange
      response.writeHead(status, status === 206 ? headOf(exchange) : {})
      response.on('close', () => closed.resolve())
      const more = (bytes: Uint8Array): void => {
        sent += bytes.length
        if (!response.destroyed) response.write(bytes, () => more(Buffer.alloc(64 * KiB)))
      }
      more(Buffer.from(weights.bytes.subarray(0, 64 * KiB)))
    })
    using seeds = seedsOf({ urls: [server.url] })
    const bytes = await sourceOf(seeds).fetchChunk(chunkOf(0), options)
    verifyDigest(weights.table.digest(0), bytes)
    await closed.promise
    // What we took, and what the buffers of two sockets hold.
    expect(sent).toBeLessThan(16 * MiB)
  },
)

test('a body that goes on is written nowhere once its chunk is there, and into the memory it was given', async () => {
  await using server = await openWebServer(served, exchange => {
    const { response } = exchange
    response.writeHead(206, headOf(exchange))
    response.write(Buffer.concat([part(exchange), Buffer.alloc(2 * MiB, 'x')]))
  })
  using seeds = seedsOf({ urls: [server.url] })
  const room = Buffer.alloc(MiB, '.')
  const asked: number[] = []
  const allocate = (bytes: number): Uint8Array => {
    asked.push(bytes)
    return room
  }
  const bytes = await sourceOf(seeds).fetchChunk(chunkOf(1), { ...options, allocate })
  expect(asked).toEqual([64 * KiB])
  expect(bytes.buffer).toBe(room.buffer)
  verifyDigest(weights.table.digest(1), bytes)
  // As the next chunk would.
  room.fill('-')
  const gone = (): true | undefined => (server.connections.open === 0 ? true : undefined)
  await until('the connection ends', () => Promise.resolve(gone()))
  expect(room.every(byte => byte === 0x2d)).toBe(true)
})

test.for(['a trickle', 'silence'])(
  '%s is given up in time, and its connection ends',
  async kind => {
    const timers: NodeJS.Timeout[] = []
    await using server = await openWebServer(served, exchange => {
      if (kind === 'silence') return
      exchange.response.writeHead(206, headOf(exchange))
      timers.push(setInterval(() => exchange.response.write('x'), 10))
    })
    const clock = new FakeClock()
    using seeds = seedsOf({ urls: [server.url], clock })
    const chunk = sourceOf(seeds).fetchChunk(chunkOf(0), options)
    chunk.catch(() => undefined)
    await until('it is asked', () => Promise.resolve(server.requests[0]))
    await clock.advance(25 * second)
    await expect(chunk).rejects.toThrow(UnavailableError)
    const gone = (): true | undefined => (server.connections.open === 0 ? true : undefined)
    await until('the connection ends', () => Promise.resolve(gone()))
    for (const timer of timers) clearInterval(timer)
  },
)

test('a busy server is asked again after its time, and serves', async () => {
  let isBusy = true
  await using server = await openWebServer(served, ({ response, serve }) => {
    if (isBusy) response.writeHead(503, { 'retry-after': '30' }).end()
    else serve()
  })
  const clock = new FakeClock()
  using seeds = seedsOf({ urls: [server.url], clock })
  const source = sourceOf(seeds)
  await expect(source.fetchChunk(chunkOf(0), options)).rejects.toThrow(LimitError)
  isBusy = false
  await clock.advance(29 * second)
  await expect(source.fetchChunk(chunkOf(0), options)).rejects.toThrow(LimitError)
  expect(server.requests.length).toBe(1)
  await clock.advance(second)
  verifyDigest(weights.table.digest(0), await source.fetchChunk(chunkOf(0), options))
})

test('however many chunks are asked for at once, few connections are open', async () => {
  await using server = await openWebServer(served)
  using seeds = seedsOf({ urls: [server.url] })
  const source = sourceOf(seeds)
  const asked = Array.from({ length: 96 }, (_, n) => source.fetchChunk(chunkOf(n % 24), options))
  for (const [n, bytes] of (await Promise.all(asked)).entries()) {
    verifyDigest(weights.table.digest(n % 24), bytes)
  }
  expect(server.connections.peak).toBeLessThanOrEqual(6)
})

test('an aborted request ends its connection and no other', async () => {
  await using server = await openWebServer(served, ({ range, serve }) => {
    if (range?.start === 0) return
    serve()
  })
  using seeds = seedsOf({ urls: [server.url] })
  const source = sourceOf(seeds)
  const stop = new AbortController()
  const reason = new Error('not needed any more')
  const chunk = source.fetchChunk(chunkOf(0), { signal: stop.signal })
  await until('it is asked', () => Promise.resolve(server.requests[0]))
  stop.abort(reason)
  await expect(chunk).rejects.toBe(reason)
  verifyDigest(weights.table.digest(1), await source.fetchChunk(chunkOf(1), options))
  expect(source.closed.aborted).toBe(false)
})

test('a kept connection that the server closed meanwhile costs nothing', async () => {
  const used = new WeakSet()
  await using server = await openWebServer(served, ({ request, serve }) => {
    if (used.has(request.socket)) request.socket.destroy()
    else serve()
    used.add(request.socket)
  })
  using seeds = seedsOf({ urls: [server.url] })
  const source = sourceOf(seeds)
  for (let index = 0; index < 5; index += 1) {
    verifyDigest(weights.table.digest(index), await source.fetchChunk(chunkOf(index), options))
  }
  expect(server.connections.all).toBeGreaterThan(1)
})

describe('redirects', () => {
  test('are followed once, and again when where they led has run out', async () => {
    let left = 0
    await using cdn = await openWebServer(served, ({ response, serve }) => {
      left -= 1
      if (left < 0) response.writeHead(403).end('expired')
      else serve()
    })
    await using hub = await openWebServer({}, ({ request, response }) => {
      left = 10
      response.writeHead(302, { location: `${cdn.url.slice(0, -1)}${request.url ?? ''}` }).end('x')
    })
    using seeds = seedsOf({ urls: [hub.url] })
    const source = sourceOf(seeds)
    for (let index = 0; index < 24; index += 1) {
      verifyDigest(weights.table.digest(index), await source.fetchChunk(chunkOf(index), options))
    }
    expect(hub.requests.length).toBe(3)
    expect(source.closed.aborted).toBe(false)
  })

  test('three are followed, of which the last may not be there', async () => {
    await using server = await openWebServer(served, ({ path, response, serve }) => {
      const hop = Number(/^hop(\d)\//u.exec(path)?.[1] ?? 3)
      if (hop === 3) serve()
      else
        response.writeHead(307, { location: hop === 2 ? '/weights.bin' : `/hop${hop + 1}/x` }).end()
    })
    using three = seedsOf({ urls: [`${server.url}hop0/`] })
    const bytes = await sourceOf(three).fetchChunk(chunkOf(0), options)
    verifyDigest(weights.table.digest(0), bytes)
    expect(server.requests.length).toBe(4)
  })
})

describe('addresses', () => {
  async function openListener() {
    let connections = 0
    const server = createServer(socket => {
      connections += 1
      socket.destroy()
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    return {
      port,
      connections: () => connections,
      [Symbol.asyncDispose]: () => new Promise<void>(resolve => server.close(() => resolve())),
    }
  }

  test.for(['127.0.0.1', '127.1', '0x7f.1', '2130706433', '0177.0.0.1', '[::ffff:127.0.0.1]'])(
    '%s is not connected to, whatever way it is written',
    async host => {
      await using listener = await openListener()
      expect(() =>
        seedsOf({ urls: [`https://${host}:${listener.port}/`], allowPrivate: false }),
      ).toThrow('private address')
      expect(listener.connections()).toBe(0)
    },
  )

  test('a name that leads inside is not connected to', async () => {
    await using listener = await openListener()
    const urls = [`https://mirror.example.org:${listener.port}/`]
    for (const answer of [['127.0.0.1'], ['8.8.8.8', '127.0.0.1'], ['::1'], []]) {
      const lookup = (): Promise<string[]> => Promise.resolve(answer)
      using seeds = seedsOf({ urls, lookup, allowPrivate: false })
      const chunk = sourceOf(seeds).fetchChunk(chunkOf(0), options)
      await expect(chunk).rejects.toThrow('leads to a private address')
    }
    expect(listener.connections()).toBe(0)
  })

  test('nor is one that led outside when it was judged', async () => {
    await using listener = await openListener()
    const answers = [['8.8.8.8'], ['127.0.0.1']]
    const lookup = (): Promise<string[]> => Promise.resolve(answers.shift() ?? ['127.0.0.1'])
    const urls = [`https://mirror.example.org:${listener.port}/`]
    using seeds = seedsOf({ urls, lookup, allowPrivate: false })
    const chunk = sourceOf(seeds).fetchChunk(chunkOf(0), options)
    await expect(chunk).rejects.toThrow(ProtocolError)
    expect(answers).toEqual([])
    expect(listener.connections()).toBe(0)
  })

  // 169.254.0.7 is reserved: were it asked after all, nobody would be there.
  describe('that are link-local are not connected to, even where private hosts are allowed:', () => {
    test.for(['169.254.0.7', '[::ffff:a9fe:7]', '2851995655'])('%s in a redirect', async host => {
      await using home = await openWebServer({}, ({ response }) => {
        response.writeHead(302, { location: `http://${host}/latest/meta-data/` }).end()
      })
      using seeds = seedsOf({ urls: [home.url] })
      const chunk = sourceOf(seeds).fetchChunk(chunkOf(0), options)
      await expect(chunk).rejects.toMatchObject({
        code: 'PROTOCOL',
        message: expect.stringContaining('leads to a link-local address'),
      })
      expect(home.requests.length).toBe(1)
    })

    test.for(['169.254.0.7', '[::ffff:a9fe:7]', '[fe80::1]'])('%s as it is given', host => {
      expect(() => seedsOf({ urls: [`http://${host}/`] })).toThrow('is a link-local address')
    })

    test('a name that leads there, at once or once it was judged', async () => {
      await using listener = await openListener()
      const urls = [`http://nas.lan:${listener.port}/`]
      for (const answers of [
        [['169.254.0.7']],
        [['127.0.0.1', 'fe80::1']],
        [['127.0.0.1'], ['169.254.0.7']],
      ]) {
        const lookup = (): Promise<string[]> => Promise.resolve(answers.shift() ?? [])
        using seeds = seedsOf({ urls, lookup })
        const chunk = sourceOf(seeds).fetchChunk(chunkOf(0), options)
        await expect(chunk).rejects.toThrow(/nas\.lan.* leads to a link-local/u)
        expect(answers).toEqual([])
      }
      expect(listener.connections()).toBe(0)
    })
  })

  test('a name that nobody knows is tried again later', async () => {
    const error = Object.assign(new Error('getaddrinfo ENOTFOUND'), { code: 'ENOTFOUND' })
    using seeds = seedsOf({ urls: ['https://a.example/'], lookup: () => Promise.reject(error) })
    const chunk = sourceOf(seeds).fetchChunk(chunkOf(0), options)
    await expect(chunk).rejects.toThrow(UnavailableError)
    expect(sourceOf(seeds).closed.aborted).toBe(false)
  })
})
