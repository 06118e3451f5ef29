/**
 * The main job, shown with real daemons on this machine: a model is seeded where it lies, mirrored,
 * its origin killed, the mirror's disk damaged, and the model fetched from what is left, every byte
 * checked. Every line with a tick is a claim that was tested; one that fails ends the demo with 1.
 *
 *   npm run demo [-- --model DIR]
 */

import { execFile } from 'node:child_process'
import { mkdtemp, open, readdir, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { parseArgs, promisify, styleText } from 'node:util'
import type { z } from 'zod'
import {
  fileSchema,
  progressSchema,
  pulledSchema,
  seededSchema,
  verifiedSchema,
  type PulledEvent,
  type SeededEvent,
} from '../../src/api/contract.ts'
import { chunkBytesMax } from '../../src/core/limits.ts'
import { formatBytes, formatDuration, formatRate } from '../../src/core/units.ts'
import { type DemoModel, provideModel } from './model.ts'
import { generate } from './tiny-model.ts'
import {
  type Machine,
  type Outcome,
  startMachine,
  witnessSha256,
  type World,
} from '../support/machine.ts'

const root = resolve(import.meta.dirname, '../..')

function say(text: string): void {
  process.stdout.write(`${text}\n`)
}

function step(title: string): void {
  say(`\n${styleText('bold', title)}`)
}

/** Something the demo promises: shown when it holds, the end of the demo when it does not. */
function claim(holds: boolean, text: string): void {
  say(`  ${holds ? styleText('green', '✓') : styleText('red', '✗')} ${text}`)
  if (!holds) throw new Error(`a claim failed: ${text}`)
}

/** The command's result; what it said instead, when it failed. */
function resultOf<T>({ last, stderr }: Outcome, schema: z.ZodType<T>): T {
  if (last.type === 'error') throw new Error(`${String(last['message'])}\n${stderr}`)
  return schema.parse(last)
}

async function ownModel(folder: string): Promise<DemoModel> {
  const files = await filesBelow(folder)
  const sizes = await Promise.all(files.map(async file => (await stat(join(folder, file))).size))
  const weights = files[sizes.indexOf(Math.max(...sizes))]
  if (weights === undefined) throw new Error(`there is no file in ${folder}`)
  return { folder, name: `demo/${basename(folder)}`, what: folder, weights, generates: false }
}

async function filesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => [])
  return entries
    .filter(entry => entry.isFile())
    .map(entry => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .toSorted()
}

async function seedInPlace(origin: Machine, model: DemoModel): Promise<SeededEvent> {
  step('1. Seed it in place')
  const before = await stat(join(model.folder, model.weights), { bigint: true })
  const started = performance.now()
  const outcome = await origin.cw('seed', model.folder, '--name', model.name)
  const took = formatDuration(performance.now() - started)
  const seeded = resultOf(outcome, seededSchema)
  claim(seeded.bytes > 0, `origin seeds ${seeded.files} files, ${formatBytes(seeded.bytes)}`)
  say(`    in ${took}; manifest ${seeded.manifest}`)

  const after = await stat(join(model.folder, model.weights), { bigint: true })
  const copies = await filesBelow(join(origin.home, 'models'))
  const untouched = before.ino === after.ino && before.mtimeNs === after.mtimeNs
  claim(untouched && copies.length === 0, 'bytes copied: 0; the files were not moved or touched')

  const shown = await origin.cw('show', model.name)
  const files = shown.lines.filter(line => line.type === 'file').map(line => fileSchema.parse(line))
  const weights = files.find(file => file.path === model.weights)
  claim(weights !== undefined, `${model.weights}: ${weights?.chunks} chunks`)
  if (model.known !== undefined) {
    const { root: knownRoot, sha256, chunks } = model.known
    const same =
      weights?.root === knownRoot && weights.sha256 === sha256 && weights.chunks === chunks
    claim(same, `its root and SHA-256 are the published ones: ${knownRoot}`)
  }
  return seeded
}

async function mirror(machine: Machine, seeded: SeededEvent, include?: string): Promise<string> {
  const only = include === undefined ? [] : ['--include', include]
  const outcome = await machine.cw('pull', seeded.link, ...only)
  const { files, bytes, bytesFetched, seconds, path } = resultOf(outcome, pulledSchema)
  const rate = formatRate(bytesFetched / Math.max(0.001, seconds))
  claim(
    bytes > 0,
    `${machine.name} holds ${files === 1 ? 'one file' : `${files} files`}, ${formatBytes(bytes)}, at ${rate}`,
  )
  return path
}

/** Flips one bit in the middle of the file and puts its times back, to the nanosecond: silent bit rot. */
async function damage(path: string): Promise<number> {
  const { size } = await stat(path)
  const at = Math.floor(size / 2)
  const times = `${path}.times`
  await touchLike(path, times)
  await using file = await open(path, 'r+')
  const { buffer } = await file.read(Buffer.alloc(1), 0, 1, at)
  buffer[0] = (buffer[0] ?? 0) ^ 0x01
  await file.write(buffer, 0, 1, at)
  await file.sync()
  await touchLike(times, path)
  await rm(times)
  return at
}

/** Node's utimes knows no nanoseconds, touch does. */
async function touchLike(reference: string, path: string): Promise<void> {
  await promisify(execFile)('touch', ['-r', reference, path])
}

async function findDamage(mirrorMachine: Machine, model: DemoModel, at: number): Promise<void> {
  const outcome = await mirrorMachine.cw('verify', model.name)
  const { bad } = resultOf(outcome, verifiedSchema)
  const [first] = bad
  claim(outcome.code === 6 && bad.length === 1, 'verify finds exactly one bad chunk and exits 6')
  if (first === undefined) return
  const { path, offset, length } = first
  const named = path === model.weights && offset <= at && at < offset + length
  claim(named, `and names it: ${path}, bytes ${offset} to ${offset + length}`)
}

/** The bytes that the damaged chunk had are on other machines now. */
async function mend(mirrorMachine: Machine, model: DemoModel): Promise<void> {
  const { bytesFetched } = resultOf(await mirrorMachine.cw('pull', model.name), pulledSchema)
  const isOneChunk = bytesFetched > 0 && bytesFetched <= chunkBytesMax
  claim(isOneChunk, `pull mends it: ${formatBytes(bytesFetched)} fetched, the rest kept`)
  claim((await mirrorMachine.cw('verify', model.name)).code === 0, 'and verify finds nothing')
}

/** Pulls on `reader` until only the damaged chunk is missing, then lets the partial holder return. */
async function fetchFromTheRest(
  reader: Machine,
  seeded: SeededEvent,
  wakeHelper: () => Promise<Machine>,
): Promise<{ pulled: PulledEvent; helper: Machine }> {
  let helper: Promise<Machine> | undefined
  let bytesLeft = Infinity
  const started = performance.now()
  const outcome = await reader.watch(['pull', seeded.manifest], line => {
    if (line.type !== 'progress' || helper !== undefined) return
    const { phase, bytesDone, bytesTotal } = progressSchema.parse(line)
    if (phase !== 'waiting' || bytesDone === 0) return
    bytesLeft = bytesTotal - bytesDone
    say(`    ${formatBytes(bytesLeft)} left that nobody serves; the partial holder returns`)
    helper = wakeHelper()
  })
  const took = formatDuration(performance.now() - started)
  if (helper === undefined) throw new Error('a claim failed: the mirror served the damaged chunk')
  // A mirror that sends bad bytes is banned: then far more would be missing, and a warning would say so.
  const isBanned = outcome.lines.some(line => String(line['message']).includes('banned'))
  const isOneChunk = bytesLeft <= chunkBytesMax && !isBanned
  claim(isOneChunk, 'the mirror refused the damaged chunk and nothing else: the pull had to wait')
  const pulled = resultOf(outcome, pulledSchema)
  claim(pulled.bytes === seeded.bytes, `reader has it all, in ${took}, without the origin`)
  return { pulled, helper: await helper }
}

async function lookUp(
  reader: Machine,
  seeded: SeededEvent,
  holders: readonly Machine[],
): Promise<void> {
  step('7. How the holders were found: the DHT')
  const started = performance.now()
  const { lines } = await reader.cw('providers', seeded.manifest)
  const took = formatDuration(performance.now() - started)
  const found = new Set(lines.map(line => line['peerId']))
  say(`    the reader knew one address, the mirror's; lookup of the manifest took ${took}`)
  for (const holder of holders) {
    claim(found.has(holder.peerId), `provider ${holder.peerId} (${holder.name})`)
  }
}

async function witness(original: string, fetched: string): Promise<void> {
  step('8. Every file against the original, by a program that is not ours')
  const files = await filesBelow(original)
  for (const file of files) {
    const wanted = await witnessSha256(join(original, file))
    const actual = await witnessSha256(join(fetched, file))
    claim(wanted === actual, `${actual.slice(0, 16)}…  ${file}`)
  }
}

async function demo(world: World, model: DemoModel, machines: AsyncDisposableStack): Promise<void> {
  const start = async (name: string, bootstrap: readonly string[]): Promise<Machine> =>
    machines.use(await startMachine(world, name, bootstrap))

  say(`model: ${model.what}`)
  const origin = await start('origin', [])
  const seeded = await seedInPlace(origin, model)

  step('2. Mirror it, and let a fourth machine keep a part')
  const first = await start('mirror', [origin.address])
  const copy = await mirror(first, seeded)
  const partial = await start('partial', [first.address])
  await mirror(partial, seeded, model.weights)
  await partial.stop()

  step('3. Kill the origin: kill -9')
  await origin.kill()
  const refused = await first.cw('connect', origin.address)
  claim(refused.code !== 0, 'the origin is gone; nobody can reach it')

  step("4. Damage one chunk on the mirror's disk, leaving its size and times as they were")
  // A chunk is hashed when it is first served after a start: rot is found by whoever restarts or verifies.
  await first.stop()
  const at = await damage(join(copy, model.weights))
  say(`    one bit flipped at byte ${at} of ${model.weights}; the mirror starts again`)
  const mirrorMachine = await start('mirror', [])

  step('5. A third machine fetches the model from the mirror alone')
  const reader = await start('reader', [mirrorMachine.address])
  const { pulled, helper } = await fetchFromTheRest(reader, seeded, () =>
    start('partial', [mirrorMachine.address]),
  )
  for (const { peerId, bytes } of pulled.sources) {
    const from = peerId === mirrorMachine.peerId ? 'mirror' : 'partial'
    say(`    ${formatBytes(bytes)} from ${from} (${peerId})`)
  }
  const fetchedBytes = pulled.sources.reduce((sum, source) => sum + source.bytes, 0)
  claim(fetchedBytes <= seeded.bytes, 'no chunk was fetched twice')

  step('6. The mirror knows what is damaged, and mends it')
  await findDamage(mirrorMachine, model, at)
  await mend(mirrorMachine, model)

  await lookUp(reader, seeded, [mirrorMachine, helper])
  await witness(model.folder, pulled.path)
  if (model.generates) {
    step('9. And it is alive: the fetched model continues a prompt')
    const text = generate(pulled.path, 'the daemon ', 160)
    claim(text === generate(model.folder, 'the daemon ', 160), 'the same text as from the original')
    say(`    ${text}`)
  }
}

/** Rejects at Ctrl-C, which the daemons of the demo hear too, and at SIGTERM. */
function interrupted(): Promise<never> {
  return new Promise((_, reject) => {
    for (const [signal, code] of [
      ['SIGINT', 130],
      ['SIGTERM', 143],
    ] as const) {
      process.once(signal, () => {
        process.exitCode = code
        reject(new Error('interrupted: stopping the daemons and cleaning up'))
      })
    }
  })
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { model: { type: 'string' } } })
  const started = performance.now()
  const folder = await mkdtemp(join(tmpdir(), 'commonweight-demo-'))
  const machines = new AsyncDisposableStack()
  const stopped = interrupted()
  const work = async (): Promise<void> => {
    const model =
      values.model === undefined
        ? await provideModel(root, join(folder, 'original'))
        : await ownModel(resolve(values.model))
    await demo({ command: join(root, 'cw'), folder }, model, machines)
  }
  try {
    await Promise.race([work(), stopped])
    say(`\nall claims hold; ${formatDuration(performance.now() - started)}`)
  } finally {
    await machines.disposeAsync()
    await rm(folder, { recursive: true, force: true })
  }
}

try {
  await main()
} catch (error) {
  process.stderr.write(`demo: ${Error.isError(error) ? error.message : String(error)}\n`)
  // Whatever step was under way is of no use any more.
  // oxlint-disable-next-line unicorn/no-process-exit -- it would go on for a minute
  process.exit(process.exitCode ?? 1)
}
