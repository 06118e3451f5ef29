/** Where the gateway listens: as configured, and what becomes of a daemon whose port is taken. */

import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import { expect, test } from 'vitest'
import { openGateway } from '../../daemon/http/gateway.ts'
import { loadConfig } from '../../daemon/config.ts'
import { systemClock } from '../../src/core/clock.ts'
import { openFakeNode } from '../support/fake-node.ts'
import { openScratchFolder } from '../support/scratch-folder.ts'
import { recordingLog } from '../support/store-fixture.ts'

const { gateway } = openFakeNode()

async function configOf(...argv: string[]): ReturnType<typeof loadConfig> {
  await using scratch = await openScratchFolder()
  return await loadConfig({ argv: ['--home', scratch.file('home'), ...argv], env: {} })
}

async function takenPort(): Promise<{ port: number } & AsyncDisposable> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return { port, [Symbol.asyncDispose]: () => new Promise(done => server.close(() => done())) }
}

test('listens on loopback when nothing else is said', async () => {
  expect((await configOf()).settings['http.listen']).toBe('127.0.0.1:4080')
})

test('listens where it is told', async () => {
  const { log } = recordingLog()
  const config = await configOf('--http', '127.0.0.1:0')
  await using server = await openGateway({ gateway, clock: systemClock, log }, config)
  const answer = await fetch(`${server?.address ?? ''}/api/agent-harnesses`)
  expect(answer.status).toBe(200)
})

test('is off when it is told so', async () => {
  const { log } = recordingLog()
  const config = await configOf('--http', 'off')
  expect(await openGateway({ gateway, clock: systemClock, log }, config)).toBeUndefined()
})

test('a taken port that was asked for is an error', async () => {
  await using taken = await takenPort()
  const { log } = recordingLog()
  const config = await configOf('--http', `127.0.0.1:${taken.port}`)
  const opening = openGateway({ gateway, clock: systemClock, log }, config)
  await expect(opening).rejects.toMatchObject({ code: 'CONFLICT', hint: expect.any(String) })
})

test('a taken port that nobody asked for is a warning', async () => {
  await using taken = await takenPort()
  const { lines, log } = recordingLog()
  const { entries, settings } = await configOf()
  const config = { entries, settings: { ...settings, 'http.listen': `127.0.0.1:${taken.port}` } }
  expect(await openGateway({ gateway, clock: systemClock, log }, config)).toBeUndefined()
  expect(lines).toEqual([expect.stringMatching(/^warn: no gateway/)])
})

test('an address of another machine is the mistake of whoever wrote it', async () => {
  const { log } = recordingLog()
  const config = await configOf('--http', '192.0.2.77:4080')
  const opening = openGateway({ gateway, clock: systemClock, log }, config)
  await expect(opening).rejects.toMatchObject({ code: 'INVALID_INPUT' })
})

test.for(['4080', 'localhost', '127.0.0.1:', '127.0.0.1:99999', ':4080', 'on'])(
  'refuses %s for an address',
  async text => {
    await expect(configOf('--http', text)).rejects.toMatchObject({ code: 'INVALID_INPUT' })
  },
)

test.for(['a b', 'host:80', 'http://host'])('refuses %s for a host name', async text => {
  await expect(configOf('--allow-host', text)).rejects.toMatchObject({ code: 'INVALID_INPUT' })
})
