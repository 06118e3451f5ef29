/** The TCP listener: the gateway for clients of a hub, when the configuration has one. */

import type { Clock } from '../../src/core/clock.ts'
import { ConflictError, InvalidInputError, messageOf, systemCode } from '../../src/core/errors.ts'
import type { Logger } from '../../src/core/log.ts'
import type { NodeGateway } from '../../src/node.ts'
import type { Config } from '../config.ts'
import { type HttpAddress, parseHttpListen } from '../settings.ts'
import { answerError, hubGateway } from './hub/hub.ts'
import { type HttpDeps, type HttpServer, openHttp } from './server.ts'

export interface GatewayDeps {
  readonly gateway: NodeGateway
  readonly clock: Clock
  readonly log: Logger
}

/**
 * Undefined when it is off, or when the port that nobody asked for is taken: a second node on one
 * machine is a node all the same.
 */
export async function openGateway(
  deps: GatewayDeps,
  { entries, settings }: Pick<Config, 'entries' | 'settings'>,
): Promise<HttpServer | undefined> {
  const key = 'http.listen'
  const address = parseHttpListen(settings[key])
  if (address === undefined) return undefined
  const allowed = settings['http.allow_hosts'].map(name => name.toLowerCase())
  const corsOrigins = settings['gateway.cors_origins']
  const plugin = hubGateway(deps, { host: address.host, allowed, corsOrigins })
  const refuse: HttpDeps['refuse'] = (error, exchange) => answerError(deps, error, exchange)
  try {
    const server = await openHttp({ log: deps.log, refuse }, address, [plugin])
    deps.log.info('the gateway listens', { url: server.address, listens: settings[key] })
    return server
  } catch (error) {
    const code = systemCode(error)
    if (code === undefined) throw error
    const isChosen = entries.some(entry => entry.key === key && entry.source !== 'default')
    if (isChosen) throw cannotListen(settings[key], address, error)
    const fields = { address: settings[key], error: messageOf(error) }
    deps.log.warn('no gateway: its address cannot be listened on (choose one with --http)', fields)
    return undefined
  }
}

function cannotListen(text: string, { host }: HttpAddress, cause: unknown): Error {
  const hint = 'choose another one with --http HOST:PORT, or --http off'
  return systemCode(cause) === 'EADDRINUSE'
    ? new ConflictError(`another program listens on ${text}`, { cause, hint })
    : new InvalidInputError(`the gateway cannot listen on ${host}: ${messageOf(cause)}`, {
        cause,
        hint,
      })
}
