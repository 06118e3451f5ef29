/** A gateway that is open to a network: what one address can take of it, and what pages may read. */

import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { MiB, second } from '../../src/core/units.ts'
import { type HubGateway, openHubGateway } from '../support/hub-gateway.ts'
import { seededBytes } from '../support/model-files.ts'

interface Visit {
  readonly socket: Socket
  readonly closed: Promise<unknown>
  /** What came so far. */
  readonly text: () => string
}

async function visit(hub: HubGateway, text: string): Promise<Visit> {
  const socket = connect(hub.port, '127.0.0.1')
  let answer = ''
  socket.on('data', bytes => (answer += bytes.toString('latin1')))
  socket.on('error', () => undefined)
  const closed = new Promise<void>(resolve => socket.once('close', () => resolve()))
  await once(socket, 'connect')
  socket.write(text)
  return { socket, closed, text: () => answer }
}

function get(path: string, agent = 'curl/8'): string {
  return `GET ${path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: ${agent}\r\n\r\n`
}

function flood(agent: string, count: number): string {
  const last = 'GET /api/models/none/last HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'
  return get('/api/models/none/none', agent).repeat(count - 1) + last
}

test('a flood of requests is told when to come back', async () => {
  await using hub = await openHubGateway({ isLan: true })
  const startedMs = performance.now()
  const { closed, text } = await visit(hub, flood('curl/8', 10_000))
  await closed
  const answered = (text().match(/HTTP\/1\.1 404 /g) ?? []).length
  const seconds = (performance.now() - startedMs) / second
  expect(answered).toBeGreaterThanOrEqual(2000)
  expect(answered).toBeLessThanOrEqual(2000 + 200 * seconds + 1)
  expect(text().match(/HTTP\/1\.1 429 /g)).toHaveLength(10_000 - answered)
  expect(text().match(/\r\nretry-after: 1\r\n/giu)).toHaveLength(10_000 - answered)
  await sleep(1.1 * second)
  expect((await hub.ask('/api/models/none/none')).status).toBe(404)
})

test('an old client that asks too much is told 503', async () => {
  await using hub = await openHubGateway({ isLan: true })
  const { closed, text } = await visit(hub, flood('unknown/None; hf_hub/0.36.2', 5000))
  await closed
  expect(text()).toMatch(/HTTP\/1\.1 503 .*\r\nretry-after: 1\r\n/isu)
})

test('an address has so many connections, and a new one for each that is gone', async () => {
  await using hub = await openHubGateway({ isLan: true })
  const visits = await Promise.all(Array.from({ length: 140 }, () => visit(hub, '')))
  const refusedNow = (): Visit[] =>
    visits.filter(({ socket }) => socket.destroyed || socket.readableEnded)
  await expect.poll(() => refusedNow().length).toBe(12)
  await sleep(second / 2)
  const refused = refusedNow()
  expect(refused).toHaveLength(12)
  for (const { text } of refused)
    expect(text()).toMatch(/^HTTP\/1\.1 429 .*\r\nRetry-After: 10\r\n/su)
  for (const { socket } of visits.slice(0, 2)) socket.destroy()
  for (const { socket } of visits) socket.destroy()
  await expect.poll(async () => (await hub.ask('/api/agent-harnesses')).status).toBe(200)
})

test('who sends slowly is cut off soon, and others are answered meanwhile', async () => {
  await using hub = await openHubGateway({ isLan: true })
  const startedMs = performance.now()
  const slow = await Promise.all(
    Array.from({ length: 100 }, () => visit(hub, 'GET / HTTP/1.1\r\nHost: localhost\r\n')),
  )
  const dripping = setInterval(() => {
    for (const { socket } of slow) if (socket.writable) socket.write('X: y\r\n')
  }, second / 2)
  expect((await hub.ask('/api/agent-harnesses')).status).toBe(200)
  await Promise.all(slow.map(({ closed }) => closed))
  clearInterval(dripping)
  expect(performance.now() - startedMs).toBeLessThan(30 * second)
})

test('bodies of questions that do not arrive hold a bounded number of places', async () => {
  await using hub = await openHubGateway({ isLan: true })
  await hub.seed('org/model', { 'config.json': '{}' })
  const path = '/api/models/org/model/paths-info/main'
  const head = `POST ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{`
  const slow = await Promise.all(Array.from({ length: 40 }, () => visit(hub, head)))
  const isBusy = ({ text }: Visit): boolean => text().startsWith('HTTP/1.1 503 ')
  await expect.poll(() => slow.filter(isBusy).length).toBe(8)
  await Promise.all(slow.map(({ closed }) => closed))
  const headers = { 'content-type': 'application/json' }
  const body = '{"paths":["config.json"]}'
  expect((await hub.ask(path, { headers, body })).json()).toHaveLength(1)
  expect((await hub.ask(path, { headers, body: 'x'.repeat(MiB + 1) })).status).toBe(413)
})

test('readers who take nothing hold half of the places, and little memory', async () => {
  await using hub = await openHubGateway({ isLan: true })
  await hub.seed('org/large', { 'large.bin': seededBytes('large', 24 * MiB) })
  const path = '/org/large/resolve/main/large.bin'
  const before = process.memoryUsage().rss
  const visits = await Promise.all(
    Array.from({ length: 100 }, async () => {
      const made = await visit(hub, get(path))
      made.socket.pause()
      return made
    }),
  )
  const headers = { 'user-agent': 'hf_hub/1.33.0' }
  await expect.poll(async () => (await hub.ask(path, { headers })).status).toBe(429)
  expect((await hub.ask(path, { headers })).headers['retry-after']).toBe('10')
  expect(process.memoryUsage().rss - before).toBeLessThan(400 * MiB)
  for (const { socket } of visits) socket.destroy()
  await expect.poll(async () => (await hub.ask(path)).body.length).toBe(24 * MiB)
})

test('a page of a configured origin may read, without credentials, and no other page', async () => {
  await using hub = await openHubGateway()
  await hub.seed('org/model', { 'config.json': '{"a":1}' })
  const path = '/org/model/resolve/main/config.json'
  const page = { origin: 'https://app.lab', 'sec-fetch-site': 'cross-site' }
  for (const each of [path, '/api/models/org/model', '/org/model/resolve/main/none']) {
    const { headers } = await hub.ask(each, { headers: page })
    expect(headers).toMatchObject({
      'access-control-allow-origin': 'https://app.lab',
      'access-control-expose-headers': expect.stringContaining('X-Repo-Commit'),
      vary: 'Origin',
    })
    expect(headers).not.toHaveProperty('access-control-allow-credentials')
  }
  const asked = { ...page, 'access-control-request-method': 'GET' }
  const preflight = await hub.ask(path, { method: 'OPTIONS', headers: asked })
  expect(preflight.status).toBe(204)
  expect(preflight.headers).toMatchObject({
    'access-control-allow-origin': 'https://app.lab',
    'access-control-allow-methods': 'GET, HEAD, POST',
    'access-control-allow-headers': expect.stringContaining('Range'),
  })
  for (const origin of ['https://evil.test', 'null', 'https://app.lab.evil.test']) {
    for (const method of ['GET', 'OPTIONS']) {
      const { headers, status } = await hub.ask(path, { method, headers: { ...asked, origin } })
      expect([origin, method, status]).toEqual([origin, method, 403])
      expect(headers).not.toHaveProperty('access-control-allow-origin')
    }
  }
  // A page that is let in writes no more than others do, and a name that is not ours stays none.
  const upload = await hub.ask('/api/repos/create', { method: 'POST', headers: page, body: '{}' })
  expect(upload.status).toBe(403)
  const rebound = await hub.ask(path, { headers: { ...page, host: 'evil.test' } })
  expect(rebound.status).toBe(421)
  // What a program gets is for no page, and caches are told so.
  const plain = await hub.ask(path)
  expect(plain.headers).toMatchObject({ vary: 'Origin' })
  expect(plain.headers).not.toHaveProperty('access-control-allow-origin')
})
