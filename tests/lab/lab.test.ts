/**
 * Real daemons on networks as they are: slow links, one that is cut and mended, a home behind NAT, a LAN where nobody
 * was told of anybody. For root only. Under a minute; LAB_FULL=1 fetches more and cuts for longer.
 */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { peerSchema, type PulledEvent, pulledSchema } from '../../src/api/contract.ts'
import { MiB, minute, second } from '../../src/core/units.ts'
import {
  expectSameFiles,
  isWaiting,
  openStage,
  pull,
  seed,
  type Stage,
  startPull,
  succeeded,
} from '../support/end-to-end.ts'
import type { Machine, MachineOptions } from '../support/machine.ts'
import { seededBytes, writeFiles } from '../support/model-files.ts'
import {
  canConnect,
  labMissing,
  type Lan,
  type Link,
  type LinkOptions,
  makeRouter,
  natMissing,
  type NetLab,
  openNetLab,
  spacesOf,
  type Space,
} from '../support/netns.ts'

const isFull = process.env['LAB_FULL'] === '1'
const missing = labMissing()
const noNat = missing ?? natMissing()
const port = 4011
/** Bits per second of a link. */
const fast = 80e6
const slow = 16e6

/** A lab with machines in it; daemons end first, since a namespace lives for as long as a process in it. */
interface World extends AsyncDisposable {
  readonly lab: NetLab
  readonly stage: Stage
  /** A folder with a model of one file. */
  readonly original: string
}

async function openWorld(bytes: number): Promise<World> {
  await using opening = new AsyncDisposableStack()
  const lab = opening.use(await openNetLab())
  const stage = opening.use(await openStage())
  const files = { 'weights.bin': seededBytes('lab', bytes) }
  const original = await writeFiles(stage.file('original'), files)
  const open = opening.move()
  return { lab, stage, original, [Symbol.asyncDispose]: () => open.disposeAsync() }
}

interface Host {
  readonly machine: Machine
  readonly link: Link
}

interface HostOptions extends Pick<LinkOptions, 'bitsPerSecond'> {
  readonly knows?: readonly Machine[]
  readonly env?: MachineOptions['env']
}

/** A daemon at this address of a LAN. */
async function startHost(
  { lab, stage }: World,
  lan: Lan,
  host: string,
  { knows = [], env = {}, ...options }: HostOptions = {},
): Promise<Host> {
  const space = await lab.space(host)
  const link = await lan.plug(space, { address: `${host}/24`, ...options })
  return { machine: await startIn(stage, space, host, { knows, env }), link }
}

function startIn(
  stage: Stage,
  { within }: Space,
  host: string,
  { knows, env = {} }: Pick<HostOptions, 'knows' | 'env'>,
): Promise<Machine> {
  return stage.start(host, knows, { within, listen: `/ip4/${host}/tcp/${port}`, env })
}

/** Of all bytes of a pull, what this machine gave. */
function shareOf({ sources, bytes }: PulledEvent, { peerId }: Machine): number {
  return (sources.find(source => source.peerId === peerId)?.bytes ?? 0) / bytes
}

describe.skipIf(missing !== undefined)('in a lab of network namespaces', () => {
  test('a fast and a slow seeder serve at the sum of their links', async () => {
    const size = (isFull ? 256 : 64) * MiB
    await using world = await openWorld(size)
    const lan = await world.lab.lan()
    const hosts = await Promise.all([
      startHost(world, lan, '10.77.0.1', { bitsPerSecond: fast }),
      startHost(world, lan, '10.77.0.2', { bitsPerSecond: slow }),
    ])
    const seeders = hosts.map(({ machine }) => machine)
    const [seeded] = await Promise.all(seeders.map(machine => seed(machine, world.original)))
    const leecher = await startHost(world, lan, '10.77.0.3', { knows: seeders })
    const to = world.stage.file('copy')
    const pulling = startPull(leecher.machine, seeded?.manifest ?? '', '--to', to)
    // Past the start of the lanes and before the last chunks.
    const at = async (part: number): Promise<{ bytesDone: number; ms: number }> => {
      const { bytesDone } = await pulling.reached(seen => seen.bytesDone >= part * size)
      return { bytesDone, ms: performance.now() }
    }
    const [first, last] = await Promise.all([at(0.15), at(0.85)])
    const pulled = pulledSchema.parse(succeeded(await pulling.ended).last)
    await expectSameFiles(to, world.original)
    const sum = (fast + slow) / (8 * second)
    const rate = (last.bytesDone - first.bytesDone) / (last.ms - first.ms) / sum
    const whole = size / (pulled.seconds * second) / sum
    const [, slowShare = 0] = seeders.map(machine => shareOf(pulled, machine))
    const cost = (await leecher.link.bytesReceived()) / size
    tell({ 'of the sum': rate, 'start to end': whole, 'from the slow one': slowShare, cost })
    // The fast one alone has 0.83 of it.
    expect(rate).toBeGreaterThan(0.85)
    // Nor does it wait for the slow one at the end, which takes a chunk longer than the fast one does.
    expect(whole).toBeGreaterThan(isFull ? 0.8 : 0.6)
    expect(slowShare).toBeGreaterThan((0.6 * slow) / (fast + slow))
    expect(cost).toBeLessThan(1.15)
  })
})

// They mostly wait.
describe.skipIf(missing !== undefined).concurrent('in a lab of network namespaces', () => {
  test('a pull over a link that is cut says that it waits, and goes on by itself when it is mended', async () => {
    const size = 48 * MiB
    await using world = await openWorld(size)
    const lan = await world.lab.lan()
    const seeder = await startHost(world, lan, '10.77.0.1', { bitsPerSecond: fast })
    const { manifest } = await seed(seeder.machine, world.original)
    const knows = [seeder.machine]
    const leecher = await startHost(world, lan, '10.77.0.2', { knows })
    const to = world.stage.file('copy')
    const pulling = startPull(leecher.machine, manifest, '--to', to)
    await pulling.reached(({ bytesDone }) => bytesDone > size / 4)
    await seeder.link.cut()
    const cutAtMs = performance.now()
    const { bytesDone } = await pulling.reached(isWaiting)
    const saidAfterMs = performance.now() - cutAtMs
    expect(bytesDone).toBeLessThan(size)
    if (isFull) await sleep(minute - saidAfterMs)
    await seeder.link.heal()
    const healedAtMs = performance.now()
    const pulled = pulledSchema.parse(succeeded(await pulling.ended).last)
    const doneAfterMs = performance.now() - healedAtMs
    await expectSameFiles(to, world.original)
    const cost = (await leecher.link.bytesReceived()) / size
    tell({ saidAfterMs, doneAfterMs, cost })
    expect(pulled.bytesFetched).toBe(size)
    // What was under way when the link was cut, and the overhead of TCP.
    expect(cost).toBeLessThan(1.25)
    // Nobody has to wait for long after it is back: dials are tried again within 40 seconds.
    expect(doneAfterMs).toBeLessThan(50 * second)
  })

  test.skipIf(noNat !== undefined)(
    'a seeder behind NAT serves over a lane that it dialled when asked',
    async () => {
      const size = 32 * MiB
      await using world = await openWorld(size)
      const { lab, stage, original } = world
      const [outside, home] = [await lab.lan(), await lab.lan()]
      const router = await lab.space('router')
      await outside.plug(router, { address: '5.5.5.1/24' })
      await home.plug(router, { address: '192.168.7.1/24' })
      await makeRouter(router)
      const inner = await lab.space('inner')
      await home.plug(inner, { address: '192.168.7.2/24', gateway: '192.168.7.1' })
      const outer = await lab.space('outer')
      // It even knows the way in: the router does not let it pass.
      await outside.plug(outer, { address: '5.5.5.2/24', gateway: '5.5.5.1' })
      const leecher = await startIn(stage, outer, '5.5.5.2', {})
      const seeder = await startIn(stage, inner, '192.168.7.2', { knows: [leecher] })
      expect(await canConnect(inner, '5.5.5.2', port)).toBe(true)
      for (const host of ['192.168.7.2', '5.5.5.1']) {
        expect(await canConnect(outer, host, port)).toBe(false)
      }
      const { manifest } = await seed(seeder, original)
      const to = stage.file('copy')
      const pulled = await pull(leecher, manifest, '--to', to)
      await expectSameFiles(to, original)
      expect(pulled.sources).toEqual([{ peerId: seeder.peerId, bytes: size }])
      const { lines } = succeeded(await leecher.cw('peers'))
      expect(lines.map(line => peerSchema.parse(line))).toMatchObject([
        { peerId: seeder.peerId, direction: 'inbound', path: 'lane', pathReason: null },
      ])
    },
  )

  test('two daemons that know nobody find each other on their LAN', async () => {
    await using world = await openWorld(MiB)
    const lan = await world.lab.lan()
    const env = { COMMONWEIGHT_MDNS: 'true' }
    const seeder = await startHost(world, lan, '10.77.0.1', { env })
    const { manifest } = await seed(seeder.machine, world.original)
    const leecher = await startHost(world, lan, '10.77.0.2', { env })
    const to = world.stage.file('copy')
    const pulled = await pull(leecher.machine, manifest, '--to', to)
    await expectSameFiles(to, world.original)
    expect(pulled.sources).toEqual([{ peerId: seeder.machine.peerId, bytes: MiB }])
  })

  test.for(['SIGINT', 'SIGKILL'] as const)('%s leaves no network behind', async signal => {
    const file = join(import.meta.dirname, '../support/netns.ts')
    const script = `
      const { openNetLab } = await import(${JSON.stringify(file)})
      const lab = await openNetLab()
      await (await lab.lan()).plug(await lab.space('machine'), { address: '10.77.0.1/24' })
      console.log('open')
      setInterval(() => undefined, 1000)`
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const gone = once(child, 'exit')
    await once(child.stdout, 'data')
    const pid = child.pid ?? 0
    expect(await spacesOf(pid)).toHaveLength(2)
    child.kill(signal)
    await gone
    // Who is killed outright cannot clean up: the next one does.
    if (signal === 'SIGKILL') await (await openNetLab())[Symbol.asyncDispose]()
    expect(await spacesOf(pid)).toEqual([])
  })
})

/** Figures, for who reads along. */
function tell(figures: Readonly<Record<string, number>>): void {
  const text = Object.entries(figures).map(([name, value]) => `${name} ${value.toFixed(2)}`)
  process.stdout.write(`${text.join(', ')}\n`)
}

for (const [what, why] of Object.entries({ lab: missing, NAT: noNat })) {
  test.runIf(why !== undefined)(`what it needs is here: ${what}`, context => {
    expect(why).not.toBe('')
    context.skip(why)
  })
}
