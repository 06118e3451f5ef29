/** Rows about the line between peers: a thin uplink that feeds a crowd, a long round trip, many at once, churn. */

import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { seededSchema } from '../../../src/api/contract.ts'
import { formatBytes, formatRate, MiB, second } from '../../../src/core/units.ts'
import { type Machine, startMachine } from '../../support/machine.ts'
import { interleave, median, ratioOf } from '../bench.ts'
import { type DelayProxy, startDelayProxy } from '../delay-proxy.ts'
import { startNginx } from '../rivals/nginx.ts'
import { freePort, onPath } from '../rivals/rival.ts'
import { runCommand, watchUse } from '../use.ts'
import { type Bed, pullAfresh, pullOn, type Row, startLeecher, startSeeders } from './bed.ts'

interface DistantSeeder extends AsyncDisposable {
  readonly machine: Machine
  readonly link: string
  /** Through the proxy: the only address that others are told. */
  readonly address: string
}

/** A daemon behind each port of a proxy, whose own address nobody learns. */
async function startDistantSeeders(
  bed: Bed,
  folder: string,
  count: number,
  line: { roundTripMs?: number; rate?: number },
): Promise<{ seeders: DistantSeeder[]; restart(index: number): Promise<void> } & AsyncDisposable> {
  await using parts = new AsyncDisposableStack()
  const ports: number[] = []
  for (let index = 0; index < count; index += 1) ports.push(await freePort())
  const proxy: DelayProxy = parts.use(await startDelayProxy(ports, line))
  const seeders: DistantSeeder[] = []
  const name = `distant-${ports[0]}`
  const start = async (index: number): Promise<void> => {
    const announced = `/ip4/127.0.0.1/tcp/${proxy.ports[index]}`
    const machine = await startMachine(bed.world, `${name}-${index}`, [], {
      listen: `/ip4/127.0.0.1/tcp/${ports[index]}`,
      env: { COMMONWEIGHT_ANNOUNCE: announced },
    })
    const { link } = seededSchema.parse((await machine.cw('seed', folder)).last)
    seeders[index] = {
      machine,
      link,
      address: `${announced}/p2p/${machine.peerId}`,
      [Symbol.asyncDispose]: () => machine[Symbol.asyncDispose](),
    }
  }
  parts.defer(async () => {
    for (const seeder of seeders) await seeder[Symbol.asyncDispose]()
  })
  for (let index = 0; index < count; index += 1) await start(index)
  const owned = parts.move()
  return { seeders, restart: start, [Symbol.asyncDispose]: () => owned.disposeAsync() }
}

/**
 * For whoever pulls over a line: told to others as a port where nobody listens, so that no seeder calls
 * it back around the line.
 */
const notCalledBack = { env: { COMMONWEIGHT_ANNOUNCE: '/ip4/127.0.0.1/tcp/1' } }

/** A figure that is better than the line allows is a figure of something else. */
function checkLine(bytes: number, rate: number, seconds: number): void {
  const allowed = rate * seconds * 1.03
  if (bytes <= allowed) return
  throw new Error(`${formatBytes(bytes)} in ${seconds.toFixed(1)} s: they went around the line`)
}

/** One uplink U; everybody is done when the last one is. */
export const uplink: Row = {
  name: 'uplink',
  async run(bed) {
    const mib = bed.quick ? 64 : 512
    const rate = (bed.quick ? 16 : 32) * MiB
    const folder = await bed.model(mib)
    const ratios: number[] = []
    for (let round = 0; round < bed.rounds; round += 1) {
      await using distant = await startDistantSeeders(bed, folder, 1, { rate })
      const [seeder] = distant.seeders as [DistantSeeder]
      await using parts = new AsyncDisposableStack()
      const leechers: Machine[] = []
      for (let n = 0; n < 4; n += 1) leechers.push(parts.use(await startLeecher(bed)))
      const started = performance.now()
      const pulls = await Promise.all(leechers.map(leecher => pullOn(leecher, seeder.link)))
      const seconds = (performance.now() - started) / second
      ratios.push(seconds / ((mib * MiB) / rate))
      const fromSeeder = pulls.flatMap(({ result }) => result.sources)
      const sent = fromSeeder
        .filter(({ peerId }) => peerId === seeder.machine.peerId)
        .reduce((sum, { bytes }) => sum + bytes, 0)
      checkLine(sent, rate, seconds)
      process.stderr.write(
        `  round ${round + 1}: ${seconds.toFixed(1)} s, the seeder gave ${formatBytes(sent)} of ${mib} MiB\n`,
      )
    }
    bed.report.bar({
      name: `one seeder with uplink U (${formatRate(rate)}), four leechers: time of ${mib} MiB at U`,
      value: median(ratios),
      must: 1.35,
      goal: 1.15,
      more: false,
      unit: 'x',
    })
  },
}

/** Against nginx and curl -o through a proxy of the same kind: what one TCP connection can do there. */
export const distance: Row = {
  name: 'distance',
  async run(bed) {
    if (!onPath('nginx') || !onPath('curl')) {
      process.stdout.write('skipped: distance: nginx and curl make the raw copy\n')
      return
    }
    const folder = await bed.model(bed.mib)
    // As fast as the proxy is, and one that is no faster than a good line.
    for (const [line, rate] of [
      ['no limit', undefined],
      ['1 Gbit/s', 125e6],
    ] as const) {
      const shape = { roundTripMs: 50, ...(rate === undefined ? {} : { rate }) }
      await using distant = await startDistantSeeders(bed, folder, 1, shape)
      const [seeder] = distant.seeders as [DistantSeeder]
      await using nginx = await startNginx(bed.world.folder, folder)
      await using raw = await startDelayProxy([nginx.port], shape)
      const target = join(bed.world.folder, 'raw-copy')
      const times = await interleave(
        {
          'raw copy': async () => {
            const url = `http://127.0.0.1:${raw.ports[0]}/weights.bin`
            const { seconds } = await runCommand('curl', ['-sSf', '-o', target, url])
            await rm(target)
            return seconds
          },
          pull: async () =>
            (await pullAfresh(bed, seeder.link, { machine: notCalledBack })).seconds,
        },
        bed.rounds,
      )
      const rawRate = (bed.mib * MiB) / median(times.get('raw copy') ?? [])
      bed.report.bar({
        name: `50 ms round trip, ${line}: speed of a raw TCP copy at ${formatRate(rawRate)} (${bed.mib} MiB)`,
        value: ratioOf(times.get('raw copy') ?? [], times.get('pull') ?? []),
        must: 0.85,
        goal: 0.95,
        more: true,
        unit: 'x',
      })
    }
  },
}

export const crowd: Row = {
  name: 'crowd',
  async run(bed) {
    // Eight copies have to fit beside the model, in memory too.
    const mib = bed.quick ? 64 : Math.min(bed.mib, 1024)
    const folder = await bed.model(mib)
    const count = 8
    await using one = await startSeeders(bed, folder, 1)
    await using many = await startSeeders(bed, folder, 1)
    let seederPeak = 0
    let leecherPeak = 0
    const times = await interleave(
      {
        one: async () => (await pullAfresh(bed, one.link)).seconds,
        eight: async () => {
          await using parts = new AsyncDisposableStack()
          const leechers: Machine[] = []
          for (let n = 0; n < count; n += 1) leechers.push(parts.use(await startLeecher(bed)))
          const watch = watchUse(many.machines.map(({ pid }) => pid))
          const started = performance.now()
          const pulls = await Promise.all(leechers.map(leecher => pullOn(leecher, many.link)))
          const seconds = (performance.now() - started) / second
          seederPeak = Math.max(seederPeak, watch.stop().rssPeakBytes)
          leecherPeak = Math.max(leecherPeak, ...pulls.map(({ use }) => use.rssPeakBytes))
          return seconds
        },
      },
      bed.rounds,
    )
    // Eight times the bytes.
    const value = count * ratioOf(times.get('one') ?? [], times.get('eight') ?? [])
    const name = `eight leechers at once: total speed of one (${mib} MiB each)`
    bed.report.bar({ name, value, must: 0.9, goal: 1, more: true, unit: 'x' })
    const memory = { must: 400, goal: 250, more: false, unit: 'MiB' }
    const [seederRss, leecherRss] = [seederPeak / MiB, leecherPeak / MiB]
    bed.report.bar({
      name: 'peak RSS of a seeder with eight leechers',
      value: seederRss,
      ...memory,
    })
    bed.report.bar({ name: 'peak RSS of one of eight leechers', value: leecherRss, ...memory })
  },
}

/**
 * Eight peers behind a line that the leecher's side limits. Every ten seconds half of those alive are
 * killed (-9), and those killed the time before come back.
 */
export const churn: Row = {
  name: 'churn',
  async run(bed) {
    const mib = bed.quick ? 512 : 2048
    const rate = (bed.quick ? 16 : 32) * MiB
    const everyMs = 10 * second
    const folder = await bed.model(mib)
    const steady = async (): Promise<number> => {
      await using distant = await startDistantSeeders(bed, folder, 8, { rate })
      const peers = distant.seeders.map(({ address }) => address)
      const options = { peers, machine: notCalledBack }
      return (await pullAfresh(bed, distant.seeders[0]?.link ?? '', options)).seconds
    }
    const churning = async (): Promise<number> => {
      await using distant = await startDistantSeeders(bed, folder, 8, { rate })
      const { seeders } = distant
      const peers = seeders.map(({ address }) => address)
      const done = new AbortController()
      const dead = new Set<number>()
      const lose = async (): Promise<void> => {
        const back = [...dead]
        const alive = [...seeders.keys()].filter(index => !dead.has(index))
        // Each second one of them, so that over time everybody goes.
        const doomed = alive.filter((_, at) => at % 2 === 0)
        for (const index of doomed) {
          await seeders[index]?.machine.kill()
          dead.add(index)
        }
        for (const index of back) {
          await distant.restart(index)
          dead.delete(index)
        }
      }
      const churner = (async () => {
        for (;;) {
          await sleep(everyMs, undefined, { signal: done.signal })
          await lose()
        }
      })().catch((error: unknown) => {
        if (!done.signal.aborted) throw error
      })
      const options = { peers, machine: notCalledBack }
      const pull = pullAfresh(bed, seeders[0]?.link ?? '', options)
      const { seconds } = await Promise.race([pull, churner.then(() => pull)])
      done.abort()
      await churner
      checkLine(mib * MiB, rate, seconds)
      return seconds
    }
    const times = await interleave({ steady, churning }, 1)
    bed.report.bar({
      name: `half of the peers lost every 10 s, ${mib} MiB at ${formatRate(rate)}: time of the steady run`,
      value: ratioOf(times.get('churning') ?? [], times.get('steady') ?? []),
      must: 2,
      goal: 1.3,
      more: false,
      unit: 'x',
    })
  },
}
