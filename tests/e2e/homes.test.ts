/** The home of a daemon when something is wrong with it: shared, locked, damaged, of another version. */

import { chmod, mkdir, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { createServer, request } from 'node:http'
import { join } from 'node:path'
import { json } from 'node:stream/consumers'
import { beforeAll, describe, expect, test } from 'vitest'
import { apiVersion, apiVersionHeader, type SeededEvent } from '../../src/api/contract.ts'
import { homePaths } from '../../src/api/home.ts'
import { MiB } from '../../src/core/units.ts'
import {
  expectError,
  expectSameFiles,
  pull,
  seed,
  show,
  succeeded,
  useStage,
} from '../support/end-to-end.ts'
import { type Line, type Machine, runCw } from '../support/machine.ts'
import { seededBytes, writeFiles } from '../support/model-files.ts'
import { until } from '../support/poll.ts'

const stage = useStage({ allowedErrors: /models, names and pins are/ })

async function makeHome(name: string): Promise<string> {
  const home = stage.file(name)
  await mkdir(home, { mode: 0o700 })
  return home
}

function startIn(home: string): ReturnType<typeof runCw> {
  return runCw(stage.world, home, ['daemon', '--listen', '/ip4/127.0.0.1/tcp/0'])
}

describe('a daemon does not start', () => {
  test('on a home that another daemon has, and names its process', async () => {
    const running = await stage.start('running')
    const second = await startIn(running.home)
    expectError(second, 9, String(running.pid))
    expect(succeeded(await running.cw('status')).last['pid']).toBe(running.pid)
    await running.stop()
  })

  test('on a home or with a key that others can read', async () => {
    const home = await makeHome('shared')
    await chmod(home, 0o755)
    expectError(await startIn(home), 7, home)
    await chmod(home, 0o700)
    await writeFile(join(home, 'key'), 'x', { mode: 0o644 })
    const shared = await startIn(home)
    expectError(shared, 7, /key can be read by others/)
    expect(shared.last['hint']).toBe(`chmod 600 ${join(home, 'key')}`)
    await chmod(join(home, 'key'), 0o600)
    expectError(await startIn(home), 7, /does not hold an Ed25519 key/)
    expect(await readFile(join(home, 'key'), 'utf8')).toBe('x')
  })

  test.each([
    ['garbage', Buffer.from([0, 255, 1, 254, 61]), /line 1/],
    ['a wrong value', '[log]\nlevel = "loud"', /log\.level/],
    ['a wrong address', 'bootstrap = ["localhost:4011"]', /bootstrap/],
    ['an unknown key', '[storage]\nreserv_bytes = 1', /reserv_bytes/],
  ])('with %s in config.toml', async (what, text, message) => {
    const home = await makeHome(`config ${what}`)
    await writeFile(join(home, 'config.toml'), text)
    expectError(await startIn(home), 2, message)
    const started = await runCw(stage.world, home, ['status'])
    expect(started.code).toBe(2)
  })

  test('on a database of a newer version, which stays as it is', async () => {
    const machine = await stage.start('newer')
    await machine.stop()
    const { DatabaseSync } = await import('node:sqlite')
    const state = new DatabaseSync(join(machine.home, 'state.db'))
    state.exec('PRAGMA user_version = 999')
    state.close()
    const before = await readdir(machine.home)
    expectError(await startIn(machine.home), 7, /schema 999/)
    expect((await readdir(machine.home)).filter(name => name.includes('damaged'))).toEqual([])
    expect(before).toContain('state.db')
  })
})

test('a daemon whose home is deleted ends, and says why', async () => {
  const home = await makeHome('deleted')
  const { code, last } = await runCw(
    stage.world,
    home,
    ['daemon', '--listen', '/ip4/127.0.0.1/tcp/0'],
    ({ type }) => {
      // The daemon still writes to it: what comes in between is removed with the rest.
      if (type === 'ready') void rm(home, { recursive: true, force: true, maxRetries: 20 })
    },
  )
  expect(code).toBe(7)
  expect(last).toMatchObject({ code: 'STORAGE', message: expect.stringContaining(home) as string })
})

test("everything in a home is its owner's alone, also databases of an older version", async () => {
  const machine = await stage.start('private')
  const modes = async (): Promise<string[]> => {
    const names = (await readdir(machine.home)).filter(name => name !== 'models')
    const all = names.map(async name => {
      const { mode } = await stat(join(machine.home, name))
      return (mode & 0o077) === 0 ? [] : [name]
    })
    return (await Promise.all(all)).flat()
  }
  expect(await modes()).toEqual([])
  await machine.stop()
  for (const name of ['state.db', 'index.db', 'network.db']) {
    await chmod(join(machine.home, name), 0o644)
  }
  await stage.start('private')
  expect(await modes()).toEqual([])
})

test('config starts no daemon, and tells what the one that runs has instead', async () => {
  const home = await makeHome('configured')
  await writeFile(join(home, 'config.toml'), 'relay = true')
  const config = async (): Promise<Line> => {
    const { lines } = succeeded(await runCw(stage.world, home, ['config']))
    return lines.find(({ key }) => key === 'relay') ?? { type: 'nothing' }
  }
  const fromFile = { value: true, source: 'file', from: join(home, 'config.toml') }
  expect(await config()).toEqual({ type: 'setting', key: 'relay', ...fromFile })
  expect(await readdir(home)).toEqual(['config.toml'])

  await stage.start('configured')
  expect(await config()).not.toHaveProperty('running')
  await writeFile(join(home, 'config.toml'), '')
  const inDefault = { type: 'setting', key: 'relay', value: false, source: 'default' }
  expect(await config()).toEqual({ ...inDefault, from: 'default', running: fromFile })
})

describe('a damaged database is moved aside, and the models are served again', () => {
  let machine: Machine
  let puller: Machine
  let seeded: SeededEvent
  let folder: string
  let pulls = 0

  beforeAll(async () => {
    puller = await stage.start('puller')
    const foreign = await writeFiles(stage.file('foreign'), { 'b.bin': seededBytes('b', MiB + 9) })
    const { link } = await seed(puller, foreign, '--name', 'org/pulled')
    machine = await stage.start('damaged')
    folder = await writeFiles(stage.file('model'), {
      'a.bin': seededBytes('a', 3 * MiB),
      'config.json': '{}',
    })
    seeded = await seed(machine, folder, '--name', 'org/model')
    await pull(machine, link)
    // The copy of the state that a start makes now has both.
    await machine.stop()
    machine = await stage.start('damaged')
  })

  /** After kill -9 the latest changes are in the -wal file; after a stop all is in one file. */
  async function damage(
    name: string,
    how: (path: string) => Promise<void>,
    end: 'kill' | 'stop' = 'kill',
  ): Promise<void> {
    await machine[end]()
    await how(join(machine.home, name))
    machine = await stage.start('damaged')
  }

  async function expectServed(): Promise<void> {
    for (const [name, count] of [
      ['org/model', 2],
      ['org/pulled', 1],
    ] as const) {
      const { model, files } = await until(`${name} is indexed again`, async () => {
        const shown = await show(machine, name)
        return shown.model.state === 'complete' ? shown : undefined
      })
      expect(model).toMatchObject({ pinned: true, seeding: true, percent: 100 })
      expect(files).toHaveLength(count)
    }
    pulls += 1
    const to = ['--to', stage.file(`pulled ${pulls}`), '--no-seed']
    const pulled = await pull(puller, seeded.manifest, '--peer', machine.address, ...to)
    expect(pulled.sources).toEqual([{ peerId: machine.peerId, bytes: seeded.bytes }])
    await expectSameFiles(pulled.path, folder)
    succeeded(await puller.cw('rm', seeded.manifest))
  }

  const garbage = (path: string): Promise<void> => writeFile(path, seededBytes('garbage', 50_000))
  const tear = async (path: string): Promise<void> => {
    const bytes = await readFile(path)
    await writeFile(path, bytes.fill(0x5a, bytes.length / 2))
  }
  const cut = (path: string): Promise<void> => truncate(path, 5000)

  test.each<[string, string, (path: string) => Promise<void>, 'kill' | 'stop']>([
    ['index.db is garbage', 'index.db', garbage, 'kill'],
    ['index.db is torn', 'index.db', tear, 'stop'],
    ['index.db is cut short', 'index.db', cut, 'stop'],
    ['index.db is a folder', 'index.db', path => rm(path).then(() => mkdir(path)), 'kill'],
    ['state.db is garbage', 'state.db', garbage, 'kill'],
    ['state.db is cut short', 'state.db', cut, 'stop'],
    ['network.db is garbage', 'network.db', garbage, 'kill'],
  ])('%s', async (_what, name, how, end) => {
    const asideOf = async (): Promise<string[]> =>
      (await readdir(machine.home)).filter(file => file.startsWith(`${name}.damaged-`))
    const before = await asideOf()
    await damage(name, how, end)
    expect((await asideOf()).length).toBeGreaterThan(before.length)
    await expectServed()
  })

  test('index.db is gone', async () => {
    await damage('index.db', path => rm(path))
    await expectServed()
    expect((await machine.cw('verify')).code).toBe(0)
  })

  test('state.db and its copy are garbage: the models are unknown, their files untouched, and seeding brings them back', async () => {
    await writeFile(join(machine.home, 'state.db.backup'), 'garbage')
    await damage('state.db', garbage)
    const listed = await machine.cw('ls')
    expect(listed.lines).toEqual([])
    expect(listed.stderr).toMatch(
      /warning: .*state\.db was damaged: models, .* then delete .*damaged-/,
    )
    const again = await seed(machine, folder, '--name', 'org/model')
    expect(again.manifest).toBe(seeded.manifest)
    expect(
      (await seed(machine, join(machine.home, 'models/org/pulled'), '--name', 'org/pulled')).files,
    ).toBe(1)
    await expectServed()
  })
})

describe('a command and a daemon of different versions part with a clear word', () => {
  function ask(
    socketPath: string,
    headers: Record<string, string>,
    path: string,
  ): Promise<{ status: number | undefined; body: unknown }> {
    return new Promise((resolve, reject) => {
      const method = path.endsWith('stop') ? 'POST' : 'GET'
      const asked = request({ socketPath, path, method, headers }, response => {
        json(response).then(body => resolve({ status: response.statusCode, body }), reject)
      })
      asked.on('error', reject).end()
    })
  }

  test('an old command at a new daemon, which it may still stop', async () => {
    const machine = await stage.start('versions')
    const { socket } = homePaths(machine.home)
    const other = { host: 'localhost', [apiVersionHeader]: String(apiVersion + 1) }
    const refused = await ask(socket, other, '/v1/status')
    expect(refused).toMatchObject({ status: 409, body: { type: 'error', code: 'CONFLICT' } })
    expect((await ask(socket, { host: 'localhost' }, '/v1/status')).status).toBe(400)
    expect(await ask(socket, other, '/v1/stop')).toEqual({ status: 200, body: { type: 'ok' } })
    await until('it has stopped', async () =>
      (await readdir(machine.home)).includes('daemon.pid') ? undefined : true,
    )
  })

  test('a new command at an old daemon', async () => {
    const home = await makeHome('old')
    const old = createServer((_asked, response) => {
      response.setHeader(apiVersionHeader, String(apiVersion + 7)).end('{}')
    })
    await new Promise<void>(resolve => void old.listen(homePaths(home).socket, resolve))
    for (const verb of ['status', 'ls']) {
      const outcome = await runCw(stage.world, home, [verb])
      expectError(outcome, 9, /another version/)
      expect(outcome.last['hint']).toContain(`commonweight --home ${home} stop`)
    }
    old.close()
  })
})
