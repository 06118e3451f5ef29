/** The wiring of a daemon, top to bottom in opening order; closed from the bottom up. */

import type { Clock } from '../src/core/clock.ts'
import type { Logger } from '../src/core/log.ts'
import type { Node, NodeDeps, NodeOptions } from '../src/node.ts'
import type { Config } from './config.ts'
import { clearSocket, lockHome, prepareHome } from './home.ts'
import { control } from './http/control.ts'
import { openGateway } from './http/gateway.ts'
import { guard } from './http/guard.ts'
import { openHttp } from './http/server.ts'
import { Operations, resumePulls } from './operations.ts'

export interface DaemonDeps {
  readonly clock: Clock
  readonly log: Logger
  openNode(deps: NodeDeps, options: NodeOptions): Promise<Node>
  readonly newId: () => string
}

export interface DaemonOptions {
  readonly config: Config
  readonly version: string
}

export interface Daemon extends AsyncDisposable {
  readonly peerId: string
  readonly addresses: readonly string[]
  /** URL of the gateway, when there is one. */
  readonly gateway: string | undefined
  /** Aborts when a client asks the daemon to stop. */
  readonly stopAsked: AbortSignal
}

export async function openDaemon(deps: DaemonDeps, options: DaemonOptions): Promise<Daemon> {
  const { clock, log } = deps
  const { config, version } = options
  const startedAtMs = clock.now()
  const stop = new AbortController()
  const closing = new AbortController()
  await using opening = new AsyncDisposableStack()

  await prepareHome(config.paths)
  opening.use(await lockHome(config.paths))
  await clearSocket(config.paths)
  const nodeStack = opening.use(new AsyncDisposableStack())
  const node = nodeStack.use(await deps.openNode({ clock, log }, nodeOptions(options)))
  // Told of last and closed first: whoever reads a file is cut off before the file is.
  const gateway = await openGateway({ gateway: node.gateway, clock, log }, config)
  if (gateway !== undefined) opening.use(gateway)
  const about = {
    version,
    pid: process.pid,
    home: config.paths.home,
    gateway: gateway?.address ?? null,
    startedAtMs,
  }
  const operations = new Operations({ node, clock, log, newId: deps.newId })
  const plugins = [
    guard({ closing: closing.signal }),
    control({ node, operations, about, config: config.entries, requestStop: () => stop.abort() }),
  ]
  opening.use(await openHttp({ log }, { path: config.paths.socket }, plugins))
  // First when closing: the node ends what it is doing and notes what is to go on, and whoever follows
  // that reads how it ended before the listener closes.
  opening.defer(async () => {
    closing.abort()
    operations.close()
    await nodeStack.disposeAsync()
    await operations.settled()
  })
  resumePulls(operations, node.pendingPulls(), log)

  const parts = opening.move()
  return {
    peerId: node.peerId,
    addresses: node.addresses(),
    gateway: gateway?.address,
    stopAsked: stop.signal,
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  }
}

function nodeOptions({ config, version }: DaemonOptions): NodeOptions {
  const { settings, paths, programEnv } = config
  return {
    version,
    paths,
    programEnv,
    net: {
      listen: settings.listen,
      announce: settings.announce,
      bootstrap: settings.bootstrap,
      network: settings.network,
      mdns: settings.mdns,
      relay: settings.relay,
      bandwidth: {
        maxDown: settings['bandwidth.max_down'] ?? undefined,
        maxUp: settings['bandwidth.max_up'] ?? undefined,
        limitLan: settings['bandwidth.limit_lan'],
      },
      lane: settings.lane,
    },
    storage: {
      reserveBytes: settings['storage.reserve_bytes'],
      reserveFraction: settings['storage.reserve_fraction'],
    },
    webSeeds: { allowPrivate: settings['webseed.allow_private'] },
    gateway: {
      keep: settings['gateway.keep'],
      cacheBytes: settings['gateway.cache_bytes'] ?? undefined,
      upstream: settings['gateway.upstream'] === 'off' ? undefined : settings['gateway.upstream'],
    },
  }
}
