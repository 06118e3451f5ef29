/** A real node with a folder seeded under a name, and the gateway over it on a port of loopback. */

import { request, type IncomingHttpHeaders } from 'node:http'
import { buffer } from 'node:stream/consumers'
import { answerError, hubGateway } from '../../daemon/http/hub/hub.ts'
import { openHttp, type Plugin } from '../../daemon/http/server.ts'
import { prepareHome } from '../../daemon/home.ts'
import { homePaths } from '../../src/api/home.ts'
import { systemClock } from '../../src/core/clock.ts'
import { type CacheOptions, type Node, type NodeOptions, openNode } from '../../src/node.ts'
import { writeFiles } from './model-files.ts'
import { openScratchFolder } from './scratch-folder.ts'
import { recordingLog } from './store-fixture.ts'

export interface HubAnswer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: Buffer
  json(): unknown
}

export interface HubCall {
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
}

export interface HubGateway extends AsyncDisposable {
  readonly node: Node
  /** `http://127.0.0.1:PORT` */
  readonly url: string
  readonly port: number
  /** Method and path with query of every request, in order. */
  readonly requests: readonly string[]
  /** Everything that was logged, a line each. */
  readonly logged: readonly string[]
  /** A path in the scratch folder. */
  file(name: string): string
  seed(name: string, files: Readonly<Record<string, Uint8Array | string>>): Promise<string>
  /** A request of exactly this path. */
  ask(path: string, call?: HubCall): Promise<HubAnswer>
}

export async function openHubGateway(
  options: {
    readonly bootstrap?: readonly string[]
    readonly cache?: Partial<CacheOptions>
    /** A hub that is passed through. */
    readonly upstream?: string
    /** Larger files are given to huggingface_hub by Xet. */
    readonly plainBytesMax?: number
    /** Web seeds may lie on this machine. */
    readonly allowPrivate?: boolean
    /** Whoever asks is treated as one of another machine. */
    readonly isLan?: boolean
    readonly bandwidth?: NodeOptions['net']['bandwidth']
  } = {},
): Promise<HubGateway> {
  await using opening = new AsyncDisposableStack()
  const scratch = opening.use(await openScratchFolder())
  const paths = homePaths(scratch.file('home'))
  await prepareHome(paths)
  const { log, lines } = recordingLog()
  const net = {
    listen: ['/ip4/127.0.0.1/tcp/0'],
    announce: [],
    bootstrap: options.bootstrap ?? [],
    network: 'lan' as const,
    mdns: false,
    relay: false,
    lane: false,
    ...(options.bandwidth === undefined ? {} : { bandwidth: options.bandwidth }),
  }
  const node = opening.use(
    await openNode(
      { clock: systemClock, log },
      {
        version: '1.2.3',
        paths,
        net,
        storage: { reserveBytes: 0, reserveFraction: 0 },
        webSeeds: { allowPrivate: options.allowPrivate ?? false },
        gateway: {
          keep: 'cache',
          cacheBytes: undefined,
          upstream: options.upstream,
          ...options.cache,
        },
      },
    ),
  )
  const plugin = hubGateway(
    { gateway: node.gateway, clock: systemClock, log },
    {
      host: '127.0.0.1',
      allowed: ['hub.lab'],
      corsOrigins: ['https://app.lab'],
      ...(options.plainBytesMax === undefined ? {} : { plainBytesMax: options.plainBytesMax }),
      ...(options.isLan === true ? { isOurs: () => false } : {}),
    },
  )
  const requests: string[] = []
  const record: Plugin = app =>
    void app.addHook('onRequest', async ({ method, url }) => void requests.push(`${method} ${url}`))
  const listener = { host: '127.0.0.1', port: 0 }
  const server = opening.use(
    await openHttp(
      { log, refuse: (error, exchange) => answerError({ log }, error, exchange) },
      listener,
      [record, plugin],
    ),
  )
  const port = Number(new URL(server.address).port)
  const parts = opening.move()
  return {
    node,
    url: server.address,
    port,
    requests,
    logged: lines,
    file: name => scratch.file(name),
    async seed(name, files) {
      const folder = await writeFiles(scratch.file(name.replaceAll('/', '-')), files)
      const signal = new AbortController().signal
      const request = { kind: 'seed' as const, paths: [folder], name }
      const { manifest } = await node.seed(request, { signal, onEvent: () => undefined })
      return manifest
    },
    ask: (path, call) => ask(port, path, call),
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  }
}

function ask(port: number, path: string, call: HubCall = {}): Promise<HubAnswer> {
  const { method = call.body === undefined ? 'GET' : 'POST', headers = {}, body } = call
  return new Promise((resolve, reject) => {
    const asking = request({ port, host: '127.0.0.1', path, method, headers, agent: false })
    asking.once('response', response => {
      const { headers: given, statusCode = 0 } = response
      buffer(response).then(bytes => {
        const json = (): unknown => JSON.parse(bytes.toString())
        resolve({ status: statusCode, headers: given, body: bytes, json })
      }, reject)
    })
    asking.once('error', reject)
    asking.end(body)
  })
}
