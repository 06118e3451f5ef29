/** Rows about many sources: more of them, one that lies, half of them frozen. */

import { progressSchema } from '../../../src/api/contract.ts'
import { join } from 'node:path'
import { interleave, ratioOf } from '../bench.ts'
import { startLyingPeer } from '../lying-peer.ts'
import { type Bed, pullAfresh, type PullOptions, type Row, startSeeders } from './bed.ts'

const peersTotal = 8

async function secondsOf(bed: Bed, link: string, options: PullOptions = {}): Promise<number> {
  return (await pullAfresh(bed, link, options)).seconds
}

/** Each variant has peers of its own: what one run teaches a peer of the others would help the next. */
export const fourSeeders: Row = {
  name: 'four-seeders',
  async run(bed) {
    const folder = await bed.model(bed.mib)
    await using one = await startSeeders(bed, folder, 1)
    await using four = await startSeeders(bed, folder, 4)
    const times = await interleave(
      {
        one: () => secondsOf(bed, one.link),
        four: () => secondsOf(bed, four.link, { peers: four.addresses }),
      },
      bed.rounds,
    )
    bed.report.bar({
      name: `four seeders: speed of one (${bed.mib} MiB)`,
      value: ratioOf(times.get('one') ?? [], times.get('four') ?? []),
      must: 1,
      goal: 1.1,
      more: true,
      unit: 'x',
    })
  },
}

/** The eighth is the same program in both runs, and lies in one. */
export const liar: Row = {
  name: 'liar',
  async run(bed) {
    const folder = await bed.model(bed.mib)
    await using parts = new AsyncDisposableStack()
    const variant = async (name: string, every: number): Promise<() => Promise<number>> => {
      const home = join(bed.world.folder, `${name}-peer`)
      const honest = parts.use(await startSeeders(bed, folder, peersTotal - 1))
      const last = parts.use(await startLyingPeer(home, folder, every))
      const peers = [...honest.addresses, last.address]
      return () => secondsOf(bed, honest.link, { peers })
    }
    const times = await interleave(
      { clean: await variant('honest', 0), lied: await variant('lying', 100) },
      bed.rounds,
    )
    bed.report.bar({
      name: `1 of ${peersTotal} peers flips a bit in 1 % of its chunks: time of the clean run (${bed.mib} MiB)`,
      value: ratioOf(times.get('lied') ?? [], times.get('clean') ?? []),
      must: 1.3,
      goal: 1.1,
      more: false,
      unit: 'x',
    })
  },
}

export const frozen: Row = {
  name: 'frozen',
  async run(bed) {
    const folder = await bed.model(bed.mib)
    const half = peersTotal / 2
    await using good = await startSeeders(bed, folder, half)
    await using all = await startSeeders(bed, folder, peersTotal)
    const doomed = all.machines.slice(half).map(({ pid }) => pid)
    const signal = (name: NodeJS.Signals): void => doomed.forEach(pid => process.kill(pid, name))
    const thawing = async (pull: () => Promise<number>): Promise<number> => {
      try {
        return await pull()
      } finally {
        signal('SIGCONT')
      }
    }
    const peers = all.addresses
    let isFrozen = false
    const times = await interleave(
      {
        'good half': () => secondsOf(bed, good.link, { peers: good.addresses }),
        'frozen at the start': () =>
          thawing(() => {
            signal('SIGSTOP')
            return secondsOf(bed, all.link, { peers })
          }),
        'frozen in the middle': () =>
          thawing(() => {
            isFrozen = false
            return secondsOf(bed, all.link, {
              peers,
              onLine(line) {
                if (line.type !== 'progress' || isFrozen) return
                const { bytesDone, bytesTotal } = progressSchema.parse(line)
                if (bytesDone < bytesTotal / 3 || bytesDone === bytesTotal) return
                isFrozen = true
                signal('SIGSTOP')
              },
            }).finally(() => {
              if (!isFrozen) throw new Error('the pull was over before its peers froze')
            })
          }),
      },
      bed.rounds,
    )
    for (const when of ['frozen at the start', 'frozen in the middle']) {
      bed.report.bar({
        name: `half of ${peersTotal} peers ${when}: time of the good half (${bed.mib} MiB)`,
        value: ratioOf(times.get(when) ?? [], times.get('good half') ?? []),
        must: 1.5,
        goal: 1.2,
        more: false,
        unit: 'x',
      })
    }
  },
}
