/** A web seed that is the web server most mirrors run: nginx, as its packages configure it. */

import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { systemClock } from '../../src/core/clock.ts'
import { silentLog } from '../../src/core/log.ts'
import { KiB, second } from '../../src/core/units.ts'
import { openWebSeeds } from '../../src/net/web/web-seeds.ts'
import { download } from '../../src/transfer/download.ts'
import { FakeFinder } from '../support/fake-source.ts'
import { freePort } from '../support/free-port.ts'
import { until } from '../support/poll.ts'
import { openScratchFolder, type ScratchFolder } from '../support/scratch-folder.ts'
import { openTestStore, type TestFile, testFile } from '../support/store-fixture.ts'

const nginx = process.env['NGINX'] ?? 'nginx'

async function nginxMissing(): Promise<string | undefined> {
  return promisify(execFile)(nginx, ['-v']).then(
    () => undefined,
    () => 'no nginx: put `nginx` on the PATH or its path into NGINX',
  )
}

/** Serves the folder `www`; packs what it can, as many sites do. */
async function startNginx(scratch: ScratchFolder): Promise<AsyncDisposable & { url: string }> {
  const port = await freePort()
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map(name => `${name}_temp_path ${scratch.file(name)};`)
    .join(' ')
  const config = `
    daemon off; worker_processes 1; pid ${scratch.file('nginx.pid')};
    events { worker_connections 64; }
    http {
      access_log ${scratch.file('access.log')}; ${temporary}
      gzip on; gzip_min_length 1; gzip_types *;
      default_type application/octet-stream;
      keepalive_requests 20;
      server {
        listen 127.0.0.1:${port}; root ${scratch.file('www')};
        location /resolve/ { if ($request_uri ~ ^/resolve/(.*)$) { return 307 /models/$1; } }
      }
    }`
  await writeFile(scratch.file('nginx.conf'), config)
  const words = ['-e', scratch.file('error.log'), '-c', scratch.file('nginx.conf')]
  const child = spawn(nginx, words, { stdio: 'ignore' })
  const gone = once(child, 'exit')
  const url = `http://127.0.0.1:${port}/`
  await until('nginx answers', () =>
    fetch(url).then(
      () => true as const,
      () => undefined,
    ),
  )
  return {
    url,
    async [Symbol.asyncDispose]() {
      child.kill('SIGTERM')
      await gone
    },
  }
}

const model: Record<string, TestFile> = {
  'config.json': testFile('nginx/config', [300]),
  'sub folder/50% & more#;é重.bin': testFile('nginx/odd', [4000, 4000]),
  'weights.bin': testFile(
    'nginx/weights',
    Array.from({ length: 64 }, () => 256 * KiB),
  ),
}

test.for(['models/', 'resolve/'])(
  'a model is pulled from nginx alone, by %s, with connections that end after 20 requests',
  async (path, context) => {
    const missing = await nginxMissing()
    if (missing !== undefined) return context.skip(missing)
    await using scratch = await openScratchFolder()
    // Its worker is another user where the tests run as root.
    await chmod(scratch.path, 0o755)
    for (const [name, { bytes }] of Object.entries(model)) {
      const place = join(scratch.file('www/models'), name)
      await mkdir(dirname(place), { recursive: true })
      await writeFile(place, bytes)
    }
    await using server = await startNginx(scratch)
    await using store = await openTestStore(scratch.path)
    const folder = scratch.file('target')
    const files = Object.entries(model).map(([name, { root, sha256, table }]) => {
      const known = { root, table, blame: undefined }
      const place = join(folder, name)
      return { path: name, size: table.size, sha256, root, place, table: known }
    })
    const notices: string[] = []
    const onNotice = (_: string, message: string): void => void notices.push(message)
    const deps = { store, clock: systemClock, log: silentLog, random: Math.random, onNotice }
    using seeds = openWebSeeds(
      deps,
      { named: [`${server.url}${path}`], hinted: [], files },
      { allowPrivate: true, agent: 'commonweight/test' },
    )
    await download(
      { ...deps, finder: seeds.finderOver(new FakeFinder()) },
      { keys: files.map(({ root }) => root), folder, files },
      {
        signal: context.signal,
        peers: [],
        patienceMs: 20 * second,
        onProgress: () => undefined,
        onNotice,
      },
    )
    expect(notices).toEqual([])
    for (const [name, { bytes }] of Object.entries(model)) {
      const same = Buffer.compare(await readFile(join(folder, name)), bytes) === 0
      expect({ name, same }).toEqual({ name, same: true })
    }
    const log = await readFile(scratch.file('access.log'), 'utf8')
    const answers = log.split('\n').map(line => /" (\d{3}) /u.exec(line)?.[1])
    const chunks = Object.values(model).reduce((sum, { table }) => sum + table.count, 0)
    expect(answers.filter(status => status === '206').length).toBeGreaterThanOrEqual(chunks)
    // A redirect is remembered: at most one for each of six requests that begin together.
    const redirects = answers.filter(status => status === '307').length
    expect(redirects).toBeLessThanOrEqual(path === 'models/' ? 0 : 3 * 6)
  },
)
