/**
 * Pulls that are interrupted: sources that go away and return, daemons that are stopped or killed. A
 * seeder with a chunk that rotted on its disk holds a pull in its middle for as long as a test needs.
 */

import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { pulledSchema, type PulledEvent, type SeededEvent } from '../../src/api/contract.ts'
import { MiB } from '../../src/core/units.ts'
import { flipByteKeepingStamp } from '../support/bit-rot.ts'
import {
  expectError,
  expectSameFiles,
  isWaiting,
  pull,
  seed,
  show,
  startPull,
  succeeded,
  useStage,
} from '../support/end-to-end.ts'
import type { Machine } from '../support/machine.ts'
import { filesBelow, seededBytes, writeFiles } from '../support/model-files.ts'
import { until } from '../support/poll.ts'

/** Of nothing. */
const unknownRef = 'bafyreigdmqpykrgxyaxtlafqpqhzrb7qy2rh75nldvfd4tucqmqqme5yje'

const stage = useStage()
let seeder: Machine

beforeAll(async () => {
  seeder = await stage.start('seeder')
})

interface HeldBack extends SeededEvent {
  readonly folder: string
  /** Puts the rotten chunk right, so that the seeder serves it. */
  readonly giveBack: () => Promise<void>
}

/** A seeded model of which one chunk cannot be served; `mib` chunks of 1 MiB each, and a small file. */
async function seedHoldingBack(name: string, mib: number): Promise<HeldBack> {
  const weights = seededBytes(name, mib * MiB)
  const files = { 'config.json': `{"name":"${name}"}`, 'weights.bin': weights }
  const folder = await writeFiles(stage.file(name), files)
  const seeded = await seed(seeder, folder, '--name', name)
  const at = Math.floor(mib / 2) * MiB + 77
  await flipByteKeepingStamp(join(folder, 'weights.bin'), at)
  return {
    ...seeded,
    folder,
    giveBack: async () => {
      await flipByteKeepingStamp(join(folder, 'weights.bin'), at)
      succeeded(await seeder.cw('verify', name))
    },
  }
}

/** The result of the pull that a daemon took up again by itself. */
async function resumedPull(machine: Machine, giveBack: () => Promise<void>): Promise<PulledEvent> {
  const running = await until('the pull goes on by itself', async () => {
    const { lines } = await machine.cw('operations')
    return lines.find(({ state }) => state === 'running')
  })
  await giveBack()
  const { last } = succeeded(await machine.cw('attach', String(running['id'])))
  return pulledSchema.parse(last)
}

test('when every seeder goes midway the pull ends with 5, and is completed when one returns', async () => {
  const model = await seedHoldingBack('abandoned', 12)
  const leecher = await stage.start('patient', [seeder])
  const pulling = startPull(leecher, model.link, '--find-timeout', '2')
  const { bytesDone } = await pulling.reached(isWaiting)
  await seeder.kill()
  expectError(await pulling.ended, 5, /./)

  const { model: half, files } = await show(leecher, 'abandoned')
  expect(half).toMatchObject({ state: 'partial', bytesHeld: bytesDone, percent: 91 })
  expect(files.map(({ path, state }) => [path, state])).toEqual([
    ['config.json', 'held'],
    ['weights.bin', 'partial'],
  ])
  expect((await filesBelow(half.path)).filter(path => path.endsWith('.part'))).toHaveLength(1)

  seeder = await stage.start('seeder')
  await model.giveBack()
  const pulled = await pull(leecher, model.manifest, '--peer', seeder.address)
  expect(pulled.bytesFetched).toBe(MiB)
  await expectSameFiles(pulled.path, model.folder)
})

test('a daemon that is stopped in a pull goes on with it when it starts again', async () => {
  const model = await seedHoldingBack('stopped', 6)
  const before = await stage.start('restarted', [seeder])
  const pulling = startPull(before, model.link)
  await pulling.reached(isWaiting)
  await before.stop()
  expectError(await pulling.ended, 5, /stopping/)

  const leecher = await stage.start('restarted', [seeder])
  const pulled = await resumedPull(leecher, model.giveBack)
  expect(pulled).toMatchObject({ manifest: model.manifest, bytesFetched: MiB })
  await expectSameFiles(pulled.path, model.folder)
})

test('kill -9 in the middle of a pull costs at most 32 MiB that are fetched again', async () => {
  const model = await seedHoldingBack('killed', 96)
  const before = await stage.start('crashed', [seeder])
  const pulling = startPull(before, model.link)
  const { bytesDone } = await pulling.reached(progress => progress.bytesDone >= 16 * MiB)
  await before.kill()
  expectError(await pulling.ended, 5, /./)

  const leecher = await stage.start('crashed', [seeder])
  const pulled = await resumedPull(leecher, model.giveBack)
  expect(pulled.bytesFetched).toBeLessThanOrEqual(model.bytes - bytesDone + 32 * MiB)
  expect(pulled.bytesFetched + pulled.bytesReused).toBe(model.bytes)
  await expectSameFiles(pulled.path, model.folder)
})

test('a pull asked for twice is one, and whoever attaches sees the same end', async () => {
  const model = await seedHoldingBack('followed', 3)
  const leecher = await stage.start('follower', [seeder])
  const first = startPull(leecher, model.link)
  await first.reached(isWaiting)
  const second = startPull(leecher, model.link)
  await second.reached(isWaiting)
  const { lines: operations } = await leecher.cw('operations')
  expect(operations).toMatchObject([{ kind: 'pull', state: 'running', target: model.link }])
  const attached = leecher.cw('attach')

  await model.giveBack()
  const outcomes = await Promise.all([first.ended, second.ended, attached])
  const results = outcomes.map(({ last }) => last)
  expect(results[0]).toMatchObject({ type: 'pulled', bytesFetched: model.bytes })
  expect(results).toEqual([results[0], results[0], results[0]])
  const starts = outcomes.map(({ lines }) => lines[0]?.['attached'])
  expect(starts).toEqual([false, true, true])
})

test('two who have different halves complete each other when every seeder is gone', async () => {
  const half = 8
  const files = { 'weights.bin': seededBytes('halves', 2 * half * MiB) }
  const sides = await Promise.all(
    ['low', 'high'].map(async (side, number) => {
      const folder = await writeFiles(stage.file(side), files)
      const whole = await stage.start(`${side} seeder`)
      const { manifest } = await seed(whole, folder)
      for (let chunk = 0; chunk < half; chunk += 1) {
        const rotten = number === 0 ? half + chunk : chunk
        await flipByteKeepingStamp(join(folder, 'weights.bin'), rotten * MiB)
      }
      const leecher = await stage.start(`${side} leecher`, [whole])
      const pulling = startPull(leecher, manifest)
      const { bytesDone } = await pulling.reached(isWaiting)
      expect(bytesDone).toBe(half * MiB)
      await whole.kill()
      return { leecher, pulling }
    }),
  )
  const [low, high] = sides as [(typeof sides)[0], (typeof sides)[0]]
  succeeded(await low.leecher.cw('connect', high.leecher.address))

  const ends = [await low.pulling.ended, await high.pulling.ended]
  const pulled = ends.map(outcome => pulledSchema.parse(succeeded(outcome).last))
  const original = await writeFiles(stage.file('halves'), files)
  for (const { path, bytesFetched } of pulled) {
    expect(bytesFetched).toBe(2 * half * MiB)
    await expectSameFiles(path, original)
  }
  expect(pulled[0]?.sources).toContainEqual({ peerId: high.leecher.peerId, bytes: half * MiB })
  expect(pulled[1]?.sources).toContainEqual({ peerId: low.leecher.peerId, bytes: half * MiB })
})

test('a REF that nobody knows ends with 4 when the time to find it is over', async () => {
  const seeker = await stage.start('seeker', [seeder])
  const unknown = [
    unknownRef,
    'bafkreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e',
    `sha256:${'ab'.repeat(32)}`,
  ]
  const startedMs = performance.now()
  const outcomes = await Promise.all(
    unknown.map(ref => seeker.cw('pull', ref, '--find-timeout', '2')),
  )
  for (const outcome of outcomes) expectError(outcome, 4, /(none of the|the one) .*sources? found/)
  // Without one, a pull looks for thirty seconds.
  expect(performance.now() - startedMs).toBeLessThan(28_000)
  expectError(await seeker.cw('pull', 'org/never-heard-of'), 4, /never-heard-of/)
})

test('a given peer that cannot be reached is named at once, and again in the end, with the reason', async () => {
  const seeker = await stage.start('lost')
  const gone = await stage.start('gone')
  const dead = gone.address
  await gone.stop()
  const port = seeder.address.split('/p2p/')[0]
  const wrong = `${port}/p2p/${gone.peerId}`
  const reasons = [
    [dead, /: connection refused \(127\.0\.0\.1:\d+\)$/u],
    [wrong, new RegExp(`: another peer answers there \\(${seeder.peerId}\\)$`, 'u')],
  ] as const
  for (const [peer, reason] of reasons) {
    const outcome = await seeker.cw('pull', unknownRef, '--peer', peer, '--find-timeout', '3')
    const told = outcome.lines.filter(({ type }) => type === 'notice')
    expect(told).toEqual([
      { type: 'notice', level: 'warn', message: expect.stringMatching(reason) as string },
    ])
    expectError(outcome, 4, reason)
    expect(outcome.last).toMatchObject({ hint: expect.stringMatching(/its own status shows/) })
  }
})

test('a malformed REF ends with 2 and says which forms there are', async () => {
  const malformed = [
    'bafyreigdmqpykrgxyaxtlafqpqhzrb7qy2rh75nldvfd4tucqmqqme5yj',
    'sha256:abc',
    'cw://nothing',
    'cw://bafkreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e',
    '../etc/passwd',
    'a\nb',
  ]
  for (const ref of malformed) expectError(await seeder.cw('pull', ref), 2, /./)
  const badPeer = await seeder.cw('pull', `sha256:${'ab'.repeat(32)}`, '--peer', 'localhost:4011')
  expectError(badPeer, 2, /localhost:4011/)
  expect((await seeder.cw('operations')).lines.filter(({ state }) => state === 'running')).toEqual(
    [],
  )
})
