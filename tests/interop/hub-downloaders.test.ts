/** aria2 and wget fetch from the gateway what only another node has, by many ranges, and go on when killed. */

import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { MiB, minute } from '../../src/core/units.ts'
import { type HubGateway, openHubGateway } from '../support/hub-gateway.ts'
import { witnessSha256 } from '../support/machine.ts'
import { seededBytes } from '../support/model-files.ts'
import { installed, needed } from './programs.ts'

const timeout = 5 * minute
const weights = seededBytes('weights for downloaders', 32 * MiB)
const digest = createHash('sha256').update(weights).digest('hex')

let far: HubGateway
beforeAll(async () => {
  far = await openHubGateway()
  await far.seed('org/model', { 'model.bin': weights })
})
afterAll(() => far[Symbol.asyncDispose]())

async function openNear(): Promise<HubGateway> {
  const near = await openHubGateway()
  near.node.name('near/model', far.node.link('org/model').link)
  return near
}

/** Runs it until so much of the file is there, and kills it. */
async function killedAt(
  bytes: number,
  { command, path }: { command: readonly [string, ...string[]]; path: string },
): Promise<void> {
  const [program, ...args] = command
  const child = spawn(program, args, { stdio: 'ignore' })
  const gone = once(child, 'exit')
  const written = (): Promise<number> =>
    stat(path).then(
      // What is on the disk: aria2 makes the file whole at once.
      ({ blocks }) => blocks * 512,
      () => 0,
    )
  while (child.exitCode === null && (await written()) < bytes) await sleep(5)
  child.kill('SIGTERM')
  await gone
}

test('aria2 by sixteen connections, killed and resumed', { timeout }, async context => {
  const aria2 = needed(await installed('aria2c'), context)
  await using near = await openNear()
  const folder = near.file('of-aria2')
  const args = [
    '--max-connection-per-server=16',
    '--split=16',
    '--min-split-size=1M',
    '--continue',
    '--file-allocation=none',
    `--checksum=sha-256=${digest}`,
    `--dir=${folder}`,
    '--quiet',
    `${near.url}/near/model/resolve/main/model.bin`,
  ]
  const path = join(folder, 'model.bin')
  const slowly = ['aria2c', '--max-overall-download-limit=24M', ...args] as const
  await killedAt(8 * MiB, { command: [...slowly], path })
  // Its control file: it knows that it is not done.
  expect((await stat(`${path}.aria2`)).size).toBeGreaterThan(0)
  await aria2.run(...args)
  expect(await witnessSha256(path)).toBe(digest)
  await expect(stat(`${path}.aria2`)).rejects.toMatchObject({ code: 'ENOENT' })
  // And what is here by now.
  await rm(folder, { recursive: true })
  await aria2.run(...args)
  expect(await witnessSha256(path)).toBe(digest)
})

test('wget, killed and resumed', { timeout }, async context => {
  const wget = needed(await installed('wget'), context)
  await using near = await openNear()
  const folder = near.file('of-wget')
  await mkdir(folder)
  const path = join(folder, 'model.bin')
  const url = `${near.url}/near/model/resolve/main/model.bin`
  const args = ['--no-proxy', '--quiet', '--continue', `--output-document=${path}`, url]
  await killedAt(8 * MiB, { command: ['wget', '--limit-rate=32m', ...args], path })
  const { size } = await stat(path)
  expect(size).toBeGreaterThan(0)
  expect(size).toBeLessThan(weights.length)
  await wget.run(...args)
  expect(await witnessSha256(path)).toBe(digest)
})
