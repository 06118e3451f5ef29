/** Web seeds from the command: beside a peer, alone, named by a link, and refused. */

import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import {
  linkSchema,
  pulledSchema,
  type PulledEvent,
  type SeededEvent,
} from '../../src/api/contract.ts'
import { MiB } from '../../src/core/units.ts'
import {
  expectError,
  expectSameFiles,
  pull,
  seed,
  succeeded,
  useStage,
} from '../support/end-to-end.ts'
import { type Machine, startMachine } from '../support/machine.ts'
import { filesBelow, seededBytes, writeFiles } from '../support/model-files.ts'
import { openWebServer, type WebServer } from '../support/web-server.ts'

const files = {
  'config.json': Buffer.from('{"name":"web"}'),
  'onnx/model q4.bin': seededBytes('web q4', 3 * MiB),
  'weights.bin': seededBytes('web weights', 64 * MiB),
}

const stage = useStage()
let seeder: Machine
let server: WebServer
let folder: string
let seeded: SeededEvent

beforeAll(async () => {
  seeder = await stage.start('seeder')
  server = await openWebServer(
    Object.fromEntries(Object.entries(files).map(([path, bytes]) => [`models/${path}`, bytes])),
  )
  folder = await writeFiles(stage.file('original'), files)
  seeded = await seed(seeder, folder, '--name', 'org/web')
})

afterAll(() => server[Symbol.asyncDispose]())

function startAllowing(name: string): Promise<Machine> {
  const env = { COMMONWEIGHT_WEBSEED_ALLOW_PRIVATE: 'true' }
  return startMachine(stage.world, name, [seeder.address], { env })
}

function bytesFrom({ sources }: PulledEvent, id: string): number {
  return sources.find(({ peerId }) => peerId === id)?.bytes ?? 0
}

test('a peer and a web server serve one pull together', async () => {
  await using leecher = await startAllowing('racing')
  const url = `${server.url}models/`
  const to = stage.file('racing-copy')
  const pulled = await pull(leecher, seeded.link, '--to', to, '--web-seed', url)
  await expectSameFiles(to, folder)
  expect(bytesFrom(pulled, seeder.peerId)).toBeGreaterThan(0)
  expect(bytesFrom(pulled, url)).toBeGreaterThan(0)
})

test('with every peer gone, a web server completes what is known', async () => {
  await using leecher = await startAllowing('lonely')
  const to = stage.file('lonely-copy')
  await pull(leecher, seeded.link, '--to', to)
  await rm(join(to, 'weights.bin'))
  await rm(join(to, 'config.json'))
  await seeder.stop()
  const url = `${server.url}models/`
  const pulled = await pull(leecher, 'org/web', '--web-seed', url, '--find-timeout', '10')
  await expectSameFiles(to, folder)
  expect(pulled.sources).toEqual([{ peerId: url, bytes: pulled.bytesFetched }])
  seeder = await stage.start('seeder')
})

test('with nobody to tell the chunks, a web server gives files whole, and they are what the manifest says', async () => {
  await using leecher = await startAllowing('whole')
  const to = stage.file('whole-copy')
  await pull(leecher, seeded.link, '--to', to, '--include', 'config.json')
  await seeder.stop()
  const url = `${server.url}models/`
  const outcome = succeeded(await leecher.cw('pull', 'org/web', '--to', to, '--web-seed', url))
  const pulled = pulledSchema.parse(outcome.last)
  await expectSameFiles(to, folder)
  expect(pulled.sources).toEqual([{ peerId: url, bytes: pulled.bytesFetched }])
  expect(pulled.bytesFetched).toBe(67 * MiB)
  expect(outcome.lines).toContainEqual({
    type: 'notice',
    level: 'info',
    message: expect.stringContaining('is fetched whole'),
  })
  expect((await leecher.cw('verify', 'org/web')).code).toBe(0)
  seeder = await stage.start('seeder')
})

test('a web server that has other bytes is found out before they are anybody’s', async () => {
  const wrong = { ...files, 'weights.bin': seededBytes('something else', 64 * MiB) }
  await using liar = await openWebServer(
    Object.fromEntries(Object.entries(wrong).map(([path, bytes]) => [`models/${path}`, bytes])),
  )
  await using leecher = await startAllowing('deceived')
  const to = stage.file('deceived-copy')
  await pull(leecher, seeded.link, '--to', to, '--include', 'config.json')
  await seeder.stop()
  const words = ['--to', to, '--web-seed', `${liar.url}models/`, '--find-timeout', '8']
  const outcome = await leecher.cw('pull', 'org/web', ...words)
  expectError(outcome, 5, 'nobody serves what is missing')
  expect(outcome.lines).toContainEqual({
    type: 'notice',
    level: 'warn',
    message: expect.stringContaining('banned'),
  })
  // What was right before it lied is kept.
  expect(await filesBelow(to)).toEqual(['config.json', 'onnx/model q4.bin'])
  seeder = await stage.start('seeder')
})

test('a link names a web server, which is checked when it is written in', async () => {
  await using maker = await startAllowing('maker')
  await using leecher = await startAllowing('linked')
  const url = `${server.url}models/`
  await pull(maker, seeded.link, '--order', 'sequential')
  expectError(await seeder.cw('link', 'org/web', '--web-seed', url), 2, 'private address')
  const made = succeeded(await maker.cw('link', 'org/web', '--web-seed', url))
  const { link } = linkSchema.parse(made.last)
  const to = stage.file('linked-copy')
  const pulled = await pull(leecher, link, '--to', to)
  await expectSameFiles(to, folder)
  expect(bytesFrom(pulled, url)).toBeGreaterThan(0)
})

test('a host of the own network is refused unless that is configured; one of a link is left out', async () => {
  const leecher = await stage.start('strict', [seeder])
  const url = `${server.url}models/`
  const before = server.requests.length
  const refused = await leecher.cw('pull', seeded.link, '--web-seed', url)
  expectError(refused, 2, 'private address')
  // By a name, too, which tells only when it is looked up.
  const named = url.replace('http://127.0.0.1', 'https://localhost')
  const looked = await leecher.cw('pull', seeded.link, '--web-seed', named)
  expectError(looked, 2, 'leads to a private address')
  const to = stage.file('strict-copy')
  const outcome = succeeded(await leecher.cw('pull', `${seeded.link}&ws=${url}`, '--to', to))
  expect(pulledSchema.parse(outcome.last).sources.map(({ peerId }) => peerId)).toEqual([
    seeder.peerId,
  ])
  expect(outcome.lines).toContainEqual({
    type: 'notice',
    level: 'warn',
    message: expect.stringContaining('left out'),
  })
  expect(server.requests.length).toBe(before)
})
