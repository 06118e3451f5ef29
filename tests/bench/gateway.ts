/**
 * The gateway as programs use it: real clients against nginx that serves the same, a peer's model while
 * it is fetched, first bytes, absences, and many readers at once. The bars of issue 5.
 *
 *   npm run bench:gateway [-- --mib 1024 --rounds 3 --only curl,hf --folder /dev/shm --quick --write]
 */

import { randomBytes } from 'node:crypto'
import { mkdir, open, rm, writeFile } from 'node:fs/promises'
import { Agent, get } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { seededSchema, statusSchema } from '../../src/api/contract.ts'
import { formatBytes, formatRate, MiB, second } from '../../src/core/units.ts'
import { pythonWith } from '../interop/python.ts'
import { type Machine, startMachine, type World } from '../support/machine.ts'
import { interleave, median, ratioOf, scratchFolder, timeCommand } from './bench.ts'
import { freezeBuild } from './frozen-build.ts'
import { Report } from './report.ts'
import { startNginx } from './rivals/nginx.ts'
import { onPath } from './rivals/rival.ts'
import { startStaticHub } from './rivals/static-hub.ts'
import { watchUse } from './use.ts'

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
const mib = Number(values.mib ?? (values.quick ? 256 : 1024))
const rounds = Number(values.rounds ?? (values.quick ? 2 : 3))
const hubVersion = '2.0.0'
const repository = 'org/model'

interface Stage {
  readonly world: World
  readonly report: Report
  /** Folder of the model, seeded by `holder` as org/model. */
  readonly model: string
  /** Has the model, and a gateway at `url`. */
  readonly holder: Machine
  readonly url: string
  readonly link: string
}

type Row = (stage: Stage) => Promise<void>

const rows: Readonly<Record<string, Row>> = {
  curl: curlOfHeldFile,
  hf: hfOfHeldModel,
  'hf-peer': hfOfPeersModel,
  'first-byte': firstByteOfRange,
  absent: absentFiles,
  readers: manyReaders,
}

const gatewayOn = { COMMONWEIGHT_HTTP_LISTEN: '127.0.0.1:0' }

async function gatewayOf(machine: Machine): Promise<string> {
  const { gateway } = statusSchema.parse((await machine.cw('status')).last)
  if (gateway === null) throw new Error('the daemon has no gateway')
  return gateway
}

/** Random bytes: nothing on the way can compress or deduplicate them. */
async function makeModel(folder: string, files: Readonly<Record<string, number>>): Promise<void> {
  await mkdir(folder, { recursive: true })
  for (const [name, size] of Object.entries(files)) {
    await using file = await open(join(folder, name), 'w')
    for (let written = 0; written < size; written += 1) await file.write(randomBytes(MiB))
    await file.sync()
  }
  await writeFile(join(folder, 'config.json'), '{"model_type":"none"}')
  await writeFile(join(folder, 'README.md'), '# none')
}

function resolve(file: string): string {
  return `/${repository}/resolve/main/${file}`
}

/** Another machine that knows the model by its link, and holds nothing of it. */
async function startNear({ world, link }: Stage, name: string): Promise<Machine> {
  const near = await startMachine(world, name, [], { env: gatewayOn })
  await near.cw('name', repository, link)
  return near
}

async function curlOfHeldFile({ report, model, url, world, holder }: Stage): Promise<void> {
  if (!onPath('nginx') || !onPath('curl')) return skip('curl', 'no nginx or curl here')
  await using nginx = await startNginx(world.folder, model)
  const target = join(world.folder, 'curl.bin')
  const theirs = `http://127.0.0.1:${nginx.port}/model.safetensors`
  const ours = url + resolve('model.safetensors')
  const curl = (to: string, from: string) => async (): Promise<number> => {
    const took = await timeCommand('curl', ['-sSf', '-o', to, from])
    if (to === target) await rm(target)
    return took
  }
  const use = watchUse([holder.pid])
  const seconds = await interleave(
    {
      'nginx to a file': curl(target, theirs),
      'gateway to a file': curl(target, ours),
      'nginx to /dev/null': curl('/dev/null', theirs),
      'gateway to /dev/null': curl('/dev/null', ours),
    },
    rounds,
  )
  const { cpuSeconds } = use.stop()
  const of = (name: string): number[] => seconds.get(name) ?? []
  const perGiB = cpuSeconds / ((2 * rounds * mib) / 1024)
  report.table(
    ['curl of a held file', 'speed'],
    [
      ...[...seconds].map(([name, all]) => [name, formatRate((mib * MiB) / median(all))]),
      ['CPU of the gateway per GiB', `${perGiB.toFixed(2)} s`],
    ],
  )
  report.bar({
    name: 'curl -o of a held file: speed of nginx',
    value: ratioOf(of('nginx to a file'), of('gateway to a file')),
    must: 0.8,
    goal: 1,
    more: true,
    unit: 'x',
  })
}

/** Seconds of `hf download` into an empty cache. */
async function hfDownload({ world }: Stage, endpoint: string): Promise<number> {
  const python = await pythonWith([`huggingface_hub==${hubVersion}`])
  if (!python.found) throw new Error(python.reason)
  const home = join(world.folder, 'hf-home')
  const env = {
    ...process.env,
    HF_ENDPOINT: endpoint,
    HF_HOME: home,
    HF_HUB_DISABLE_TELEMETRY: '1',
    HF_HUB_DISABLE_UPDATE_CHECK: '1',
  }
  const took = await timeCommand(join(python.bin, 'hf'), ['download', repository], env)
  await rm(home, { recursive: true })
  return took
}

async function hfOfHeldModel(stage: Stage): Promise<void> {
  const { report, model, url, world } = stage
  const reason = await noHf()
  if (reason !== undefined) return skip('hf', reason)
  await using hub = await startStaticHub(world.folder, { gateway: url, repository, folder: model })
  const seconds = await interleave(
    {
      'hf download from nginx': () => hfDownload(stage, hub.url),
      'hf download from the gateway': () => hfDownload(stage, url),
    },
    rounds,
  )
  const [theirs = [], ours = []] = seconds.values()
  showSeconds(report, seconds)
  report.bar({
    name: 'hf download of a held model: speed of a static hub of nginx',
    value: ratioOf(theirs, ours),
    must: 0.8,
    goal: 1,
    more: true,
    unit: 'x',
  })
}

async function hfOfPeersModel(stage: Stage): Promise<void> {
  const { report, world, link } = stage
  const reason = await noHf()
  if (reason !== undefined) return skip('hf-peer', reason)
  let round = 0
  const cpu = { pull: 0, hf: 0 }
  const fresh = async (
    how: keyof typeof cpu,
    work: (near: Machine) => Promise<number>,
  ): Promise<number> => {
    round += 1
    await using near = await startNear(stage, `near-${round}`)
    const use = watchUse([near.pid])
    const took = await work(near)
    cpu[how] += use.stop().cpuSeconds
    await near.stop()
    await rm(near.home, { recursive: true })
    return took
  }
  const seconds = await interleave(
    {
      'commonweight pull': () =>
        fresh('pull', async near =>
          timeCommand(world.command, ['--home', near.home, '--json', 'pull', link]),
        ),
      'hf download, held by one peer': () =>
        fresh('hf', async near => hfDownload(stage, await gatewayOf(near))),
    },
    rounds,
  )
  const [pull = [], hf = []] = seconds.values()
  showSeconds(report, seconds)
  const perGiB = (all: number): string => `${(all / ((rounds * mib) / 1024)).toFixed(2)} s`
  report.table(
    ['CPU of the node that fetches, per GiB', ''],
    [
      ['commonweight pull', perGiB(cpu.pull)],
      ['hf download', perGiB(cpu.hf)],
    ],
  )
  report.bar({
    name: 'hf download of a model that one peer has: speed of our own pull',
    value: ratioOf(pull, hf),
    must: 0.6,
    goal: 0.9,
    more: true,
    unit: 'x',
  })
}

async function firstByteOfRange(stage: Stage): Promise<void> {
  const { report, world, holder } = stage
  const count = values.quick ? 8 : 20
  const folder = join(world.folder, 'ranges')
  const names = Array.from({ length: count }, (_, at) => `part-${at}.bin`)
  await makeModel(folder, Object.fromEntries(names.map(name => [name, 32])))
  const { last } = await holder.cw('seed', folder)
  const { link } = seededSchema.parse(last)
  await using near = await startNear({ ...stage, link }, 'near-ranges')
  const url = await gatewayOf(near)
  // What a client asks first; it brings the manifest.
  await fetch(`${url}/api/models/${repository}`)
  const agent = new Agent({ keepAlive: true })
  const range = `bytes=${20 * MiB}-${20 * MiB + 999}`
  const took: number[] = []
  for (const name of names) {
    took.push(await milliseconds(agent, url + resolve(name), { range }))
    // What was asked for beside it comes, and is not to be in the next one's way.
    await sleep(second / 2)
  }
  agent.destroy()
  showMilliseconds(report, 'first bytes of a range that a peer has', took)
  report.bar({
    name: 'first byte of a range that is not held, median',
    value: median(took),
    must: 150,
    goal: 50,
    more: false,
    unit: 'ms',
  })
}

/** What transformers 5 asks for and does not find when it loads a model. */
const probes = [
  'adapter_config.json',
  'model.safetensors.index.json',
  'generation_config.json',
  'tokenizer_config.json',
  'tokenizer.model',
  'added_tokens.json',
  'special_tokens_map.json',
  'chat_template.jinja',
  'processor_config.json',
  'custom_generate/generate.py',
]

async function absentFiles({ report, url }: Stage): Promise<void> {
  const agent = new Agent({ keepAlive: true })
  const took: number[] = []
  for (let load = 0; load < (values.quick ? 10 : 50); load += 1) {
    for (const name of probes) took.push(await milliseconds(agent, url + resolve(name), {}, 404))
  }
  agent.destroy()
  showMilliseconds(report, 'files that are not there', took)
  report.bar({
    name: 'a 404 of a transformers load, p95',
    value: percentile(took, 0.95),
    must: 10,
    goal: 3,
    more: false,
    unit: 'ms',
  })
}

async function manyReaders(stage: Stage): Promise<void> {
  const { report, world, holder } = stage
  if (!onPath('aria2c')) return skip('readers', 'no aria2c here')
  const folder = join(world.folder, 'four')
  const names = ['a.bin', 'b.bin', 'c.bin', 'd.bin']
  await makeModel(folder, Object.fromEntries(names.map(name => [name, mib / 4])))
  const { last } = await holder.cw('seed', folder, '--name', 'org/four')
  const { link } = seededSchema.parse(last)
  await using near = await startNear({ ...stage, link }, 'near-readers')
  for (const [where, machine, name] of [
    ['held', holder, 'org/four'],
    ['held by one peer', near, repository],
  ] as const) {
    const url = await gatewayOf(machine)
    const list = join(world.folder, 'aria2.txt')
    await writeFile(list, names.map(each => `${url}/${name}/resolve/main/${each}\n`).join(''))
    const use = watchUse([machine.pid])
    const to = join(world.folder, 'aria2')
    const took = await timeCommand('aria2c', [
      '-q',
      `--input-file=${list}`,
      `--dir=${to}`,
      '-j4',
      '-x16',
      '-s16',
      '-k1M',
      '--file-allocation=none',
      '--auto-file-renaming=false',
      '--max-tries=1',
    ])
    const { rssPeakBytes } = use.stop()
    for (const each of names) {
      await timeCommand('cmp', [join(folder, each), join(to, each)])
    }
    await rm(to, { recursive: true })
    report.table(
      [`aria2 -x16 of four files, ${where}`, 'speed', 'peak RSS of the gateway'],
      [['', formatRate((mib * MiB) / took), formatBytes(rssPeakBytes)]],
    )
    report.bar({
      name: `peak RSS with 64 parallel ranged readers, no error (${where})`,
      value: rssPeakBytes / MiB,
      must: 400,
      goal: 300,
      more: false,
      unit: 'MiB',
    })
  }
}

/** From the request to the last byte of a short answer. */
function milliseconds(
  agent: Agent,
  url: string,
  headers: Readonly<Record<string, string>>,
  status = 206,
): Promise<number> {
  const startedMs = performance.now()
  return new Promise((done, failed) => {
    const asking = get(url, { agent, headers }, answer => {
      answer.resume()
      answer.once('end', () => {
        if (answer.statusCode === status) done(performance.now() - startedMs)
        else failed(new Error(`${url} was answered ${answer.statusCode}`))
      })
    })
    asking.once('error', failed)
  })
}

function percentile(of: readonly number[], part: number): number {
  const sorted = of.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN
}

function showMilliseconds(report: Report, what: string, took: readonly number[]): void {
  const cell = (part: number): string => `${percentile(took, part).toFixed(1)} ms`
  const first = `${(took[0] ?? 0).toFixed(1)} ms`
  report.table([what, 'first', 'median', 'p95'], [['', first, cell(0.5), cell(0.95)]])
}

function showSeconds(report: Report, seconds: ReadonlyMap<string, readonly number[]>): void {
  report.table(
    ['', 'time', 'speed'],
    [...seconds].map(([name, all]) => {
      const middle = median(all)
      return [name, `${middle.toFixed(2)} s`, formatRate((mib * MiB) / middle)]
    }),
  )
}

async function noHf(): Promise<string | undefined> {
  if (!onPath('nginx')) return 'no nginx here'
  const python = await pythonWith([`huggingface_hub==${hubVersion}`])
  return python.found ? undefined : python.reason
}

function skip(row: string, reason: string): void {
  process.stdout.write(`skipped: ${row}: ${reason}\n`)
}

const wanted = values.only?.split(',') ?? Object.keys(rows)
const unknown = wanted.filter(name => rows[name] === undefined)
if (unknown.length > 0)
  throw new Error(`no row ${unknown.join(', ')}: ${Object.keys(rows).join(', ')}`)
const report = new Report('bench:gateway', [
  `${mib} MiB`,
  `${rounds} rounds`,
  `in ${values.folder}`,
  `huggingface_hub ${hubVersion}`,
])
await using scratch = await scratchFolder(values.folder)
const world: World = {
  command: await freezeBuild(scratch.path),
  folder: scratch.path,
  commandTimeoutMs: 600 * second,
}
const model = join(scratch.path, 'model')
await makeModel(model, { 'model.safetensors': mib })
await using holder = await startMachine(world, 'holder', [], { env: gatewayOn })
const { last } = await holder.cw('seed', model, '--name', repository)
const { link } = seededSchema.parse(last)
const stage: Stage = { world, report, model, holder, url: await gatewayOf(holder), link }
for (const name of wanted) await rows[name]?.(stage)
if (values.write) await report.write()
