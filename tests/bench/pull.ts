/**
 * Pull over loopback, one seeder, against nginx + `curl -o` + `openssl dgst`: both end with a file on
 * disk whose SHA-256 is known. Then the memory both daemons took, and what kill -9 in mid-pull costs.
 *
 *   npm run bench:pull [-- --mib 1024 --rounds 3 --write]
 */

import { randomBytes } from 'node:crypto'
import { mkdir, open, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { progressSchema, pulledSchema, seededSchema } from '../../src/api/contract.ts'
import { formatBytes, formatRate, MiB } from '../../src/core/units.ts'
import { type Machine, startMachine, type World } from '../support/machine.ts'
import { interleave, median, ratioOf, scratchFolder, timeCommand, useOf } from './bench.ts'
import { freezeBuild } from './frozen-build.ts'
import { Report } from './report.ts'
import { curlToFile, startNginx } from './rivals/nginx.ts'

const { values } = parseArgs({
  options: {
    mib: { type: 'string', default: '1024' },
    rounds: { type: 'string', default: '3' },
    write: { type: 'boolean', default: false },
  },
})
const mib = Number(values.mib)
const rounds = Number(values.rounds)

/** Random bytes: nothing on the way can compress or deduplicate them. */
async function makeModel(folder: string): Promise<string> {
  await mkdir(folder, { recursive: true })
  const path = join(folder, 'weights.bin')
  await using file = await open(path, 'w')
  for (let written = 0; written < mib; written += 1) await file.write(randomBytes(MiB))
  return path
}

async function compare(world: World, seeder: Machine, link: string): Promise<void> {
  const fetched = join(world.folder, 'curl.bin')
  await using nginx = await startNginx(world.folder, join(world.folder, 'model'))
  const url = `http://127.0.0.1:${nginx.port}/weights.bin`
  let round = 0
  const seconds = await interleave(
    {
      'curl + openssl': async () => {
        const took = await timeCommand('sh', [
          '-c',
          `curl -sSf -o ${fetched} ${url} && openssl dgst -sha256 ${fetched}`,
        ])
        await rm(fetched)
        return took
      },
      'cw pull': async () => {
        round += 1
        await using reader = await startMachine(world, `reader-${round}`, [seeder.address])
        const started = performance.now()
        const { last } = await reader.cw('pull', link)
        const took = (performance.now() - started) / 1000
        showUse(`leecher, round ${round}`, reader, pulledSchema.parse(last).bytesFetched)
        await reader.stop()
        await rm(reader.home, { recursive: true })
        return took
      },
    },
    rounds,
  )
  const ours = seconds.get('cw pull') ?? []
  const theirs = seconds.get('curl + openssl') ?? []
  process.stdout.write(`cw pull ${formatRate((mib * MiB) / median(ours))}, `)
  process.stdout.write(`curl + openssl ${formatRate((mib * MiB) / median(theirs))}\n`)
  const speed = ratioOf(theirs, ours)
  report.bar({
    name: 'pull: speed of nginx, curl -o and openssl',
    value: speed,
    must: 0.4,
    goal: 0.6,
    more: true,
    unit: 'x',
  })
  showUse('seeder, all rounds', seeder, mib * MiB * rounds)
}

function showUse(who: string, machine: Machine, bytes: number): void {
  const use = useOf(machine.pid)
  if (use === undefined) return
  const perGiB = use.cpuSeconds / (bytes / (1024 * MiB))
  process.stdout.write(
    `${who}: peak RSS ${formatBytes(use.rssPeakBytes)}, ${perGiB.toFixed(2)} CPU-s per GiB\n`,
  )
}

/** Chunks that reached the partial file are not lost; what is fetched again of them is the cost of the kill. */
async function killMidway(world: World, seeder: Machine, link: string): Promise<void> {
  const victim = await startMachine(world, 'victim', [seeder.address])
  const cut = victim.watch(['pull', link], line => {
    if (line.type !== 'progress') return
    if (progressSchema.parse(line).bytesDone >= (mib * MiB) / 2) void victim.kill()
  })
  await cut.catch(() => undefined)
  const written = await bytesWritten(join(world.folder, 'model', 'weights.bin'), victim.home)
  await using again = await startMachine(world, 'victim', [seeder.address])
  const { last } = await again.cw('pull', link)
  const { bytes, bytesFetched } = pulledSchema.parse(last)
  report.bar({
    name: 'fetched again after kill -9',
    value: (bytesFetched - (bytes - written)) / MiB,
    must: 32,
    goal: 16,
    more: false,
    unit: 'MiB',
  })
}

/** How much of the original already lies in the partial file below `home`. */
async function bytesWritten(original: string, home: string): Promise<number> {
  const entries = await readdir(home, { recursive: true, withFileTypes: true })
  const part = entries.find(entry => entry.name.endsWith('.part'))
  if (part === undefined) throw new Error('the kill came too late: there is no partial file')
  await using ours = await open(join(part.parentPath, part.name))
  await using theirs = await open(original)
  let written = 0
  for (let at = 0; at < mib * MiB; at += MiB) {
    const [a, b] = await Promise.all([
      ours.read(Buffer.alloc(MiB), 0, MiB, at),
      theirs.read(Buffer.alloc(MiB), 0, MiB, at),
    ])
    if (a.buffer.equals(b.buffer)) written += MiB
  }
  return written
}

const report = new Report('bench:pull', [`${mib} MiB`, `${rounds} rounds`])
const reason = await curlToFile.missing()
if (reason === undefined) {
  await using scratch = await scratchFolder()
  const world: World = { command: await freezeBuild(scratch.path), folder: scratch.path }
  await makeModel(join(scratch.path, 'model'))
  await using seeder = await startMachine(world, 'seeder', [])
  const { last } = await seeder.cw('seed', join(scratch.path, 'model'))
  const { link } = seededSchema.parse(last)
  await compare(world, seeder, link)
  await killMidway(world, seeder, link)
  if (values.write) await report.write()
} else {
  process.stdout.write(`skipped: ${reason}\n`)
}
