/**
 * Run inside a network namespace whose loopback has public addresses: https servers there, one at home,
 * and what a web seed that begins at each of several URLs comes to. Prints one JSON object.
 *
 *   node public-web.ts KEY CERTIFICATE    two PEM files; the certificate is trusted
 */

import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createServer as createPlain } from 'node:http'
import { createServer, type Server } from 'node:https'
import type { RequestListener } from 'node:http'
import { setDefaultCACertificates } from 'node:tls'
import { systemClock } from '../../src/core/clock.ts'
import { silentLog } from '../../src/core/log.ts'
import { openWebSeeds } from '../../src/net/web/web-seeds.ts'
import { testFile } from './store-fixture.ts'

const [keyPath = '', certificatePath = ''] = process.argv.slice(2)
const [key, cert] = await Promise.all([keyPath, certificatePath].map(path => readFile(path)))
setDefaultCACertificates([String(cert)])
const file = testFile('web/public', [1000])
const reached: string[] = []

const names: Record<string, string[]> = {
  'mirror.test': ['8.8.8.8'],
  'cdn.test': ['9.9.9.9'],
  'home.test': ['10.1.2.3'],
  'wrong-name.test': ['8.8.8.8'],
}
/** By the first folder of the path. */
const redirects: Record<string, string> = {
  cdn: 'https://cdn.test/files/',
  literal: 'https://127.0.0.1/',
  spelled: 'https://2130706433/',
  mapped: 'https://[::ffff:127.0.0.1]/',
  home: 'https://home.test/files/',
  plain: 'http://cdn.test/',
  twice: 'https://cdn.test/home/',
  loop: 'https://mirror.test/loop/',
}

function serverAt(address: string): RequestListener {
  return (request, response) => {
    const url = request.url ?? '/'
    reached.push(address)
    const location = redirects[/^\/(\w+)\//u.exec(url)?.[1] ?? '']
    if (location !== undefined) {
      response.writeHead(302, { location: `${location}${url.split('/').at(-1)}` }).end()
      return
    }
    response.writeHead(206, { 'content-range': `bytes 0-999/1000`, 'content-length': 1000 })
    response.end(file.bytes)
  }
}

const servers: Server[] = []
for (const address of ['8.8.8.8', '9.9.9.9', '10.1.2.3', '127.0.0.1']) {
  for (const [port, server] of [
    [443, createServer({ key: String(key), cert: String(cert) }, serverAt(address))],
    [80, createPlain(serverAt(address))],
  ] as const) {
    server.listen(port, address)
    await once(server, 'listening')
    servers.push(server as Server)
  }
}

async function outcome(url: string, allowPrivate: boolean): Promise<string> {
  reached.length = 0
  const lookup = (host: string): Promise<readonly string[]> => Promise.resolve(names[host] ?? [])
  const files = [{ path: 'w.bin', root: file.root, size: 1000 }]
  try {
    using seeds = openWebSeeds(
      { clock: systemClock, log: silentLog, onNotice: () => undefined, lookup },
      { named: [url], hinted: [], files },
      { allowPrivate, agent: 'test' },
    )
    const chunk = { root: file.root, index: 0, offset: 0, length: 1000 }
    const { signal } = new AbortController()
    const bytes = await seeds.sources[0]?.fetchChunk(chunk, { signal })
    return `${bytes?.length} bytes by ${reached.join(' ')}`
  } catch (error) {
    return `${(error as { code?: string }).code}: ${(error as Error).message} by ${reached.join(' ')}`
  }
}

const results: Record<string, string> = {}
for (const path of ['', ...Object.keys(redirects).map(name => `${name}/`)]) {
  results[path] = await outcome(`https://mirror.test/${path}`, false)
  results[`${path} allowed`] = await outcome(`https://mirror.test/${path}`, true)
}
results['home'] = await outcome('https://home.test/', false)
results['home allowed'] = await outcome('https://home.test/', true)
results['home by http'] = await outcome('http://home.test/', true)
results['home to the net'] = await outcome('https://home.test/cdn/', true)
results['home to home'] = await outcome('https://home.test/home/', true)
results['mirror by http'] = await outcome('http://mirror.test/', true)
results['wrong name'] = await outcome('https://wrong-name.test/', false)
process.stdout.write(`${JSON.stringify(results)}\n`)
for (const server of servers) server.closeAllConnections()
for (const server of servers) server.close()
