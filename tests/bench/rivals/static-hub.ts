/**
 * A hub as fast as a hub can be: nginx with the files on its disk, and for everything else the answers
 * that a gateway gave, headers and all.
 */

import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { answering, freePort, startServer } from './rival.ts'

/** The headers that clients of a hub look at. */
const kept = ['etag', 'x-repo-commit', 'x-linked-etag', 'x-linked-size']

export interface StaticHub extends AsyncDisposable {
  readonly url: string
  readonly pid: number
}

interface Copied {
  /** Regular expression of nginx, of the path without its query. */
  readonly location: string
  readonly directives: string
}

/** Serves `repository` of the gateway at `gateway`, whose files lie in `folder`. */
export async function startStaticHub(
  scratch: string,
  { gateway, repository, folder }: { gateway: string; repository: string; folder: string },
): Promise<StaticHub> {
  const answers = join(scratch, 'answers')
  const api = `/api/models/${repository}`
  const { sha } = (await (await fetch(`${gateway}${api}`)).json()) as { sha: string }
  const tree = `${api}/tree/${sha}?recursive=true&expand=false`
  const entries = (await (await fetch(gateway + tree)).json()) as { type: string; path: string }[]
  const copied = [
    await copyAnswer(answers, gateway, api),
    await copyAnswer(answers, gateway, `${api}/revision/main`),
    await copyAnswer(answers, gateway, tree),
  ]
  for (const { path, type } of entries) {
    if (type !== 'file') continue
    copied.push(await copyHead({ gateway, repository, sha, path, place: join(folder, path) }))
  }
  return startNginx(scratch, copied)
}

async function copyAnswer(answers: string, gateway: string, path: string): Promise<Copied> {
  const place = join(answers, path.split('?', 1)[0] ?? '', 'answer.json')
  await mkdir(dirname(place), { recursive: true })
  await writeFile(place, await (await fetch(gateway + path)).text())
  return {
    location: `= ${path.split('?', 1)[0]}`,
    directives: `alias ${place}; default_type application/json;`,
  }
}

async function copyHead(file: {
  gateway: string
  repository: string
  sha: string
  path: string
  place: string
}): Promise<Copied> {
  const { gateway, repository, sha, path, place } = file
  const location = `/${repository}/resolve/${sha}/${path}`
  const { headers } = await fetch(gateway + location, { method: 'HEAD' })
  const added = kept
    .filter(name => headers.has(name))
    .map(name => `add_header ${name} '${headers.get(name)}';`)
  return { location: `= ${location}`, directives: `alias ${place}; etag off; ${added.join(' ')}` }
}

async function startNginx(scratch: string, copied: readonly Copied[]): Promise<StaticHub> {
  const port = await freePort()
  const config = join(scratch, `static-hub-${port}.conf`)
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map(name => `${name}_temp_path ${join(scratch, `static-hub-${name}`)};`)
    .join(' ')
  const locations = copied.map(
    ({ location, directives }) => `location ${location} { ${directives} }`,
  )
  await writeFile(
    config,
    `${process.getuid?.() === 0 ? 'user root; ' : ''}daemon off; master_process off; error_log stderr;
     pid ${join(scratch, `static-hub-${port}.pid`)};
     events {} http { access_log off; sendfile on; tcp_nopush on; ${temporary}
       default_type application/octet-stream;
       server { listen 127.0.0.1:${port};
         ${locations.join('\n')}
         location / { default_type application/json; return 404 '{"error":"not here"}'; } } }`,
  )
  const server = startServer('nginx', ['-c', config])
  await answering(port)
  return {
    url: `http://127.0.0.1:${port}`,
    pid: server.pid,
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  }
}
