/** The control API over a real socket: every route, and everything that is not one of them. */

import { once } from 'node:events'
import { rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { connect } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { openClient } from '../../src/api/client.ts'
import type { Client } from '../../src/api/client.ts'
import * as api from '../../src/api/contract.ts'
import { homePaths } from '../../src/api/home.ts'
import { contractDigest, contractHeader } from '../../src/api/contract-digest.ts'
import { isNoDaemon } from '../../src/api/transport.ts'
import { ConflictError, errorFromCode, errorTable } from '../../src/core/errors.ts'
import { openControlDaemon } from '../support/control-daemon.ts'
import {
  aModel,
  aProgress,
  aPull,
  aResult,
  openFakeNode,
  someAddress,
  someManifest,
  somePeer,
} from '../support/fake-node.ts'
import { openScratchFolder } from '../support/scratch-folder.ts'
import { heldBytes } from '../support/garbage.ts'

// Every route, as the client of the command uses it.

test('answers what a node is and holds', async () => {
  await using control = await openControlDaemon(openFakeNode())
  const { client, paths } = control
  expect(await client.isRunning()).toBe(true)
  expect(await client.status()).toMatchObject({
    version: '1.2.3',
    apiVersion: api.apiVersion,
    pid: process.pid,
    home: paths.home,
    peerId: somePeer,
    operations: [],
  })
  expect(await client.models()).toEqual([aModel()])
  expect(await client.model('org/model')).toEqual({ model: aModel(), files: [], source: null })
  expect(await client.link('org/model', [])).toMatchObject({ link: `cw://${someManifest}` })
  for (const urls of [
    ['https://a.example/m/?x=1&y=2'],
    ['https://a.example/', 'https://b.example/'],
  ]) {
    const link = `cw://${someManifest}${urls.map(url => `&ws=${url}`).join('')}`
    expect(await client.link('org/model', urls)).toMatchObject({ link })
  }
  expect(await client.pin('org/model', false)).toEqual({ ...aModel(), pinned: false })
  expect(await client.gc({ dryRun: true })).toMatchObject({ manifest: null })
  expect(await client.remove('org/model', { files: true })).toMatchObject({ filesDeleted: 1 })
  expect(await client.models()).toEqual([])
  expect((await client.config()).find(({ key }) => key === 'mdns')).toMatchObject({ value: true })
})

test('answers whom a node knows', async () => {
  await using control = await openControlDaemon(openFakeNode())
  const { client } = control
  expect(await client.peers()).toEqual([])
  expect(await client.connect(someAddress)).toEqual({
    type: 'connected',
    peerId: somePeer,
    address: someAddress,
  })
  expect(await client.peers()).toHaveLength(1)
  const events = await Array.fromAsync(client.providers('org/model'))
  expect(events).toEqual([
    expect.objectContaining({ type: 'provider', peerId: somePeer }),
    expect.objectContaining({ type: 'done', providers: 1 }),
  ])
})

const operations: [Parameters<Client['run']>[0], api.OperationRequest, api.OperationResult][] = [
  [
    { kind: 'seed', paths: ['/models'] },
    { kind: 'seed', paths: ['/models'] },
    { type: 'seeded', manifest: someManifest, name: null, files: 1, bytes: 5, link: 'cw://x' },
  ],
  // The defaults of the contract are filled in before the node sees it.
  [{ kind: 'pull', ref: 'ref' }, aPull('ref'), aResult()],
  [{ kind: 'verify' }, { kind: 'verify' }, { type: 'verified', files: 1, bytes: 5, bad: [] }],
]

test.for(operations)('streams the events of %o to its result', async ([asked, seen, result]) => {
  const node = openFakeNode({
    onStart(operation) {
      operation.emit({ type: 'notice', level: 'info', message: 'found' })
      operation.emit(aProgress(5))
      operation.finish(result)
    },
  })
  await using control = await openControlDaemon(node)
  expect(await Array.fromAsync(control.client.run(asked))).toEqual([
    { type: 'operation', id: 'op-1', attached: false },
    { type: 'notice', level: 'info', message: 'found' },
    aProgress(5),
    result,
  ])
  expect(node.started[0]?.request).toEqual(seen)
  expect(await control.client.operations()).toMatchObject([
    { id: 'op-1', kind: asked.kind, state: 'done' },
  ])
})

test('shows the limits of the bandwidth and changes them', async () => {
  await using control = await openControlDaemon(openFakeNode())
  const { client } = control
  const none = { type: 'limits', maxDown: null, maxUp: null, limitLan: false }
  expect(await client.limits()).toEqual(none)
  expect(await client.setLimits({ maxUp: 2_000_000 })).toEqual({ ...none, maxUp: 2_000_000 })
  expect(await client.setLimits({ maxDown: 100_000 })).toEqual({
    ...none,
    maxUp: 2_000_000,
    maxDown: 100_000,
  })
  expect(await client.setLimits({ maxUp: null })).toEqual({ ...none, maxDown: 100_000 })
  expect(await client.limits()).toEqual({ ...none, maxDown: 100_000 })
})

test.for([
  '{"maxUp":1}',
  '{"maxUp":"10MiB"}',
  '{"maxDown":-5}',
  '{"up":100000}',
  '{"maxUp":1e300}',
])('refuses the limits %s', async body => {
  await using control = await openControlDaemon(openFakeNode())
  const answer = await control.raw(api.routes.limits, { body })
  expect([answer.status, JSON.parse(answer.body)]).toMatchObject([400, { code: 'INVALID_INPUT' }])
  expect(await control.client.limits()).toMatchObject({ maxUp: null, maxDown: null })
})

test('attaches by id and by the same request, and cancels for all', async () => {
  const node = openFakeNode()
  await using control = await openControlDaemon(node)
  const { client } = control
  const first = client.run(aPull('ref'))[Symbol.asyncIterator]()
  await first.next()
  const followers = [client.run(aPull('ref')), client.attach('op-1')].map(events =>
    events[Symbol.asyncIterator](),
  )
  // They are attached with their first line.
  await Promise.all(followers.map(events => events.next()))
  const rejections = followers.map(events =>
    expect(events.next()).rejects.toMatchObject({ name: 'AbortError' }),
  )
  expect(await client.operations()).toHaveLength(1)
  expect(node.started).toHaveLength(1)
  await client.cancel('op-1')
  await Promise.all(rejections)
  await expect(first.next()).rejects.toMatchObject({ name: 'AbortError' })
  const { body } = await control.raw('/v1/operations/op-1')
  expect(JSON.parse(body)).toMatchObject({ state: 'cancelled' })
})

test('lets an operation outlive the command that started it', async () => {
  const node = openFakeNode()
  await using control = await openControlDaemon(node)
  const leave = new AbortController()
  const events = control.client.run(aPull('ref'), leave.signal)[Symbol.asyncIterator]()
  await events.next()
  leave.abort()
  await expect(events.next()).rejects.toMatchObject({ name: 'AbortError' })
  expect(node.started[0]?.signal.aborted).toBe(false)
  const again = Array.fromAsync(control.client.attach('op-1'))
  node.started[0]?.finish(aResult())
  expect((await again).at(-1)).toEqual(aResult())
})

test('resumes at its start what was pending when the last daemon stopped', async () => {
  const pending = [aPull('left-over')]
  await using control = await openControlDaemon(openFakeNode({ pending }))
  expect(await control.client.operations()).toMatchObject([
    { target: 'left-over', state: 'running' },
  ])
})

test('stops when asked, and by a command of any version', async () => {
  await using control = await openControlDaemon(openFakeNode())
  const headers = { host: 'localhost', 'commonweight-api': '99' }
  expect((await control.raw('/v1/stop', { method: 'POST', headers })).status).toBe(200)
  expect(control.daemon.stopAsked.aborted).toBe(true)
})

// Errors travel whole.

test('throws at the command what the node threw: class of error, message and hint', async () => {
  await using control = await openControlDaemon(openFakeNode())
  const { client } = control
  await expect(client.model('nope')).rejects.toMatchObject({
    code: 'NOT_FOUND',
    message: 'nope is not held here',
    hint: 'pull it',
  })
  await expect(client.connect('/ip4/10.0.0.1/tcp/1/x')).rejects.toMatchObject({
    code: 'UNAVAILABLE',
  })
  await expect(Array.fromAsync(client.providers('nope'))).rejects.toMatchObject({
    code: 'NOT_FOUND',
  })
  await expect(client.cancel('op-9')).rejects.toMatchObject({ code: 'NOT_FOUND' })
})

test('answers a bug with 500 and goes on', async () => {
  const node = openFakeNode()
  node.peers = () => {
    throw new TypeError('x is not a function')
  }
  await using control = await openControlDaemon(node)
  const { status, body } = await control.raw('/v1/peers')
  expect(status).toBe(500)
  expect(JSON.parse(body)).toMatchObject({ code: 'INTERNAL' })
  await expect(control.client.peers()).rejects.not.toHaveProperty('code')
  expect(await control.client.isRunning()).toBe(true)
})

// What is refused.

test.for([
  ['POST', '/v1/operations', '{"kind":"pull"}', 'ref'],
  ['POST', '/v1/operations', '{"kind":"dance"}', 'kind'],
  ['POST', '/v1/operations', '{"kind":"pull","ref":"x","too":"much"}', 'request'],
  ['POST', '/v1/operations', '{"kind":"seed","paths":[]}', 'paths'],
  ['POST', '/v1/operations', '{"kind":"pull","ref":"x","__proto__":{}}', 'malformed'],
  ['POST', '/v1/operations', '{"kind":', 'malformed'],
  ['POST', '/v1/operations', '', 'malformed'],
  ['POST', '/v1/operations', 'null', 'request'],
  ['POST', '/v1/model/pin', '{"ref":"x","pinned":"yes"}', 'pinned'],
  ['POST', '/v1/connect', '{}', 'address'],
  ['POST', '/v1/gc', '{"dryRun":1}', 'dryRun'],
  ['POST', '/v1/stop', '{"now":true}', 'request'],
  ['GET', '/v1/model', undefined, 'ref'],
  ['GET', `/v1/model?ref=${'x'.repeat(4097)}`, undefined, 'ref'],
  ['GET', '/v1/model?ref=a&ref=b', undefined, 'ref'],
  ['DELETE', '/v1/model?ref=a&files=maybe', undefined, 'files'],
  ['GET', `/v1/operations/${'x'.repeat(80)}`, undefined, 'id'],
  ['GET', `/v1/operations/${'x'.repeat(200)}`, undefined, 'malformed'],
  ['GET', '/v1/operations/%zz', undefined, 'malformed'],
] as const)('refuses %s %s %j', async ([method, path, body, word]) => {
  const node = openFakeNode()
  await using control = await openControlDaemon(node)
  const answer = await control.raw(path, body === undefined ? { method } : { method, body })
  expect(answer.status).toBe(400)
  const error = api.errorBodySchema.parse(JSON.parse(answer.body))
  expect(error.code).toBe('INVALID_INPUT')
  expect(error.message).toContain(word)
  expect(node.started).toEqual([])
  expect(control.daemon.stopAsked.aborted).toBe(false)
})

test.for([
  ['GET', '/'],
  ['GET', '/v1/nothing'],
  ['PUT', '/v1/gc'],
  ['HEAD', '/v1/status'],
  ['GET', '/v1/operations/../status/..'],
])('knows no route %s %s', async ([method = '', path = '']) => {
  await using control = await openControlDaemon(openFakeNode())
  const { status, body } = await control.raw(path, { method })
  expect(status).toBe(404)
  expect(body).toContain(method === 'HEAD' ? '' : '"code":"NOT_FOUND"')
})

test('refuses another version of the API, both ways', async () => {
  await using control = await openControlDaemon(openFakeNode())
  const headers = { host: 'localhost', 'commonweight-api': '2' }
  const { status, body } = await control.raw('/v1/status', { headers })
  expect(status).toBe(409)
  expect(JSON.parse(body)).toMatchObject({
    code: 'CONFLICT',
    hint: expect.stringContaining('stop') as string,
  })
  expect((await control.raw('/v1/status', { headers: { host: 'localhost' } })).status).toBe(400)

  await using scratch = await openScratchFolder()
  const paths = homePaths(scratch.path)
  const newer = createServer((_, response) => {
    response.writeHead(200, { 'commonweight-api': '2' }).end('{"type":"ok"}')
  }).listen(paths.socket)
  await once(newer, 'listening')
  const client = openClient(paths)
  await expect(client.status()).rejects.toThrow(ConflictError)
  expect(await client.isRunning()).toBe(true)
  await client.stop()
  newer.close()
})

test.for([
  ['a field', 400, { code: 'INVALID_INPUT', message: 'request: Unrecognized key: "order"' }],
  ['a route', 404, { code: 'NOT_FOUND', message: 'no such route: POST /v1/operations' }],
] as const)(
  'says that a daemon that does not know %s is an older one',
  async ([, status, body]) => {
    await using scratch = await openScratchFolder()
    const paths = homePaths(scratch.path)
    const headers: Record<string, string> = { 'commonweight-api': '1' }
    const server = createServer((_, response) => {
      response.writeHead(status, headers).end(JSON.stringify({ type: 'error', ...body }))
    }).listen(paths.socket)
    await once(server, 'listening')
    const asked = (): Promise<unknown> =>
      Array.fromAsync(openClient(paths).run({ kind: 'verify' })).catch((error: unknown) => error)
    // One from before contracts had a digest, one with another, and one with ours, which is right.
    const older = {
      code: 'CONFLICT',
      message: `the daemon is of another version than this command: ${body.message}`,
      hint: 'end it with commonweight stop, then run this again',
    }
    expect(await asked()).toMatchObject(older)
    headers[contractHeader] = '0123456789abcdef'
    expect(await asked()).toMatchObject(older)
    headers[contractHeader] = contractDigest()
    expect(await asked()).toMatchObject(body)
    server.close()
  },
)

const browserHeaders: Record<string, string>[] = [
  { origin: 'https://evil.example' },
  { referer: 'https://evil.example/page' },
  { 'sec-fetch-site': 'cross-site' },
  { host: 'evil.example' },
  { host: '127.0.0.1:4011' },
]

test.for(browserHeaders)('refuses what a web page sends: %o', async header => {
  const node = openFakeNode()
  await using control = await openControlDaemon(node)
  const headers = { host: 'localhost', 'commonweight-api': '1', ...header }
  const call = { method: 'POST', headers: { ...headers, 'content-type': 'application/json' } }
  for (const path of ['/v1/operations', '/v1/stop', '/v1/nothing']) {
    const { status, headers: answered } = await control.raw(path, { ...call, body: '{}' })
    expect(status).toBe(403)
    expect(answered['access-control-allow-origin']).toBeUndefined()
  }
  expect(control.daemon.stopAsked.aborted).toBe(false)
})

test.for(['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x'])(
  'refuses a body of type %s',
  async type => {
    const node = openFakeNode()
    await using control = await openControlDaemon(node)
    const headers = { host: 'localhost', 'commonweight-api': '1', 'content-type': type }
    const body = '{"kind":"verify"}'
    const { status } = await control.raw('/v1/operations', { method: 'POST', headers, body })
    expect(status).toBe(400)
    expect(node.started).toEqual([])
  },
)

test('refuses a body over 4 MiB before reading it', async () => {
  await using control = await openControlDaemon(openFakeNode())
  const socket = connect(control.paths.socket)
  socket.write(
    'POST /v1/operations HTTP/1.1\r\nhost: localhost\r\ncommonweight-api: 1\r\n' +
      'content-type: application/json\r\ncontent-length: 99999999999\r\n\r\n{',
  )
  const [answer] = (await once(socket, 'data')) as [Buffer]
  expect(answer.toString()).toMatch(/^HTTP\/1\.1 413 /)
  expect(answer.toString()).toContain('"code":"LIMIT"')
  socket.destroy()
})

test.for([
  ['no HTTP at all', '\u0000\u0001\u0002garbage\r\n\r\n'],
  ['no Host', 'GET /v1/status HTTP/1.1\r\ncommonweight-api: 1\r\n\r\n'],
  ['endless headers', `GET /v1/status HTTP/1.1\r\nhost: localhost\r\nx: ${'y'.repeat(64_000)}`],
  [
    'two lengths',
    'POST /v1/stop HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}',
  ],
])('refuses %s and goes on', async ([, bytes = '']) => {
  await using control = await openControlDaemon(openFakeNode())
  const socket = connect(control.paths.socket)
  socket.on('error', () => undefined)
  socket.write(bytes)
  const [answer] = (await once(socket, 'data')) as [Buffer]
  expect(answer.toString()).toMatch(/^HTTP\/1\.1 4\d\d /)
  socket.destroy()
  expect(await control.client.isRunning()).toBe(true)
  expect(control.daemon.stopAsked.aborted).toBe(false)
})

// Load and readers that do not read.

test('serves two hundred commands at once', async () => {
  const node = openFakeNode()
  await using control = await openControlDaemon(node)
  let attached = 0
  const runs = Array.from({ length: 100 }, async () => {
    const events: api.OperationEvent[] = []
    for await (const event of control.client.run(aPull('ref'))) {
      if (events.push(event) === 1) attached += 1
    }
    return events
  })
  const calls = Array.from({ length: 100 }, () => control.client.status())
  expect(await Promise.all(calls)).toHaveLength(100)
  // Each got its first line: who comes after the end would start anew.
  await expect.poll(() => attached).toBe(100)
  node.started[0]?.emit(aProgress(1))
  node.started[0]?.finish(aResult())
  const all = await Promise.all(runs)
  expect(all.filter(events => events.at(-1)?.type === 'pulled')).toHaveLength(100)
  expect(node.started).toHaveLength(1)
})

test('keeps nothing for a reader that does not read, and gives it the latest and the result', async () => {
  const node = openFakeNode()
  await using control = await openControlDaemon(node)
  const slow = connect(control.paths.socket)
  const body = JSON.stringify(aPull('ref'))
  slow.pause()
  slow.write(
    'POST /v1/operations HTTP/1.1\r\nhost: localhost\r\ncommonweight-api: 1\r\nconnection: close\r\n' +
      `content-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
  )
  await expect.poll(() => node.started).toHaveLength(1)
  const [operation] = node.started
  const before = heldBytes()
  // Two hundred megabytes of notices, each its own memory.
  for (let count = 0; count < 20_000; count += 1) {
    const message = Buffer.alloc(10_000, 'x').toString('latin1')
    operation?.emit({ type: 'notice', level: 'info', message })
    if (count % 100 === 0) await delay(0)
  }
  operation?.emit(aProgress(77))
  expect(heldBytes() - before).toBeLessThan(100 * 1024 * 1024)
  expect(await control.client.isRunning()).toBe(true)
  operation?.finish(aResult())
  let text = ''
  slow.on('data', (part: Buffer) => (text += part.toString()))
  slow.resume()
  await once(slow, 'close')
  expect(text).toContain('"bytesDone":77')
  expect(text).toContain('"type":"pulled"')
  expect(text.length).toBeLessThan(20 * 1024 * 1024)
})

test('ends within seconds though somebody does not read what they asked for', async () => {
  const node = openFakeNode()
  const control = await openControlDaemon(node)
  const stuck = connect(control.paths.socket)
  stuck.on('error', () => undefined)
  stuck.write('POST /v1/operations HTTP/1.1\r\nhost: localhost\r\n')
  await once(stuck, 'connect')
  const startedMs = performance.now()
  await control[Symbol.asyncDispose]()
  expect(performance.now() - startedMs).toBeLessThan(5000)
  expect(node.closed).toBe(true)
  stuck.destroy()
})

// The command's side, with a daemon that is not there or not well.

test('tells apart that no daemon runs: no home, no socket, a dead one', async () => {
  await using scratch = await openScratchFolder()
  const paths = homePaths(scratch.file('none'))
  expect(await openClient(paths).isRunning()).toBe(false)
  const error: unknown = await openClient(paths)
    .status()
    .catch((thrown: unknown) => thrown)
  expect(isNoDaemon(error)).toBe(true)
  expect(error).toMatchObject({ code: 'UNAVAILABLE', hint: 'start one: commonweight daemon' })
  const here = homePaths(scratch.path)
  await writeFile(here.socket, '')
  expect(await openClient(here).isRunning()).toBe(false)
  await rm(here.socket)
})

test.for([
  ['no JSON', 200, 'hello'],
  ['other JSON', 200, '{"type":"okay"}'],
  ['an error that is none', 500, '<html>'],
])('takes %s from a daemon for another version', async ([, status, body]) => {
  await using scratch = await openScratchFolder()
  const paths = homePaths(scratch.path)
  const odd = createServer((_, response) => {
    response.writeHead(Number(status), { 'commonweight-api': '1' }).end(body)
  }).listen(paths.socket)
  await once(odd, 'listening')
  await expect(openClient(paths).status()).rejects.toMatchObject({ code: 'CONFLICT' })
  odd.close()
})

test.for([
  ['before an answer', ''],
  [
    'in the middle of an answer',
    'HTTP/1.1 200 OK\r\ncommonweight-api: 1\r\ncontent-length: 9\r\n\r\n{',
  ],
  [
    'after an event',
    'HTTP/1.1 200 OK\r\ncommonweight-api: 1\r\nconnection: close\r\n\r\n' +
      '{"type":"operation","id":"a","attached":false}\n',
  ],
])('says that the connection was lost when the daemon dies %s', async ([, bytes = '']) => {
  await using scratch = await openScratchFolder()
  const paths = homePaths(scratch.path)
  const dying = createServer().listen(paths.socket)
  dying.on('connection', socket => {
    socket.removeAllListeners('data')
    socket.once('data', () => socket.end(bytes))
  })
  await once(dying, 'listening')
  const error: unknown = await Array.fromAsync(openClient(paths).run({ kind: 'verify' })).catch(
    (thrown: unknown) => thrown,
  )
  expect(error).toMatchObject({
    code: 'UNAVAILABLE',
    message: expect.stringContaining('lost') as string,
  })
  expect(isNoDaemon(error)).toBe(false)
  dying.close()
})

test('ends a call at once when its signal aborts', async () => {
  await using scratch = await openScratchFolder()
  const paths = homePaths(scratch.path)
  const silent = createServer(() => undefined).listen(paths.socket)
  await once(silent, 'listening')
  const signal = AbortSignal.timeout(50)
  await expect(openClient(paths).status(signal)).rejects.toMatchObject({ name: 'TimeoutError' })
  silent.closeAllConnections()
  silent.close()
})

test('has an HTTP status for every code of the taxonomy', async () => {
  const node = openFakeNode()
  await using control = await openControlDaemon(node)
  for (const [code, { http }] of Object.entries(errorTable)) {
    node.peers = () => {
      throw errorFromCode(code as keyof typeof errorTable, 'because')
    }
    const { status, body } = await control.raw('/v1/peers')
    expect([status, JSON.parse(body)]).toEqual([http, { type: 'error', code, message: 'because' }])
  }
})
