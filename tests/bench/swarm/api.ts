/** Row about the control API: how long it takes to answer while a pull runs as fast as it can. */

import { setTimeout as sleep } from 'node:timers/promises'
import { openClient } from '../../../src/api/client.ts'
import { homePaths } from '../../../src/api/home.ts'
import { pullOn, type Row, startLeecher, startSeeders } from './bed.ts'

/** Between two questions. */
const intervalMs = 10

export const responsive: Row = {
  name: 'responsive',
  async run(bed) {
    const mib = bed.quick ? 256 : 2048
    const folder = await bed.model(mib)
    await using seeders = await startSeeders(bed, folder, 1)
    const waits: number[] = []
    for (let round = 0; round < bed.rounds; round += 1) {
      await using leecher = await startLeecher(bed)
      const client = openClient(homePaths(leecher.home))
      const done = new AbortController()
      const pull = pullOn(leecher, seeders.link).finally(() => done.abort())
      while (!done.signal.aborted) {
        const started = performance.now()
        await client.status()
        waits.push(performance.now() - started)
        await sleep(intervalMs)
      }
      await pull
    }
    waits.sort((a, b) => a - b)
    const percentile = (share: number): number => waits[Math.floor(waits.length * share)] ?? 0
    process.stderr.write(
      `  ${waits.length} answers: median ${percentile(0.5).toFixed(1)} ms, worst ${(waits.at(-1) ?? 0).toFixed(0)} ms\n`,
    )
    bed.report.bar({
      name: `control API while ${mib} MiB are pulled, p99`,
      value: percentile(0.99),
      must: 200,
      goal: 50,
      more: false,
      unit: 'ms',
    })
  },
}
