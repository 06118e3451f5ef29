/**
 * Import: `cw id` of one large file against `openssl dgst`; `cw id` and `cw seed` of many small ones
 * against `find` with openssl; and the memory that a large one takes. Everything from the page cache,
 * the start of the command included. Each seed meets a daemon that has never hashed a file.
 *
 *   node tests/bench/import.ts [--command PROGRAM] [--mib 2048] [--files 10000] [--rounds 5] [--write]
 */

import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, open, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { formatRate, GiB, KiB, MiB } from '../../src/core/units.ts'
import { startMachine } from '../support/machine.ts'
import { interleave, median, ratioOf, scratchFolder, timeCommand, useOf } from './bench.ts'
import { freezeBuild } from './frozen-build.ts'
import { Report } from './report.ts'

const { values } = parseArgs({
  options: {
    command: { type: 'string' },
    mib: { type: 'string', default: '2048' },
    files: { type: 'string', default: '10000' },
    rounds: { type: 'string', default: '5' },
    write: { type: 'boolean', default: false },
  },
})
const bytes = Number(values.mib) * MiB
const files = Number(values.files)
const rounds = Number(values.rounds)
const memoryBytes = 4 * GiB

async function makeLarge(path: string): Promise<void> {
  await using file = await open(path, 'w')
  const block = randomBytes(16 * MiB)
  for (let left = bytes; left > 0; left -= block.length) {
    // Differs from block to block, so that nothing below can share them.
    block.writeDoubleLE(left)
    await file.write(block, 0, Math.min(left, block.length))
  }
}

async function makeSmall(folder: string): Promise<void> {
  for (let index = 0; index < files; index += 1) {
    const inner = join(folder, `part-${Math.floor(index / 100)}`)
    if (index % 100 === 0) await mkdir(inner, { recursive: true })
    await writeFile(join(inner, `${index}.bin`), randomBytes(4 * KiB))
  }
}

/** Shortest to longest, of what the ratios are made from: how far to trust them. */
function spread(seconds: readonly number[] = []): string {
  return `${Math.min(...seconds).toFixed(3)} to ${Math.max(...seconds).toFixed(3)} s`
}

function showRatio(name: string, seconds: ReadonlyMap<string, number[]>): number {
  const ours = seconds.get('cw id') ?? []
  const theirs = seconds.get('openssl') ?? []
  process.stdout.write(`${name}: cw id ${spread(ours)}, openssl ${spread(theirs)}\n`)
  return ratioOf(ours, theirs)
}

async function compareLarge(path: string): Promise<void> {
  await makeLarge(path)
  const seconds = await interleave(
    {
      openssl: () => timeCommand('openssl', ['dgst', '-sha256', path]),
      'cw id': () => timeCommand(command, ['id', '--json', path]),
    },
    rounds,
  )
  const value = showRatio('one file', seconds)
  process.stdout.write(`cw id ${formatRate(bytes / median(seconds.get('cw id') ?? []))}\n`)
  const name = `id of ${values.mib} MiB against openssl dgst`
  report.bar({ name, value, must: 1.15, goal: 1.05, more: false, unit: 'x' })
}

async function compareSmall(folder: string): Promise<void> {
  await makeSmall(folder)
  const find = [folder, '-type', 'f', '-exec', 'openssl', 'dgst', '-sha256', '{}', '+']
  const seconds = await interleave(
    {
      openssl: () => timeCommand('find', find),
      'cw id': () => timeCommand(command, ['id', '--json', folder]),
    },
    rounds,
  )
  const value = showRatio('small files', seconds)
  const name = `id of ${files} files of 4 KiB against find and openssl dgst`
  report.bar({ name, value, must: 2, goal: 1, more: false, unit: 'x' })
}

async function compareSeed(folder: string): Promise<void> {
  const find = [folder, '-type', 'f', '-exec', 'openssl', 'dgst', '-sha256', '{}', '+']
  const daemonCpu: number[] = []
  let homes = 0
  const seconds = await interleave(
    {
      openssl: () => timeCommand('find', find),
      async 'cw seed'() {
        homes += 1
        const world = { command, folder: scratch.path }
        await using machine = await startMachine(world, `home-${homes}`, [])
        const before = useOf(machine.pid)?.cpuSeconds ?? Number.NaN
        const took = await timeCommand(command, ['--home', machine.home, '--json', 'seed', folder])
        daemonCpu.push((useOf(machine.pid)?.cpuSeconds ?? Number.NaN) - before)
        return took
      },
    },
    rounds,
  )
  const ours = seconds.get('cw seed') ?? []
  const theirs = seconds.get('openssl') ?? []
  process.stdout.write(
    `seed: cw seed ${spread(ours)} (CPU of the daemon ${spread(daemonCpu)}), openssl ${spread(theirs)}\n`,
  )
  const name = `seed of ${files} files of 4 KiB against find and openssl dgst`
  report.bar({ name, value: ratioOf(ours, theirs), must: 2, goal: 1, more: false, unit: 'x' })
}

/** A sparse file: the disk has no part in it, the digests and the table do. */
async function measureMemory(path: string): Promise<void> {
  await writeFile(path, '')
  await truncate(path, memoryBytes)
  const child = spawn(command, ['id', '--json', path], { stdio: 'ignore' })
  let peakBytes = 0
  const watch = setInterval(() => {
    peakBytes = Math.max(peakBytes, useOf(child.pid ?? 0)?.rssPeakBytes ?? 0)
  }, 20)
  await once(child, 'close')
  clearInterval(watch)
  const name = 'peak memory of id of a 4 GiB file'
  report.bar({ name, value: peakBytes / MiB, must: 500, goal: 350, more: false, unit: 'MiB' })
}

await using scratch = await scratchFolder()
const report = new Report('bench:import')
const command = values.command ?? (await freezeBuild(scratch.path))
// Loads what is to run.
await timeCommand(command, ['--version'])
await compareLarge(join(scratch.path, 'large.bin'))
await compareSmall(join(scratch.path, 'small'))
await compareSeed(join(scratch.path, 'small'))
await measureMemory(join(scratch.path, 'sparse.bin'))
if (values.write) await report.write()
