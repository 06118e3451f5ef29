/** What the rows of bench:swarm share: a model, daemons that seed it, fresh ones that pull it. */

import { randomBytes } from 'node:crypto'
import { mkdir, open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { pulledSchema, seededSchema, type PulledEvent } from '../../../src/api/contract.ts'
import { mapLimit } from '../../../src/core/async.ts'
import { MiB, second } from '../../../src/core/units.ts'
import {
  type Line,
  type Machine,
  type MachineOptions,
  startMachine,
  type World,
} from '../../support/machine.ts'
import type { Report } from '../report.ts'
import { type Use, watchUse } from '../use.ts'

export interface Bed {
  readonly world: World
  readonly report: Report
  readonly rounds: number
  /** Of the model, for rows that do not need their own size. */
  readonly mib: number
  readonly quick: boolean
  /** A folder with one file of so many MiB; made once. */
  model(mib: number): Promise<string>
}

export interface Row {
  readonly name: string
  run(bed: Bed): Promise<void>
}

/** Each daemon's start is a second of CPU: all at once would time one another out. */
const startsAtATime = 4

/** Random bytes: nothing on the way can compress or deduplicate them. */
export async function makeModel(folder: string, mib: number): Promise<void> {
  await mkdir(folder, { recursive: true })
  await using file = await open(join(folder, 'weights.bin'), 'w')
  for (let written = 0; written < mib; written += 1) await file.write(randomBytes(MiB))
  await file.sync()
}

export interface Seeders extends AsyncDisposable {
  readonly machines: readonly Machine[]
  /** Of the first; the addresses of the others are for --peer. */
  readonly link: string
  readonly addresses: readonly string[]
}

let sets = 0

/** Daemons that each have the whole model and know nobody; `optionsOf` may differ for each. */
export async function startSeeders(
  { world }: Bed,
  folder: string,
  count: number,
  optionsOf: (index: number) => MachineOptions = () => ({}),
): Promise<Seeders> {
  sets += 1
  const set = sets
  await using parts = new AsyncDisposableStack()
  const machines: Machine[] = []
  const links: string[] = []
  const start = async (index: number): Promise<void> => {
    const name = `seeder-${set}-${index}`
    const machine = parts.use(await startMachine(world, name, [], optionsOf(index)))
    const { last } = await machine.cw('seed', folder)
    machines[index] = machine
    links[index] = seededSchema.parse(last).link
  }
  for await (const _ of mapLimit([...Array(count).keys()], startsAtATime, start));
  const owned = parts.move()
  return {
    machines,
    link: links[0] ?? '',
    addresses: machines.map(({ address }) => address),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

export interface Pull {
  /** Of the command, from its start to its end. */
  readonly seconds: number
  readonly result: PulledEvent
  readonly use: Use
}

export interface PullOptions {
  /** Of the daemon that pulls. */
  readonly machine?: MachineOptions
  readonly peers?: readonly string[]
  readonly onLine?: (line: Line, machine: Machine) => void
}

let leechers = 0

/** A daemon that has nothing, ready to pull. */
export function startLeecher({ world }: Bed, options: MachineOptions = {}): Promise<Machine> {
  leechers += 1
  return startMachine(world, `leecher-${leechers}`, [], options)
}

export async function pullOn(
  machine: Machine,
  link: string,
  { peers = [], onLine }: PullOptions = {},
): Promise<Pull> {
  const watch = watchUse([machine.pid])
  const started = performance.now()
  const words = ['pull', link, ...peers.flatMap(peer => ['--peer', peer])]
  const { last, stderr } = await machine.watch(words, line => onLine?.(line, machine))
  const seconds = (performance.now() - started) / second
  const use = watch.stop()
  if (last.type !== 'pulled') throw new Error(`${JSON.stringify(last)}\n${stderr}`)
  return { seconds, result: pulledSchema.parse(last), use }
}

/** Pulls with a new daemon, which is gone afterwards with what it fetched. */
export async function pullAfresh(bed: Bed, link: string, options?: PullOptions): Promise<Pull> {
  await using leecher = await startLeecher(bed, options?.machine)
  const pull = await pullOn(leecher, link, options)
  await leecher.stop()
  await rm(leecher.home, { recursive: true })
  return pull
}
