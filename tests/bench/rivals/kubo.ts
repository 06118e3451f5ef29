/** kubo, the IPFS daemon: `ipfs get` over bitswap between two daemons that know only each other. */

import { existsSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { withCommand, runCommand, watchUse } from '../use.ts'
import {
  answering,
  freePort,
  programsFolder,
  type Rival,
  type Server,
  startServer,
} from './rival.ts'

const ipfs = join(programsFolder, 'kubo', 'ipfs')

interface KuboNode extends AsyncDisposable {
  readonly pid: number
  readonly address: string
  readonly env: NodeJS.ProcessEnv
}

function environment(repository: string): NodeJS.ProcessEnv {
  return { ...process.env, IPFS_PATH: repository, IPFS_TELEMETRY: 'off' }
}

async function initRepository(repository: string): Promise<{ swarm: number; api: number }> {
  const env = environment(repository)
  const [swarm, api] = [await freePort(), await freePort()]
  await runCommand(ipfs, ['init', '--profile=test'], { env })
  const settings: Record<string, unknown> = {
    'Addresses.Swarm': [`/ip4/127.0.0.1/tcp/${swarm}`],
    'Addresses.API': `/ip4/127.0.0.1/tcp/${api}`,
    'Addresses.Gateway': null,
    'Routing.Type': 'none',
    'AutoConf.Enabled': false,
    Bootstrap: [],
  }
  for (const [key, value] of Object.entries(settings)) {
    await runCommand(ipfs, ['config', '--json', key, JSON.stringify(value)], { env })
  }
  return { swarm, api }
}

async function startNode(repository: string): Promise<KuboNode> {
  const env = environment(repository)
  const { swarm, api } = await initRepository(repository)
  const daemon: Server = startServer(ipfs, ['daemon'], { env })
  // Its command opens the repository itself when no daemon answers: so wait for the port.
  await answering(api)
  const { stdout } = await runCommand(ipfs, ['id', '-f', '<id>'], { env })
  return {
    pid: daemon.pid,
    address: `/ip4/127.0.0.1/tcp/${swarm}/p2p/${stdout.trim()}`,
    env,
    async [Symbol.asyncDispose]() {
      await daemon[Symbol.asyncDispose]()
      await rm(repository, { recursive: true })
    },
  }
}

export const kubo: Rival = {
  name: 'kubo, ipfs get',
  missing: () =>
    Promise.resolve(existsSync(ipfs) ? undefined : `no ${ipfs} (docs/benchmarks.md builds it)`),
  async prepare({ folder, file }) {
    const seeder = await startNode(join(folder, 'kubo-seeder'))
    const add = ['add', '--quieter', '--cid-version=1', '--chunker=size-1048576', file]
    const { stdout } = await runCommand(ipfs, add, { env: seeder.env })
    const cid = stdout.trim()
    return {
      async run() {
        await using leecher = await startNode(join(folder, 'kubo-leecher'))
        const { env } = leecher
        await runCommand(ipfs, ['swarm', 'connect', seeder.address], { env })
        const target = join(folder, 'kubo.bin')
        const [here, there] = [watchUse([leecher.pid]), watchUse([seeder.pid])]
        const get = await runCommand(ipfs, ['get', '--progress=false', '-o', target, cid], { env })
        const run = {
          seconds: get.seconds,
          leecher: withCommand(here.stop(), get),
          seeder: there.stop(),
        }
        await rm(target)
        return run
      },
      [Symbol.asyncDispose]: () => seeder[Symbol.asyncDispose](),
    }
  },
}
