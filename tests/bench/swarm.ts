/**
 * A swarm of real daemons on one machine: many seeders, liars, frozen peers, thin and long lines,
 * crowds and churn. Every row compares two runs that take turns, as the bars of issue 4 ask.
 *
 *   npm run bench:swarm [-- --mib 2048 --rounds 3 --only liar,frozen --folder /dev/shm --quick --write]
 */

import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { messageOf } from '../../src/core/errors.ts'
import { minute } from '../../src/core/units.ts'
import { scratchFolder } from './bench.ts'
import { freezeBuild } from './frozen-build.ts'
import { Report } from './report.ts'
import { responsive } from './swarm/api.ts'
import { type Bed, makeModel, type Row } from './swarm/bed.ts'
import { churn, crowd, distance, uplink } from './swarm/lines.ts'
import { scale } from './swarm/scale.ts'
import { fourSeeders, frozen, liar } from './swarm/sources.ts'

const rows: readonly Row[] = [
  fourSeeders,
  uplink,
  liar,
  frozen,
  distance,
  crowd,
  churn,
  responsive,
  scale,
]

const { values } = parseArgs({
  options: {
    mib: { type: 'string' },
    rounds: { type: 'string' },
    only: { type: 'string' },
    folder: { type: 'string', default: tmpdir() },
    quick: { type: 'boolean', default: false },
    write: { type: 'boolean', default: false },
  },
})
const mib = Number(values.mib ?? (values.quick ? 128 : 2048))
const rounds = Number(values.rounds ?? (values.quick ? 1 : 3))
const wanted = values.only?.split(',') ?? rows.map(({ name }) => name)

const unknown = wanted.filter(name => rows.every(row => row.name !== name))
if (unknown.length > 0) {
  throw new Error(`no row ${unknown.join(', ')}; there are ${rows.map(row => row.name).join(', ')}`)
}

await using scratch = await scratchFolder(values.folder)
const report = new Report('bench:swarm', [`${rounds} rounds`, `in ${values.folder}`])
const models = new Map<number, Promise<string>>()
const bed: Bed = {
  world: {
    command: await freezeBuild(scratch.path),
    folder: scratch.path,
    commandTimeoutMs: 10 * minute,
  },
  report,
  rounds,
  mib,
  quick: values.quick,
  model(size) {
    const folder = join(scratch.path, `model-${size}`)
    const made = models.get(size) ?? makeModel(folder, size).then(() => folder)
    models.set(size, made)
    return made
  },
}
for (const row of rows) {
  if (!wanted.includes(row.name)) continue
  process.stderr.write(`${row.name}\n`)
  try {
    await row.run(bed)
  } catch (error) {
    // The others go on: a run of all takes half an hour.
    process.exitCode = 1
    process.stdout.write(`failed: ${row.name}: ${messageOf(error)}\n`)
  }
}
if (values.write) await report.write()
