/**
 * Pull over loopback, one seeder, against nginx + `curl -o` + `openssl dgst`: both end with a file on
 * disk whose SHA-256 is known. Then the memory both daemons took, and what kill -9 in mid-pull costs.
 *
 *   npm run bench:pull [-- --mib 1024 --rounds 3]
 */

import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, open, readdir, rm, writeFile } from 'node:fs/promises'
import { type AddressInfo, connect, createServer } from 'node:net'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { progressSchema, pulledSchema, seededSchema } from '../../src/api/contract.ts'
import { formatBytes, formatRate, MiB } from '../../src/core/units.ts'
import { type Machine, startMachine, type World } from '../support/machine.ts'
import {
  interleave,
  isInstalled,
  median,
  ratioOf,
  scratchFolder,
  showBar,
  showMachine,
  timeCommand,
  useOf,
} from './bench.ts'

const { values } = parseArgs({
  options: { mib: { type: 'string', default: '1024' }, rounds: { type: 'string', default: '3' } },
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

async function startNginx(folder: string): Promise<{ url: string } & AsyncDisposable> {
  const port = await freePort()
  const config = join(folder, 'nginx.conf')
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map(name => `${name}_temp_path ${join(folder, `nginx-${name}`)};`)
    .join(' ')
  await writeFile(
    config,
    `${process.getuid?.() === 0 ? 'user root; ' : ''}daemon off; master_process off; error_log stderr; pid ${join(folder, 'nginx.pid')};
     events {} http { access_log off; sendfile on; ${temporary}
       server { listen 127.0.0.1:${port}; root ${folder}; } }`,
  )
  const child = spawn('nginx', ['-c', config], { stdio: 'ignore' })
  const gone = once(child, 'exit')
  for (let attempt = 0; attempt < 50 && !(await answers(port)); attempt += 1) await sleep(100)
  return {
    url: `http://127.0.0.1:${port}`,
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL')
      await gone
    },
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  return port
}

async function answers(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1')
  const open = await once(socket, 'connect').then(
    () => true,
    () => false,
  )
  socket.destroy()
  return open
}

async function compare(world: World, seeder: Machine, link: string): Promise<void> {
  const fetched = join(world.folder, 'curl.bin')
  await using nginx = await startNginx(world.folder)
  let round = 0
  const seconds = await interleave(
    {
      'curl + openssl': async () => {
        const took = await timeCommand('sh', [
          '-c',
          `curl -sSf -o ${fetched} ${nginx.url}/model/weights.bin && openssl dgst -sha256 ${fetched}`,
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
  showBar({ name: 'pull, speed', value: speed, must: 0.4, goal: 0.6, more: true, unit: 'x' })
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
  showBar({
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

if (!(await isInstalled('nginx', '-v')) || !(await isInstalled('curl'))) {
  process.stdout.write('skipped: nginx and curl are needed as the peer to compare with\n')
} else {
  showMachine()
  await using scratch = await scratchFolder()
  const world: World = { command: resolve(import.meta.dirname, '../../cw'), folder: scratch.path }
  await makeModel(join(scratch.path, 'model'))
  await using seeder = await startMachine(world, 'seeder', [])
  const { last } = await seeder.cw('seed', join(scratch.path, 'model'))
  const { link } = seededSchema.parse(last)
  await compare(world, seeder, link)
  await killMidway(world, seeder, link)
}
