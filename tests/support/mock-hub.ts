/**
 * A hub on loopback that answers as the Hugging Face Hub does (research: hub-protocol.md, sections 2 and 4):
 * lists in pages, small files by a relative redirect, large ones by a redirect to a CDN of another origin
 * whose ETag is not their hash, limits of requests with RateLimit headers. And worse, when told to.
 * tests/interop/mock-hub.test.ts runs the hub's own client against it.
 */

import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface MockFile {
  readonly bytes: Uint8Array
  /** In Git LFS; by its name when left out. */
  readonly lfs?: boolean
}

export interface MockRepo {
  readonly type?: 'model' | 'dataset' | 'space'
  readonly private?: boolean
  readonly gated?: 'auto' | 'manual' | false
  readonly disabled?: boolean
  readonly tags?: readonly string[]
  readonly cardData?: unknown
}

export interface MockRequest {
  readonly server: 'hub' | 'cdn'
  readonly method: string
  /** With the query. */
  readonly url: string
  readonly range: string | undefined
  readonly authorization: string | undefined
  readonly agent: string | undefined
}

export interface MockExchange extends MockRequest {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  /** Answers as a good hub does. */
  readonly serve: () => void
}

export interface MockHub extends AsyncDisposable {
  readonly url: string
  readonly cdnUrl: string
  readonly requests: MockRequest[]
  /** Of bodies of files, by server. */
  readonly bytesSent: { hub: number; cdn: number }
  /** A repository, or its new answers about itself. */
  repo(id: string, about?: MockRepo): void
  /** A new commit on `main`, and its id: one of its own unless it is that of a git repository. */
  commit(
    id: string,
    files: Readonly<Record<string, Uint8Array | MockFile>>,
    commitId?: string,
  ): string
  rename(from: string, to: string): void
  /** Signed URLs of the CDN given so far are refused from now on. */
  expireUrls(): void
  /** Answers from now on; as a good hub when undefined. */
  behave: ((exchange: MockExchange) => void) | undefined
}

export interface MockHubOptions {
  /** Entries of a page: 1000 at the hub. */
  readonly pageEntries?: number
  /** `resolve` requests that are answered in a window; then 429 until it is over. */
  readonly limit?: { readonly requests: number; readonly windowMs: number }
  /** Shows Xet hashes, as the hub does for what it stores so. */
  readonly xet?: boolean
  /** Access to gated repositories. */
  readonly token?: string
}

interface Commit {
  readonly id: string
  readonly files: ReadonlyMap<string, Stored>
}

interface Stored {
  readonly bytes: Buffer
  readonly oid: string
  /** Of files in LFS. */
  readonly sha256: string | undefined
  readonly pointerSize: number
}

interface Repo {
  id: string
  about: MockRepo
  readonly commits: Commit[]
}

const lfsNames = /\.(?:safetensors|bin|gguf|onnx|pt|h5)$/u

export async function openMockHub(options: MockHubOptions = {}): Promise<MockHub> {
  const state = new HubState(options)
  const hub = createServer((request, response) => state.handle('hub', request, response))
  const cdn = createServer((request, response) => state.handle('cdn', request, response))
  const hubUrl = await listen(hub)
  // Another port is another origin; another host name shows that nothing depends on the address.
  const cdnUrl = (await listen(cdn)).replace('127.0.0.1', 'localhost')
  state.urls = { hub: hubUrl, cdn: cdnUrl }
  return Object.assign(state.face, {
    url: hubUrl,
    cdnUrl,
    async [Symbol.asyncDispose]() {
      for (const server of [hub, cdn]) {
        server.closeAllConnections()
        await new Promise(resolve => server.close(resolve))
      }
    },
  })
}

async function listen(server: Server): Promise<string> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

class HubState {
  urls = { hub: '', cdn: '' }
  readonly face: Omit<MockHub, 'url' | 'cdnUrl' | typeof Symbol.asyncDispose>
  readonly #options: MockHubOptions
  readonly #repos = new Map<string, Repo>()
  readonly #renamed = new Map<string, string>()
  #epoch = 0
  #window = { startedMs: -Infinity, requests: 0 }

  constructor(options: MockHubOptions) {
    this.#options = options
    this.face = {
      requests: [],
      bytesSent: { hub: 0, cdn: 0 },
      behave: undefined,
      repo: (id, about = {}) => {
        const known = this.#repos.get(id.toLowerCase())
        if (known === undefined) this.#repos.set(id.toLowerCase(), { id, about, commits: [] })
        else known.about = about
      },
      commit: (id, files, commitId) => this.#commit(id, files, commitId),
      rename: (from, to) => {
        const repo = this.#repos.get(from.toLowerCase()) as Repo
        this.#repos.delete(from.toLowerCase())
        this.#repos.set(to.toLowerCase(), Object.assign(repo, { id: to }))
        this.#renamed.set(from.toLowerCase(), to)
      },
      expireUrls: () => (this.#epoch += 1),
    }
  }

  handle(server: 'hub' | 'cdn', request: IncomingMessage, response: ServerResponse): void {
    const { headers, method = 'GET', url = '/' } = request
    const seen: MockRequest = {
      server,
      method,
      url,
      range: headers.range,
      authorization: headers.authorization,
      agent: headers['user-agent'],
    }
    this.face.requests.push(seen)
    response.on('error', () => undefined)
    const serve = (): void => {
      if (server === 'cdn') this.#serveCdn(seen, response)
      else this.#serveHub(seen, response)
    }
    const { behave } = this.face
    if (behave === undefined) serve()
    else behave({ ...seen, request, response, serve })
  }

  #commit(
    id: string,
    files: Readonly<Record<string, Uint8Array | MockFile>>,
    commitId?: string,
  ): string {
    if (!this.#repos.has(id.toLowerCase())) this.face.repo(id)
    const repo = this.#repos.get(id.toLowerCase()) as Repo
    const stored = new Map<string, Stored>()
    for (const [path, file] of Object.entries(files)) {
      const bytes = Buffer.from('bytes' in file ? file.bytes : file)
      const isLfs = ('bytes' in file ? file.lfs : undefined) ?? lfsNames.test(path)
      stored.set(path, store(bytes, isLfs))
    }
    const text = JSON.stringify([
      id,
      repo.commits.length,
      ...[...stored].map(([p, s]) => [p, s.oid]),
    ])
    const commit = { id: commitId ?? sha1(text), files: stored }
    repo.commits.push(commit)
    return commit.id
  }

  #serveHub(seen: MockRequest, response: ServerResponse): void {
    const { pathname } = new URL(seen.url, this.urls.hub)
    const api = /^\/api\/(model|dataset|space)s\/([^/]+\/[^/]+)(\/.*)?$/u.exec(pathname)
    const cached =
      /^\/api\/resolve-cache\/(model|dataset|space)s\/([^/]+\/[^/]+)\/([^/]+)\/(.+)$/u.exec(
        pathname,
      )
    const resolve = /^\/(datasets\/|spaces\/)?([^/]+\/[^/]+)\/resolve\/([^/]+)\/(.+)$/u.exec(
      pathname,
    )
    if (cached !== null) {
      const [, , id = '', commit = '', path = ''] = cached
      response.setHeader('x-repo-commit', commit)
      this.#sendFile(seen, response, this.#find(id, commit)?.files.get(decodeURIComponent(path)))
    } else if (api !== null) {
      const [, type = '', id = '', rest = ''] = api
      this.#serveApi(seen, response, { type, id, rest })
    } else if (resolve !== null) {
      const [, folder = '', id = '', revision = '', path = ''] = resolve
      const type = folder === '' ? 'model' : folder.slice(0, -2)
      this.#serveResolve(seen, response, { type, id, revision, path: decodeURIComponent(path) })
    } else refuse(response, 404, undefined, 'Sorry, we cannot find the page you are looking for.')
  }

  #serveApi(
    seen: MockRequest,
    response: ServerResponse,
    { type, id, rest }: { type: string; id: string; rest: string },
  ): void {
    const moved = this.#renamed.get(id.toLowerCase())
    if (moved !== undefined) {
      response.writeHead(307, { location: seen.url.replace(id, moved) }).end()
      return
    }
    const repo = this.#open(seen, response, type, id)
    if (repo === undefined) return
    const [, what = 'info', revision = 'main'] =
      /^\/(revision|tree|refs)(?:\/([^/]+))?/u.exec(rest) ?? []
    const branches = { name: 'main', ref: 'refs/heads/main', targetCommit: repo.commits.at(-1)?.id }
    if (what === 'refs') {
      json(response, { branches: [branches], converts: [], tags: [] })
      return
    }
    const commit = this.#find(id, decodeURIComponent(revision))
    if (commit === undefined) refuse(response, 404, 'RevisionNotFound', 'Invalid rev id')
    else if (what === 'tree') this.#sendTree(seen, response, commit)
    else json(response, infoOf(repo, commit))
  }

  /** The repository, when who asks may see it. */
  #open(seen: MockRequest, response: ServerResponse, type: string, id: string): Repo | undefined {
    const repo = this.#repos.get(id.toLowerCase())
    const { token } = this.#options
    const isAllowed = token !== undefined && seen.authorization === `Bearer ${token}`
    if (repo === undefined || (repo.about.type ?? 'model') !== type) {
      refuse(response, isAllowed ? 404 : 401, 'RepoNotFound', 'Repository not found')
    } else if (repo.about.private === true && !isAllowed) {
      refuse(response, 401, 'RepoNotFound', 'Invalid username or password.')
    } else return repo
    return undefined
  }

  #sendTree(seen: MockRequest, response: ServerResponse, commit: Commit): void {
    const { searchParams, pathname } = new URL(seen.url, this.urls.hub)
    const pageEntries = this.#options.pageEntries ?? 1000
    const start = Number(searchParams.get('cursor') ?? 0)
    const entries = treeOf(commit, this.#options.xet ?? false)
    const end = start + pageEntries
    const next = `${this.urls.hub}${pathname}?recursive=true&cursor=${end}`
    if (end < entries.length) response.setHeader('link', `<${next}>; rel="next"`)
    json(response, entries.slice(start, end))
  }

  #serveResolve(
    seen: MockRequest,
    response: ServerResponse,
    where: { type: string; id: string; revision: string; path: string },
  ): void {
    if (this.#isOverLimit(response)) return
    const repo = this.#open(seen, response, where.type, where.id)
    if (repo === undefined) return
    const { token } = this.#options
    const isAllowed = token !== undefined && seen.authorization === `Bearer ${token}`
    if ((repo.about.gated ?? false) !== false && !isAllowed) {
      const message = `Access to model ${repo.id} is restricted.`
      refuse(response, seen.authorization === undefined ? 401 : 403, 'GatedRepo', message)
      return
    }
    const commit = this.#find(where.id, where.revision)
    const file = commit?.files.get(where.path)
    if (commit === undefined) {
      refuse(response, 404, 'RevisionNotFound', 'Invalid rev id')
      return
    }
    response.setHeader('x-repo-commit', commit.id)
    if (file === undefined) refuse(response, 404, 'EntryNotFound', 'Entry not found')
    else this.#redirect(response, { ...where, commit, file })
  }

  #redirect(
    response: ServerResponse,
    {
      type,
      id,
      path,
      commit,
      file,
    }: { type: string; id: string; path: string; commit: Commit; file: Stored },
  ): void {
    response.setHeader('accept-ranges', 'bytes')
    const encoded = path.split('/').map(encodeURIComponent).join('/')
    if (file.sha256 === undefined) {
      const place = `/api/resolve-cache/${type}s/${id}/${commit.id}/${encoded}?etag=%22${file.oid}%22`
      const text = `Temporary Redirect. Redirecting to ${place}`
      response.setHeader('etag', `"${file.oid}"`)
      response.writeHead(307, { location: place, 'content-length': text.length }).end(text)
      return
    }
    response.setHeader('x-linked-etag', `"${file.sha256}"`)
    response.setHeader('x-linked-size', file.bytes.length)
    if (this.#options.xet === true) response.setHeader('x-xet-hash', xetHash(file.sha256))
    const place = `${this.urls.cdn}/xet-bridge-us/${file.sha256}?Expires=${this.#epoch}&Signature=abc`
    const text = `Found. Redirecting to ${place}`
    response.writeHead(302, { location: place, 'content-length': text.length }).end(text)
  }

  #serveCdn(seen: MockRequest, response: ServerResponse): void {
    const { pathname, searchParams } = new URL(seen.url, this.urls.cdn)
    const sha256 = pathname.split('/').at(-1)
    if (searchParams.get('Expires') !== String(this.#epoch)) {
      response
        .writeHead(403, { 'content-type': 'application/xml' })
        .end('<Error>AccessDenied</Error>')
      return
    }
    const commits = [...this.#repos.values()].flatMap(({ commits: list }) => list)
    const files = commits.flatMap(({ files: list }) => [...list.values()])
    this.#sendFile(
      seen,
      response,
      files.find(file => file.sha256 === sha256),
    )
  }

  #sendFile(seen: MockRequest, response: ServerResponse, file: Stored | undefined): void {
    if (file === undefined) {
      refuse(response, 404, 'EntryNotFound', 'Entry not found')
      return
    }
    const { bytes } = file
    // At the CDN not the hash, and as long as one.
    const etag = seen.server === 'cdn' ? sha256Of(`cdn ${file.oid}`) : file.oid
    response.setHeader('etag', `"${etag}"`)
    response.setHeader('accept-ranges', 'bytes')
    const [, first, last = ''] = /^bytes=(\d+)-(\d*)$/u.exec(seen.range ?? '') ?? []
    const start = Number(first ?? 0)
    const end =
      first === undefined || last === '' ? bytes.length : Math.min(bytes.length, Number(last) + 1)
    if (first !== undefined && start >= bytes.length) {
      response.writeHead(416, { 'content-range': `bytes */${bytes.length}` }).end()
      return
    }
    const part = bytes.subarray(start, end)
    response.setHeader('content-length', part.length)
    response.setHeader('content-type', 'application/octet-stream')
    if (first !== undefined) {
      response.setHeader('content-range', `bytes ${start}-${end - 1}/${bytes.length}`)
    }
    response.writeHead(first === undefined ? 200 : 206)
    if (seen.method !== 'HEAD') this.face.bytesSent[seen.server] += part.length
    response.end(seen.method === 'HEAD' ? undefined : part)
  }

  #isOverLimit(response: ServerResponse): boolean {
    const { limit } = this.#options
    if (limit === undefined) return false
    const now = performance.now()
    if (now - this.#window.startedMs > limit.windowMs)
      this.#window = { startedMs: now, requests: 0 }
    this.#window.requests += 1
    const left = Math.max(0, limit.requests - this.#window.requests)
    const seconds = Math.ceil((this.#window.startedMs + limit.windowMs - now) / 1000)
    response.setHeader('ratelimit', `"resolvers";r=${left};t=${seconds}`)
    const policy = `"fixed window";"resolvers";q=${limit.requests};w=${limit.windowMs / 1000}`
    response.setHeader('ratelimit-policy', policy)
    if (this.#window.requests <= limit.requests) return false
    refuse(response, 429, undefined, 'We had to rate limit your IP.')
    return true
  }

  #find(id: string, revision: string): Commit | undefined {
    const repo = this.#repos.get(id.toLowerCase())
    return ['main', 'HEAD', 'refs/heads/main'].includes(revision)
      ? repo?.commits.at(-1)
      : repo?.commits.find(commit => commit.id === revision)
  }
}

function store(bytes: Buffer, isLfs: boolean): Stored {
  const sha256 = isLfs ? sha256Of(bytes) : undefined
  const pointer = `version https://git-lfs.github.com/spec/v1\noid sha256:${sha256}\nsize ${bytes.length}\n`
  const blob = isLfs ? Buffer.from(pointer) : bytes
  const oid = sha1(Buffer.concat([Buffer.from(`blob ${blob.length}\0`), blob]))
  return { bytes, oid, sha256, pointerSize: isLfs ? blob.length : 0 }
}

function treeOf(commit: Commit, xet: boolean): unknown[] {
  const paths = [...commit.files.keys()].toSorted()
  const folders = new Set(
    paths.flatMap(path => {
      const parts = path.split('/').slice(0, -1)
      return parts.map((_, index) => parts.slice(0, index + 1).join('/'))
    }),
  )
  return [
    ...[...folders].map(path => ({ type: 'directory', oid: sha1(path), size: 0, path })),
    ...paths.map(path => {
      const { oid, bytes, sha256, pointerSize } = commit.files.get(path) as Stored
      const file = { type: 'file', oid, size: bytes.length, path }
      if (sha256 === undefined) return file
      const lfs = { oid: sha256, size: bytes.length, pointerSize }
      return { ...file, lfs, ...(xet ? { xetHash: xetHash(sha256) } : {}) }
    }),
  ]
}

function infoOf({ id, about }: Repo, commit: Commit): unknown {
  return {
    _id: sha1(id).slice(0, 24),
    id,
    modelId: id,
    author: id.split('/')[0],
    sha: commit.id,
    lastModified: '2026-01-01T00:00:00.000Z',
    private: about.private ?? false,
    gated: about.gated ?? false,
    disabled: about.disabled ?? false,
    tags: about.tags ?? ['license:apache-2.0'],
    cardData: about.cardData ?? { license: 'apache-2.0' },
    siblings: [...commit.files.keys()].map(rfilename => ({ rfilename })),
  }
}

function json(response: ServerResponse, value: unknown): void {
  const body = JSON.stringify(value)
  response.writeHead(200, { 'content-type': 'application/json; charset=utf-8' }).end(body)
}

function refuse(
  response: ServerResponse,
  status: number,
  code: string | undefined,
  message: string,
): void {
  if (code !== undefined) response.setHeader('x-error-code', code)
  response.setHeader('x-error-message', message)
  response.writeHead(status, { 'content-type': 'application/json' })
  response.end(JSON.stringify({ error: message }))
}

function xetHash(sha256: string): string {
  return sha256Of(`xet ${sha256}`)
}

function sha1(bytes: string | Uint8Array): string {
  return createHash('sha1').update(bytes).digest('hex')
}

function sha256Of(bytes: string | Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}
