/**
 * Start-up and memory: how fast `--help` answers, how fast a daemon is ready that knows 1,000,000 chunks,
 * and what it weighs when idle.
 *
 *   npm run bench:start [-- --chunks 1000000 --write]
 */

import { mkdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { homePaths } from '../../src/api/home.ts'
import { systemClock } from '../../src/core/clock.ts'
import { createSha256, sha256 } from '../../src/core/digest.ts'
import { silentLog } from '../../src/core/log.ts'
import { MiB } from '../../src/core/units.ts'
import { ChunkTable, recordBytes } from '../../src/dag/chunk-table.ts'
import { rootOf } from '../../src/dag/unixfs.ts'
import { encodeManifest, makeManifest, manifestCid } from '../../src/manifest/manifest.ts'
import { openStore } from '../../src/store/open-store.ts'
import type { NewFile } from '../../src/store/new-file.ts'
import { startMachine } from '../support/machine.ts'
import { median, scratchFolder, timeCommand, useOf } from './bench.ts'
import { Report } from './report.ts'

const { values } = parseArgs({
  options: {
    chunks: { type: 'string', default: '1000000' },
    write: { type: 'boolean', default: false },
  },
})
const chunks = Number(values.chunks)
const files = 100
const root = resolve(import.meta.dirname, '../..')

/** An index of files that need not exist: no start-up may depend on reading them. */
async function fillIndex(home: string): Promise<void> {
  await mkdir(home, { mode: 0o700 })
  const paths = homePaths(home)
  await using store = await openStore(
    { clock: systemClock, log: silentLog, wholeSha256: () => Promise.reject(new Error('unused')) },
    {
      index: paths.index,
      state: paths.state,
      models: paths.models,
      reserveBytes: 0,
      reserveFraction: 0,
    },
  )
  const added: NewFile[] = []
  for (let n = 0; n < files; n += 1) {
    const bytes = Buffer.alloc((chunks / files) * recordBytes)
    for (let at = 0; at < bytes.length; at += recordBytes) {
      bytes.set(sha256(Buffer.from(`${n}:${at}`)), at)
      bytes.writeUInt32LE(MiB, at + 32)
    }
    const table = new ChunkTable(bytes)
    const hasher = createSha256()
    hasher.update(bytes)
    const file: NewFile = {
      place: join(home, 'elsewhere', `${n}.safetensors`),
      stamp: { size: table.size, mtimeNs: 1n, ino: BigInt(n) },
      sha256: hasher.digest(),
      root: rootOf(table),
      table,
    }
    store.addFiles([file])
    added.push(file)
  }
  const block = encodeManifest(
    makeManifest(
      added.map(({ table, sha256: digest, root: fileRoot }, n) => ({
        path: `${n}.safetensors`,
        size: table.size,
        sha256: digest,
        root: fileRoot,
      })),
    ),
  )
  store.addModel({
    manifest: manifestCid(block),
    block,
    name: 'bench/large',
    origin: 'seeded',
    folder: join(home, 'elsewhere'),
    pinned: true,
    seeding: true,
    files: added.map(({ place, table, sha256: digest, root: fileRoot }, n) => ({
      path: `${n}.safetensors`,
      place,
      size: table.size,
      sha256: digest,
      root: fileRoot,
    })),
  })
}

async function helpTime(): Promise<number> {
  const times: number[] = []
  const command = join(root, 'dist', 'cli', 'main.js')
  for (let run = 0; run < 11; run += 1) {
    times.push(await timeCommand(process.execPath, [command, '--help']))
  }
  return median(times) * 1000
}

const report = new Report('bench:start')
await timeCommand(join(root, 'cw'), ['--version'])
report.bar({
  name: '--help',
  value: await helpTime(),
  must: 150,
  goal: 80,
  more: false,
  unit: 'ms',
})

await using scratch = await scratchFolder()
const home = join(scratch.path, 'large')
await fillIndex(home)
const readyTimes: number[] = []
for (let run = 0; run < 3; run += 1) {
  const started = performance.now()
  const world = { command: join(root, 'cw'), folder: scratch.path }
  await using machine = await startMachine(world, 'large', [])
  readyTimes.push(machine.readyAfterMs / 1000)
  if (run < 2) continue
  // Idle: what start-up left behind has been collected, and the first announcements are out.
  await sleep(20_000 - Math.min(10_000, performance.now() - started))
  const rss = (useOf(machine.pid)?.rssBytes ?? Number.NaN) / MiB
  report.bar({
    name: `idle memory, ${chunks} chunks`,
    value: rss,
    must: 250,
    goal: 180,
    more: false,
    unit: 'MiB',
  })
}
report.bar({
  name: `daemon ready, ${chunks} chunks`,
  value: median(readyTimes),
  must: 3,
  goal: 1.5,
  more: false,
  unit: 's',
})
if (values.write) await report.write()
