/** Limits of the bandwidth between real daemons: measured over ten seconds, and changed meanwhile. */

import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { openClient } from '../../src/api/client.ts'
import { limitsSchema } from '../../src/api/contract.ts'
import { homePaths } from '../../src/api/home.ts'
import { MiB, second } from '../../src/core/units.ts'
import {
  expectError,
  expectSameFiles,
  pull,
  seed,
  startPull,
  succeeded,
  useStage,
} from '../support/end-to-end.ts'
import type { Machine } from '../support/machine.ts'
import { seededBytes, writeFiles } from '../support/model-files.ts'
import { until } from '../support/poll.ts'

const stage = useStage()
/** Peers on loopback count. */
const limited = { env: { COMMONWEIGHT_BANDWIDTH_LIMIT_LAN: 'true' } }

async function startSeeder(
  name: string,
  bytes: number,
): Promise<{ machine: Machine; link: string }> {
  const machine = await stage.start(name, [], limited)
  const folder = await writeFiles(stage.file(`${name}-model`), {
    'weights.bin': seededBytes(name, bytes),
  })
  const { link } = await seed(machine, folder)
  return { machine, link }
}

async function bytesSent({ home }: Machine): Promise<number> {
  const peers = await openClient(homePaths(home)).peers()
  return peers.reduce((sum, peer) => sum + peer.bytesSent, 0)
}

/** What a machine sends in so many milliseconds, as bytes per second. */
async function uplinkOf(machine: Machine, ms: number): Promise<number> {
  // Each time is that of the answer.
  const [before, startMs] = [await bytesSent(machine), performance.now()]
  await delay(ms)
  const [after, endMs] = [await bytesSent(machine), performance.now()]
  return (after - before) / ((endMs - startMs) / second)
}

/** Never above it by more than `most`; a busy machine may not get there. */
function expectRate(rate: number, limit: number, most: number): void {
  expect(rate / limit).toBeLessThan(1 + most)
  expect(rate / limit).toBeGreaterThan(0.7)
}

test('two leechers share one limited uplink; a change holds within a second', async () => {
  const { machine, link } = await startSeeder('thin', 96 * MiB)
  succeeded(await machine.cw('limit', '--up', '4MiB'))
  const leechers = [await stage.start('left'), await stage.start('right')]
  const pulls = leechers.map(leecher =>
    startPull(leecher, link, '--to', stage.file(`${leecher.name}-copy`)),
  )
  await until('bytes flow', async () => ((await bytesSent(machine)) > MiB ? true : undefined))

  const rate = await uplinkOf(machine, 10 * second)
  const { last } = succeeded(await machine.cw('limit', '--up', '1MiB'))
  expect(limitsSchema.parse(last)).toMatchObject({ maxUp: MiB, maxDown: null, limitLan: true })
  await delay(second)
  const slower = await uplinkOf(machine, 4 * second)
  expectRate(rate, 4 * MiB, 0.05)
  expectRate(slower, MiB, 0.1)

  succeeded(await machine.cw('limit', '--up', 'off'))
  for (const { ended } of pulls) succeeded(await ended)
  for (const { name } of leechers) {
    await expectSameFiles(stage.file(`${name}-copy`), stage.file('thin-model'))
  }
})

test('a pull, and a node, fetch no faster than they are told', async () => {
  const { link } = await startSeeder('fast', 40 * MiB)
  const leecher = await stage.start('slow', [], limited)
  const byItself = await pull(leecher, link, '--to', stage.file('a'), '--max-down', '8MiB')
  expectRate(byItself.bytesFetched / byItself.seconds, 8 * MiB, 0.1)

  const other = await stage.start('slower', [], limited)
  succeeded(await other.cw('limit', '--down', '2MiB'))
  const running = startPull(other, link, '--to', stage.file('b'), '--max-down', '100MiB')
  const doneSoFar = async (): Promise<number> => {
    const operations = await openClient(homePaths(other.home)).operations()
    return operations[0]?.progress?.bytesDone ?? 0
  }
  await running.reached(({ bytesDone }) => bytesDone > 0)
  const [first, startMs] = [await doneSoFar(), performance.now()]
  await delay(5 * second)
  const done = (await doneSoFar()) - first
  expectRate(done / ((performance.now() - startMs) / second), 2 * MiB, 0.3)
  succeeded(await other.cw('limit', '--down', 'off'))
  const before = performance.now()
  succeeded(await running.ended)
  // The 28 MiB that are left would take 14 seconds.
  expect(performance.now() - before).toBeLessThan(10 * second)
})

test('a peer on the LAN is not held back by the limits of the nodes, unless that is asked for, but by the pull’s own', async () => {
  const machine = await stage.start('near')
  succeeded(await machine.cw('limit', '--up', '16KiB', '--down', '16KiB'))
  const folder = await writeFiles(stage.file('near-model'), {
    'a.bin': seededBytes('near', 8 * MiB),
  })
  const { link } = await seed(machine, folder)
  const leecher = await stage.start('neighbour')
  succeeded(await leecher.cw('limit', '--down', '16KiB'))
  const { seconds } = await pull(leecher, link, '--to', stage.file('n'))
  // 512 seconds at what it does not count for.
  expect(seconds).toBeLessThan(60)

  const other = await stage.start('polite')
  const slow = await pull(other, link, '--to', stage.file('p'), '--max-down', '1MiB')
  expectRate(slow.bytesFetched / slow.seconds, MiB, 0.3)
})

test('limits are refused with what is allowed', async () => {
  const machine = await stage.start('strict')
  expectError(await machine.cw('limit', '--up', '10Mbit'), 2, /"10Mbit" is no rate/)
  expectError(await machine.cw('pull', 'x', '--max-down', '1'), 2, /less than 16/)
  const { last } = succeeded(await machine.cw('limit'))
  expect(last).toEqual({ type: 'limits', maxDown: null, maxUp: null, limitLan: false })
})
