/**
 * Adopt: a cache of huggingface_hub with 200 repositories and 20 GB of sparse weights, adopted by a fresh
 * daemon, then again with nothing changed. From the start of the command to its end; the weights are
 * zeros that no disk holds, so that the first run is what hashing twice takes, of files and of chunks.
 *
 *   node tests/bench/adopt.ts [--command ./cw] [--repositories 200] [--gb 20] [--rounds 5] [--write]
 */

import { createHash } from 'node:crypto'
import { mkdir, open, symlink, writeFile } from 'node:fs/promises'
import { dirname, join, relative, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { formatBytes, formatRate } from '../../src/core/units.ts'
import { runCw, startMachine } from '../support/machine.ts'
import { treeOf } from '../support/model-caches.ts'
import { median, scratchFolder, timeCommand, useOf } from './bench.ts'
import { Report } from './report.ts'

const { values } = parseArgs({
  options: {
    command: { type: 'string', default: resolve(import.meta.dirname, '../../cw') },
    repositories: { type: 'string', default: '200' },
    gb: { type: 'string', default: '20' },
    rounds: { type: 'string', default: '5' },
    write: { type: 'boolean', default: false },
  },
})
const { command } = values
const repositories = Number(values.repositories)
const bytes = Number(values.gb) * 1e9
const rounds = Number(values.rounds)

/** What a transformers model has beside its weights. */
const smallFiles = [
  '.gitattributes',
  'README.md',
  'config.json',
  'generation_config.json',
  'merges.txt',
  'special_tokens_map.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'vocab.json',
]

/** A repository as huggingface_hub 2.0 leaves it. The sizes differ, so that no two weights are equal. */
async function makeRepository(root: string, index: number): Promise<void> {
  const repo = join(root, `models--org--model-${index}`)
  const commit = createHash('sha1').update(`commit ${index}`).digest('hex')
  const tree = JSON.parse(
    treeOf(Object.fromEntries(smallFiles.map(name => [name, `${name} of ${index}`]))),
  ) as { files: Record<string, object> }
  const add = async (path: string, blob: string, make: () => Promise<unknown>): Promise<void> => {
    await mkdir(join(repo, 'blobs'), { recursive: true })
    await make()
    const place = join(repo, 'snapshots', commit, path)
    await mkdir(dirname(place), { recursive: true })
    await symlink(relative(dirname(place), join(repo, 'blobs', blob)), place)
  }
  for (const name of smallFiles) {
    const { blob_id: blob } = tree.files[name] as { blob_id: string }
    await add(name, blob, () => writeFile(join(repo, 'blobs', blob), `${name} of ${index}`))
  }
  const size = Math.floor(bytes / repositories) + index
  const sha256 = await sha256OfZeros(size)
  tree.files['model.safetensors'] = {
    size,
    blob_id: createHash('sha1').update(sha256).digest('hex'),
    lfs_sha256: sha256,
    lfs_size: size,
  }
  await add('model.safetensors', sha256, async () => {
    await using file = await open(join(repo, 'blobs', sha256), 'w')
    await file.truncate(size)
  })
  await mkdir(join(repo, 'refs'), { recursive: true })
  await writeFile(join(repo, 'refs', 'main'), commit)
  await mkdir(join(repo, 'trees'), { recursive: true })
  await writeFile(join(repo, 'trees', `${commit}.json`), JSON.stringify(tree))
}

const zeros = Buffer.alloc(1 << 20)
/** All files begin alike: the state after the common part is used again. */
let common: { readonly size: number; readonly state: ReturnType<typeof createHash> } | undefined

async function sha256OfZeros(size: number): Promise<string> {
  const shared = Math.floor(bytes / repositories)
  if (common?.size !== shared) {
    const state = createHash('sha256')
    for (let left = shared; left > 0; left -= zeros.length) {
      state.update(zeros.subarray(0, Math.min(left, zeros.length)))
    }
    common = { size: shared, state }
  }
  return common.state
    .copy()
    .update(zeros.subarray(0, size - shared))
    .digest('hex')
}

await using scratch = await scratchFolder()
const report = new Report('bench:adopt', [
  `${repositories} repositories of ${smallFiles.length + 1} files, ${formatBytes(bytes)}`,
])
// Builds dist/ when it is stale, and loads what is to run.
await timeCommand(command, ['--version'])
const root = join(scratch.path, 'hub')
for (let index = 0; index < repositories; index += 1) await makeRepository(root, index)
const world = { command, folder: scratch.path, commandTimeoutMs: 30 * 60 * 1000 }
await using machine = await startMachine(world, 'home', [])
const adopt = ['--home', machine.home, '--json', '--quiet', 'adopt', '--hf', root]

const blobs = [root, '-type', 'f', '-path', '*/blobs/*']
const openssl = await timeCommand('find', [
  ...blobs,
  '-exec',
  'openssl',
  'dgst',
  '-sha256',
  '{}',
  '+',
])

const cpuOf = (): number => useOf(machine.pid)?.cpuSeconds ?? Number.NaN
const cpuBefore = cpuOf()
const first = await timeCommand(command, adopt)
const firstCpu = cpuOf() - cpuBefore
const { lines } = await runCw(world, machine.home, ['ls'])
const whole = lines.filter(({ state }) => state === 'complete').length
if (whole !== repositories) throw new Error(`only ${whole} of ${repositories} were adopted`)
process.stdout.write(`first run ${first.toFixed(1)} s, ${formatRate(bytes / first)}\n`)

const again: number[] = []
const cpu: number[] = []
for (let round = 0; round < rounds; round += 1) {
  const before = cpuOf()
  again.push(await timeCommand(command, adopt))
  cpu.push(cpuOf() - before)
}
const dry = await timeCommand(command, [...adopt, '--dry-run'])
report.table(
  ['run', 'seconds', 'CPU-s of the daemon'],
  [
    ['openssl dgst of the same files, right before', openssl.toFixed(1), '-'],
    ['first', `${first.toFixed(1)} (${formatRate(bytes / first)})`, firstCpu.toFixed(1)],
    [
      'again',
      `${Math.min(...again).toFixed(2)} to ${Math.max(...again).toFixed(2)}`,
      median(cpu).toFixed(2),
    ],
    ['again, --dry-run', dry.toFixed(2), '-'],
  ],
)
const name = `adopt again: ${repositories} repositories, ${values.gb} GB`
report.bar({ name, value: median(again), must: 2, goal: 0.5, more: false, unit: 's' })
if (values.write) await report.write()
