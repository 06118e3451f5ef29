/** A daemon in the test's own process: real home, lock and socket, around a fake node. */

import { request } from 'node:http'
import type { IncomingHttpHeaders } from 'node:http'
import { text } from 'node:stream/consumers'
import { openDaemon } from '../../daemon/compose.ts'
import type { Daemon } from '../../daemon/compose.ts'
import { loadConfig } from '../../daemon/config.ts'
import { openClient } from '../../src/api/client.ts'
import type { Client } from '../../src/api/client.ts'
import type { HomePaths } from '../../src/api/home.ts'
import { systemClock } from '../../src/core/clock.ts'
import { silentLog } from '../../src/core/log.ts'
import type { FakeNode } from './fake-node.ts'
import { openScratchFolder } from './scratch-folder.ts'

interface Answer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: string
}

interface RawCall {
  readonly method?: string
  readonly headers?: Record<string, string>
  readonly body?: string
}

export interface ControlDaemon extends AsyncDisposable {
  readonly daemon: Daemon
  readonly paths: HomePaths
  readonly client: Client
  /** A request as it is written, with the headers of our client unless others are given. */
  raw(path: string, call?: RawCall): Promise<Answer>
}

export async function openControlDaemon(node: FakeNode): Promise<ControlDaemon> {
  await using opening = new AsyncDisposableStack()
  const scratch = opening.use(await openScratchFolder())
  const config = await loadConfig({
    argv: ['--home', scratch.file('home'), '--http', 'off'],
    env: {},
  })
  let ids = 0
  const daemon = opening.use(
    await openDaemon(
      {
        clock: systemClock,
        log: silentLog,
        openNode: () => Promise.resolve(node),
        newId: () => `op-${(ids += 1)}`,
      },
      { config, version: '1.2.3' },
    ),
  )
  const { paths } = config
  const parts = opening.move()
  return {
    daemon,
    paths,
    client: openClient(paths),
    raw: (path, call) => rawRequest(paths.socket, path, call),
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  }
}

function rawRequest(socketPath: string, path: string, call: RawCall = {}): Promise<Answer> {
  const { method = call.body === undefined ? 'GET' : 'POST', body } = call
  const headers = call.headers ?? {
    host: 'localhost',
    'commonweight-api': '1',
    ...(body === undefined ? {} : { 'content-type': 'application/json' }),
  }
  return new Promise((resolve, reject) => {
    const asking = request({ socketPath, path, method, headers, agent: false }, response => {
      text(response).then(
        body => resolve({ status: response.statusCode ?? 0, headers: response.headers, body }),
        reject,
      )
    })
    asking.once('error', reject)
    asking.end(body)
  })
}
