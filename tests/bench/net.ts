/**
 * One seeder to one leecher over loopback, beside the tools that people use today: each receives the
 * same file and checks it. Whoever cannot be had on this machine is skipped with the reason.
 *
 *   npm run bench:net [-- --mib 2048 --rounds 3 --only lane,nginx --folder /dev/shm --quick --write]
 */

import { randomBytes } from 'node:crypto'
import { mkdir, open } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { messageOf } from '../../src/core/errors.ts'
import { formatBytes, formatRate, GiB, MiB, second } from '../../src/core/units.ts'
import { median, ratioOf, scratchFolder } from './bench.ts'
import { freezeBuild } from './frozen-build.ts'
import { Report } from './report.ts'
import { aria2 } from './rivals/aria2.ts'
import { kubo } from './rivals/kubo.ts'
import { libtorrent } from './rivals/libtorrent.ts'
import { curlToDisk, curlToFile, curlToPipe } from './rivals/nginx.ts'
import { commonweight } from './rivals/ours.ts'
import type { Contestant, Rival, TestBed } from './rivals/rival.ts'
import { iroh } from './rivals/sendme.ts'
import type { Run } from './use.ts'

const { values } = parseArgs({
  options: {
    mib: { type: 'string' },
    rounds: { type: 'string', default: '3' },
    /** Parts of names, comma-separated. */
    only: { type: 'string', default: '' },
    folder: { type: 'string', default: tmpdir() },
    quick: { type: 'boolean', default: false },
    write: { type: 'boolean', default: false },
  },
})
const mib = Number(values.mib ?? (values.quick ? 256 : 2048))
const rounds = Number(values.rounds)

/** Lets what the one before left behind, dirty pages above all, go before the next is timed. */
const restMs = second

const [laneName, streamName] = ['commonweight, lane', 'commonweight, stream']

/** The bars of issue 4: ours against whom, by how much. */
const bars = [
  { ours: laneName, theirs: curlToFile.name, must: 1.05, goal: 1.2 },
  { ours: laneName, theirs: curlToPipe.name, must: 0.75, goal: 0.95 },
  { ours: laneName, theirs: aria2.name, must: 2, goal: 3 },
  { ours: laneName, theirs: libtorrent.name, must: 2, goal: 3 },
  { ours: laneName, theirs: kubo.name, must: 3, goal: 5 },
  { ours: laneName, theirs: iroh.name, must: 3, goal: 5 },
  { ours: streamName, theirs: aria2.name, must: 1, goal: 1.6 },
]

/** Random bytes: nothing on the way can compress or deduplicate them. */
async function makeModel(folder: string): Promise<string> {
  await mkdir(folder)
  const path = join(folder, 'weights.bin')
  await using file = await open(path, 'w')
  for (let written = 0; written < mib; written += 1) await file.write(randomBytes(MiB))
  // What the disk still had to write would be the first round's burden.
  await file.sync()
  return path
}

async function available(rivals: readonly Rival[]): Promise<Rival[]> {
  const wanted = values.only.split(',')
  const found: Rival[] = []
  for (const rival of rivals) {
    if (!wanted.some(part => rival.name.includes(part))) continue
    const reason = await rival.missing()
    if (reason === undefined) found.push(rival)
    else process.stdout.write(`skipped: ${rival.name}: ${reason}\n`)
  }
  return found
}

/** Every round, everybody once, in an order that shifts: nobody always follows the same one. */
async function race(contestants: ReadonlyMap<string, Contestant>): Promise<Map<string, Run[]>> {
  const runs = new Map<string, Run[]>([...contestants.keys()].map(name => [name, []]))
  const names = [...contestants.keys()]
  for (let round = 0; round < rounds; round += 1) {
    const order = names.map((_, at) => names[(at + round) % names.length] ?? '')
    for (const name of order) {
      const sofar = runs.get(name)
      const run = sofar && (await contestants.get(name)?.run().catch(messageOf))
      if (run === undefined) continue
      if (typeof run === 'string') {
        // The others go on: a run of everybody takes many minutes.
        runs.delete(name)
        process.exitCode = 1
        process.stdout.write(`left out: ${name}: ${run}\n`)
        continue
      }
      sofar?.push(run)
      process.stderr.write(`  round ${round + 1}: ${name} ${run.seconds.toFixed(2)} s\n`)
      await sleep(restMs)
    }
  }
  return runs
}

function showRuns(report: Report, runs: ReadonlyMap<string, Run[]>, size: number): void {
  const perGiB = (seconds: number): string => (seconds / (size / GiB)).toFixed(2)
  const peak = (of: readonly number[]): string => formatBytes(Math.max(...of))
  report.table(
    [
      '',
      'speed',
      'slowest to fastest',
      'CPU-s per GiB: leecher',
      'seeder',
      'peak RSS: leecher',
      'seeder',
    ],
    [...runs].map(([name, all]) => {
      const seconds = all.map(run => run.seconds)
      const range = [Math.max(...seconds), Math.min(...seconds)].map(s => formatRate(size / s))
      return [
        name,
        formatRate(size / median(seconds)),
        range.join(' to '),
        perGiB(median(all.map(({ leecher }) => leecher.cpuSeconds))),
        perGiB(median(all.map(({ seeder }) => seeder.cpuSeconds))),
        peak(all.map(({ leecher }) => leecher.rssPeakBytes)),
        peak(all.map(({ seeder }) => seeder.rssPeakBytes)),
      ]
    }),
  )
}

function showBars(report: Report, runs: ReadonlyMap<string, Run[]>, size: number): void {
  for (const { ours, theirs, must, goal } of bars) {
    const [a, b] = [runs.get(ours), runs.get(theirs)]
    if (a === undefined || b === undefined) continue
    const value = ratioOf(
      b.map(({ seconds }) => seconds),
      a.map(({ seconds }) => seconds),
    )
    report.bar({ name: `${ours}: speed of ${theirs}`, value, must, goal, more: true, unit: 'x' })
  }
  const lane = runs.get(laneName)
  if (lane === undefined) return
  const perGiB = (side: 'leecher' | 'seeder'): number =>
    median(lane.map(run => run[side].cpuSeconds)) / (size / GiB)
  const cpu = { more: false, unit: 'CPU-s per GiB' }
  report.bar({ name: 'leecher', value: perGiB('leecher'), must: 2.8, goal: 2, ...cpu })
  report.bar({ name: 'seeder', value: perGiB('seeder'), must: 1.2, goal: 0.9, ...cpu })
  const rss = Math.max(...lane.map(({ leecher }) => leecher.rssPeakBytes)) / MiB
  report.bar({
    name: 'peak RSS of the leecher',
    value: rss,
    must: 400,
    goal: 250,
    more: false,
    unit: 'MiB',
  })
}

await using scratch = await scratchFolder(values.folder)
// In memory the disk, and what the machine's owner does with it, has no part: a table of its own.
const isInMemory = values.folder.startsWith('/dev/shm')
const report = new Report(isInMemory ? 'bench:net in memory' : 'bench:net', [
  `${mib} MiB`,
  `${rounds} rounds`,
  `in ${values.folder}`,
])
const command = await freezeBuild(scratch.path)
const rivals = await available([
  commonweight('lane', command),
  commonweight('stream', command),
  curlToFile,
  curlToDisk,
  curlToPipe,
  aria2,
  libtorrent,
  kubo,
  iroh,
])
const modelFolder = join(scratch.path, 'model')
const file = await makeModel(modelFolder)
const bed: TestBed = { folder: scratch.path, modelFolder, file, size: mib * MiB }
await using parts = new AsyncDisposableStack()
const contestants = new Map<string, Contestant>()
for (const rival of rivals) {
  process.stderr.write(`  preparing ${rival.name}\n`)
  contestants.set(rival.name, parts.use(await rival.prepare(bed)))
}
const runs = await race(contestants)
showRuns(report, runs, bed.size)
showBars(report, runs, bed.size)
if (values.write) await report.write()
