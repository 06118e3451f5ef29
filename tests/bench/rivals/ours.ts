/** Commonweight itself: `commonweight pull` between two daemons, over the lane or over the libp2p stream. */

import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { pulledSchema, seededSchema } from '../../../src/api/contract.ts'
import { startMachine } from '../../support/machine.ts'
import { withCommand, runCommand, watchUse } from '../use.ts'
import type { Rival } from './rival.ts'

/** `path` is how the bytes have to travel for the run to count. */
export function commonweight(path: 'lane' | 'stream', command: string): Rival {
  const name = `commonweight, ${path}`
  const env = { COMMONWEIGHT_LANE: String(path === 'lane') }
  return {
    name,
    missing: () => Promise.resolve(undefined),
    async prepare({ folder, modelFolder, size }) {
      const world = { command, folder: join(folder, name.replaceAll(/\W+/g, '-')) }
      const seeder = await startMachine(world, 'seeder', [], { env })
      const { link } = seededSchema.parse((await seeder.cw('seed', modelFolder)).last)
      let round = 0
      return {
        async run() {
          round += 1
          await using leecher = await startMachine(world, `leecher-${round}`, [], { env })
          const [here, there] = [watchUse([leecher.pid]), watchUse([seeder.pid])]
          const pull = await runCommand(command, ['--home', leecher.home, '--json', 'pull', link])
          const run = {
            seconds: pull.seconds,
            leecher: withCommand(here.stop(), pull),
            seeder: there.stop(),
          }
          const last = pull.stdout.trim().split('\n').at(-1) ?? ''
          const { bytesFetched } = pulledSchema.parse(JSON.parse(last))
          if (bytesFetched !== size) throw new Error(`${name}: ${bytesFetched} of ${size} fetched`)
          const { lines } = await leecher.cw('peers')
          if (!lines.some(line => line['path'] === path)) throw new Error(`not by the ${path}`)
          await leecher.stop()
          await rm(leecher.home, { recursive: true })
          return run
        },
        [Symbol.asyncDispose]: () => seeder[Symbol.asyncDispose](),
      }
    },
  }
}
