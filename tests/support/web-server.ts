/** A web server on loopback that serves files in memory by range, and does worse when told to. */

import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface WebExchange {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  /** Decoded, without the first slash. */
  readonly path: string
  /** What is asked for, end exclusive; undefined without a Range. */
  readonly range: { readonly start: number; readonly end: number } | undefined
  /** Serves the file honestly. */
  readonly serve: () => void
}

export interface WebServer extends AsyncDisposable {
  /** Of the folder, with its last slash. */
  readonly url: string
  readonly requests: { readonly path: string; readonly headers: IncomingMessage['headers'] }[]
  /** Connections accepted so far, and the most at a time. */
  readonly connections: { all: number; peak: number; open: number }
  /** Answers from now on; honestly when undefined. */
  behave: ((exchange: WebExchange) => void) | undefined
}

export async function openWebServer(
  files: Readonly<Record<string, Uint8Array>> = {},
  behave?: WebServer['behave'],
): Promise<WebServer> {
  const http = createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url ?? '/', 'http://x').pathname).slice(1)
    server.requests.push({ path, headers: request.headers })
    const range = rangeOf(request)
    const serve = (): void => serveRange(response, files[path], range)
    response.on('error', () => undefined)
    if (server.behave === undefined) serve()
    else server.behave({ request, response, path, range, serve })
  })
  const connections = { all: 0, peak: 0, open: 0 }
  http.on('connection', socket => {
    connections.all += 1
    connections.open += 1
    connections.peak = Math.max(connections.peak, connections.open)
    socket.on('close', () => (connections.open -= 1))
  })
  http.listen(0, '127.0.0.1')
  await once(http, 'listening')
  const { port } = http.address() as AddressInfo
  const server: WebServer = {
    url: `http://127.0.0.1:${port}/`,
    requests: [],
    connections,
    behave,
    async [Symbol.asyncDispose]() {
      http.closeAllConnections()
      await new Promise(resolve => http.close(resolve))
    },
  }
  return server
}

function rangeOf({ headers }: IncomingMessage): WebExchange['range'] {
  const [, start, end] = /^bytes=(\d+)-(\d+)$/u.exec(headers.range ?? '') ?? []
  return start === undefined ? undefined : { start: Number(start), end: Number(end) + 1 }
}

function serveRange(
  response: ServerResponse,
  file: Uint8Array | undefined,
  range: WebExchange['range'],
): void {
  if (file === undefined) {
    response.writeHead(404).end('not here')
    return
  }
  const { start, end } = range ?? { start: 0, end: file.length }
  if (start >= file.length) {
    response.writeHead(416, { 'content-range': `bytes */${file.length}` }).end()
    return
  }
  const part = file.subarray(start, end)
  const headers = { 'content-length': part.length }
  if (range === undefined) response.writeHead(200, headers)
  else {
    const place = `bytes ${start}-${start + part.length - 1}/${file.length}`
    response.writeHead(206, { ...headers, 'content-range': place })
  }
  response.end(part)
}
