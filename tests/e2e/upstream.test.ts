/** A gateway that passes a hub through, as a lab runs it: the daemon with --upstream, killed and started again. */

import { afterAll, beforeAll, expect, test } from 'vitest'
import { modelSchema, type ModelView, statusSchema } from '../../src/api/contract.ts'
import { MiB } from '../../src/core/units.ts'
import { openStage, pull, type Stage, succeeded, expectSameFiles } from '../support/end-to-end.ts'
import type { Machine } from '../support/machine.ts'
import { type MockHub, openMockHub } from '../support/mock-hub.ts'
import { seededBytes, writeFiles } from '../support/model-files.ts'

const files = { 'config.json': Buffer.from('{}'), 'model.bin': seededBytes('passed', 100 * MiB) }

let stage: Stage
let hub: MockHub

beforeAll(async () => {
  stage = await openStage()
  hub = await openMockHub()
  hub.commit('org/Model', files)
})

afterAll(async () => {
  await hub[Symbol.asyncDispose]()
  await stage[Symbol.asyncDispose]()
})

function start(): Promise<Machine> {
  const env = {
    COMMONWEIGHT_HTTP_LISTEN: '127.0.0.1:0',
    COMMONWEIGHT_GATEWAY_UPSTREAM: hub.url,
    COMMONWEIGHT_BANDWIDTH_MAX_DOWN: '80MiB',
  }
  return stage.start('lab', [], { env })
}

async function urlOf(machine: Machine): Promise<string> {
  const { gateway } = statusSchema.parse(succeeded(await machine.cw('status')).last)
  return `${gateway}/org/Model/resolve/main/model.bin`
}

test('what was read of a hub is shared with peers, and a kill costs little of it', async () => {
  const killed = await start()
  const reading = await fetch(await urlOf(killed))
  let got = 0
  const broken = (async () => {
    for await (const part of reading.body as unknown as AsyncIterable<Uint8Array>) {
      got += part.length
      if (got > 60 * MiB) await killed.kill()
    }
  })()
  await expect(broken).rejects.toThrow(/terminated|closed/u)
  const before = hub.bytesSent.cdn
  const lab = await start()
  const whole = await (await fetch(await urlOf(lab))).arrayBuffer()
  expect(Buffer.from(whole).equals(files['model.bin'])).toBe(true)
  expect(hub.bytesSent.cdn - before).toBeLessThan(80 * MiB)
  const firstModel = async (): Promise<ModelView> =>
    modelSchema.parse(succeeded(await lab.cw('ls')).lines[0])
  await expect.poll(firstModel).toMatchObject({ name: 'org/Model', files: 2, pinned: false })
  const peer = await stage.start('peer', [lab])
  const { lines } = succeeded(await lab.cw('ls'))
  const to = stage.file('copy')
  await pull(peer, String(lines[0]?.['manifest']), '--to', to)
  await expectSameFiles(to, await writeFiles(stage.file('original'), files))
})
