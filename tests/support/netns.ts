/**
 * Machines with links of their own: network namespaces, joined by virtual cables that can be slow, cut and behind NAT.
 * All of it lies in namespaces that this process made and takes down again; no interface of this machine is touched.
 */

import { execFile, execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { promisify } from 'node:util'
import { z } from 'zod'
import { second } from '../../src/core/units.ts'

const run = promisify(execFile)
/** Every name of ours begins so; after it comes the process, so that what a killed one left is known. */
const prefix = 'cwlab'
const commandMs = 10 * second

const addressesSchema = z.array(
  z.object({ stats64: z.object({ rx: z.object({ bytes: z.number() }) }) }),
)

export interface Space {
  readonly name: string
  /** What a command begins with to run inside. */
  readonly within: readonly string[]
}

export interface Link {
  /** Packets of both directions vanish, as where a router in between dies: neither end is told. */
  cut(): Promise<void>
  heal(): Promise<void>
  /** What came in at the machine's end so far, headers and repeats of TCP included. */
  bytesReceived(): Promise<number>
}

export interface LinkOptions {
  /** With its length: `10.77.0.2/24`. */
  readonly address: string
  /** Both ways; as fast as it gets when left out. */
  readonly bitsPerSecond?: number
  /** Where everything else goes. */
  readonly gateway?: string
}

export interface NetLab extends AsyncDisposable {
  /** A machine without any link. */
  space(name: string): Promise<Space>
  /** A switch that machines are plugged into. */
  lan(): Promise<Lan>
}

export interface Lan {
  plug(space: Space, options: LinkOptions): Promise<Link>
}

/** Why there can be no lab here; undefined where there can. */
export function labMissing(): string | undefined {
  if (process.getuid?.() !== 0) return 'network namespaces are for root only: run this as root'
  const name = `${prefix}-${process.pid}-probe`
  const tries: [string, string[]][] = [
    ['network namespaces', ['netns', 'add', name]],
    ['bridges', ['-n', name, 'link', 'add', 'name', 'lan', 'type', 'bridge']],
    [
      'virtual cables',
      ['-n', name, 'link', 'add', 'name', 'a', 'type', 'veth', 'peer', 'name', 'b'],
    ],
  ]
  try {
    for (const [what, args] of tries) {
      const fault = faultOf('ip', args)
      if (fault !== undefined) return `no ${what} here: ${fault}`
    }
    const fault = faultOf('ip', ['netns', 'exec', name, 'tc', ...bucket('a', 8e6)])
    return fault === undefined ? undefined : `no slow links here: ${fault}`
  } finally {
    faultOf('ip', ['netns', 'del', name])
  }
}

/** Why nothing can translate addresses here. */
export function natMissing(): string | undefined {
  const name = `${prefix}-${process.pid}-nat`
  try {
    const fault =
      faultOf('ip', ['netns', 'add', name]) ??
      faultOf('ip', ['netns', 'exec', name, 'nft', masquerade('out')])
    return fault === undefined ? undefined : `no NAT here: ${fault}`
  } finally {
    faultOf('ip', ['netns', 'del', name])
  }
}

/** What it said on stderr, or why it did not run. */
function faultOf(command: string, args: readonly string[]): string | undefined {
  try {
    execFileSync(command, args, { stdio: ['ignore', 'ignore', 'pipe'], timeout: commandMs })
    return undefined
  } catch (error) {
    const { stderr, message } = error as Error & { readonly stderr?: Buffer }
    const said = stderr?.toString().trim() ?? ''
    return said === '' ? message : said
  }
}

/** Ends with its namespaces gone, also when this process is interrupted. */
export async function openNetLab(): Promise<NetLab> {
  await sweep()
  const own = `${prefix}-${process.pid}-${randomBytes(3).toString('hex')}`
  const names: string[] = []
  const cables = new Map<Space, number>()
  const remove = (): void => {
    for (const name of names.splice(0)) faultOf('ip', ['netns', 'del', name])
  }
  const onSignal = (signal: NodeJS.Signals): void => {
    remove()
    forget()
    process.kill(process.pid, signal)
  }
  const forget = (): void => {
    process.off('exit', remove)
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.off(signal, onSignal)
  }
  process.on('exit', remove)
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, onSignal)

  const space = async (label: string): Promise<Space> => {
    const name = `${own}-${names.length}-${label}`
    names.push(name)
    await ip('netns', 'add', name)
    await ip('-n', name, 'link', 'set', 'lo', 'up')
    return { name, within: ['ip', 'netns', 'exec', name] }
  }
  return {
    space,
    lan: async () => openLan(await space('switch'), cables),
    async [Symbol.asyncDispose]() {
      forget()
      remove()
      await Promise.resolve()
    },
  }
}

/** What a process left that was killed outright. */
async function sweep(): Promise<void> {
  for (const { name, pid } of await spaces()) {
    if (!isAlive(pid)) faultOf('ip', ['netns', 'del', name])
  }
}

/** The namespaces that a process made and that are there now. */
export async function spacesOf(pid: number): Promise<string[]> {
  return (await spaces()).flatMap(space => (space.pid === pid ? space.name : []))
}

async function spaces(): Promise<{ name: string; pid: number }[]> {
  const { stdout } = await run('ip', ['netns', 'list'], { timeout: commandMs })
  const found = stdout.matchAll(new RegExp(`^${prefix}-(\\d+)-\\S+`, 'gmu'))
  return Array.from(found, ([name, pid]) => ({ name, pid: Number(pid) }))
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

async function openLan({ name: hub }: Space, cables: Map<Space, number>): Promise<Lan> {
  // Multicast goes to all, as with a switch that does not listen in on it.
  await ip('-n', hub, 'link', 'add', 'name', 'lan', 'type', 'bridge', 'mcast_snooping', '0')
  await ip('-n', hub, 'link', 'set', 'lan', 'up')
  let ports = 0
  return {
    async plug(space, { address, bitsPerSecond, gateway }) {
      const { name } = space
      ports += 1
      const port = `port${ports}`
      const cable = cables.get(space) ?? 0
      cables.set(space, cable + 1)
      const own = `eth${cable}`
      const ends = ['name', port, 'type', 'veth', 'peer', 'name', own, 'netns', name]
      await ip('-n', hub, 'link', 'add', ...ends)
      await ip('-n', name, 'address', 'add', address, 'dev', own)
      for (const [where, device] of [[hub, port] as const, [name, own] as const]) {
        if (bitsPerSecond !== undefined) await inside(where, 'tc', ...bucket(device, bitsPerSecond))
        await ip('-n', where, 'link', 'set', device, 'up')
      }
      const connect = (): Promise<void> => ip('-n', hub, 'link', 'set', port, 'master', 'lan')
      await connect()
      if (cable === 0) await ip('-n', name, 'route', 'add', '224.0.0.0/4', 'dev', own)
      if (gateway !== undefined) await ip('-n', name, 'route', 'add', 'default', 'via', gateway)
      return {
        cut: () => ip('-n', hub, 'link', 'set', port, 'nomaster'),
        heal: connect,
        async bytesReceived() {
          const { stdout } = await run('ip', ['-n', name, '-s', '-j', 'link', 'show', own])
          const [device] = addressesSchema.parse(JSON.parse(stdout))
          return device?.stats64.rx.bytes ?? 0
        },
      }
    },
  }
}

/**
 * The machine sends on what comes from elsewhere in its own name on its first link; nothing that begins
 * there gets through.
 */
export async function makeRouter({ name }: Space): Promise<void> {
  const outside = 'eth0'
  await inside(name, 'sysctl', '-qw', 'net.ipv4.ip_forward=1')
  await inside(name, 'nft', masquerade(outside))
}

function masquerade(outside: string): string {
  return `table ip home {
    chain leaving { type nat hook postrouting priority 100; oifname "${outside}" masquerade; }
    chain passing {
      type filter hook forward priority 0; policy accept;
      iifname "${outside}" ct state new drop;
    }
  }`
}

/** A token bucket of a tenth of a second's bytes, in front of a queue of as much: a home router's. */
function bucket(device: string, bitsPerSecond: number): string[] {
  const rate = ['rate', `${bitsPerSecond}bit`, 'burst', `${Math.ceil(bitsPerSecond / 80)}b`]
  return ['qdisc', 'add', 'dev', device, 'root', 'tbf', ...rate, 'latency', '100ms']
}

/** Whether a program inside reaches this port by TCP. */
export async function canConnect({ name }: Space, host: string, port: number): Promise<boolean> {
  const script = `
    const socket = require('node:net').connect(${port}, '${host}')
    socket.setTimeout(2000, () => process.exit(1))
    socket.on('error', () => process.exit(1)).on('connect', () => process.exit(0))`
  return inside(name, process.execPath, '-e', script).then(
    () => true,
    () => false,
  )
}

async function ip(...args: string[]): Promise<void> {
  await run('ip', args, { timeout: commandMs })
}

async function inside(name: string, ...command: string[]): Promise<void> {
  await ip('netns', 'exec', name, ...command)
}
