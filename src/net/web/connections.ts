/**
 * Requests to web servers that others named: few connections that are kept, and every address judged when
 * it is looked up and once more when it is connected to (docs/spec/web-seeds.md, section 3).
 */

import type { Agent as HttpAgent, ClientRequest, IncomingMessage } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import {
  CommonweightError,
  isAbort,
  messageOf,
  ProtocolError,
  systemCode,
  UnavailableError,
} from '../../core/errors.ts'
import { second } from '../../core/units.ts'
import {
  faultOfAddresses,
  guardedLookup,
  type Lookup,
  type Zone,
  zoneOfHost,
} from './address-guard.ts'

// Not imported: an import reads every export of a built-in module, and one of node:http's loads all
// of undici.
const { Agent: PlainAgent, request: plainRequest } = process.getBuiltinModule('node:http')

/** One web seed or hub leads to a CDN of a few hosts; one that scatters us over the net is no source. */
const originsMax = 16
/** An idle connection is kept so long; most servers keep them longer. */
const keptMs = 30 * second

export interface ConnectionRules {
  /** To one host, at a time. */
  readonly connectionsMax: number
  /** To connect, for the head of the answer, between two packets: then nothing will come. */
  readonly silenceMs: number
  readonly headBytesMax: number
}

/** Where one request goes, judged. */
export interface Target {
  readonly url: URL
  readonly zone: Zone
}

export class Connections implements Disposable {
  readonly #lookup: Lookup
  readonly #rules: ConnectionRules
  /** Connections that may only be public are not mixed with others. By zone and scheme. */
  readonly #agents = new Map<string, HttpAgent>()
  readonly #zones = new Map<string, Zone>()

  constructor(lookup: Lookup, rules: ConnectionRules) {
    this.#lookup = lookup
    this.#rules = rules
  }

  /**
   * Looked up once; whether it stays so is checked with every connection. Rejects with ProtocolError for
   * what is never asked, and for one host too many.
   */
  async zoneOf(url: URL): Promise<Zone> {
    const known = this.#zones.get(url.origin)
    if (known !== undefined) return known
    const zone = await zoneOfHost(url, this.#lookup)
    if (this.#zones.size >= originsMax) {
      throw new ProtocolError(`it redirects to more than ${originsMax} hosts`)
    }
    this.#zones.set(url.origin, zone)
    return zone
  }

  /** A kept connection may have been closed by the server just before it was used: once more, then. */
  async get(
    target: Target,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<IncomingMessage> {
    const first = this.#send(target, headers, signal)
    try {
      return await responseOf(first)
    } catch (error) {
      signal.throwIfAborted()
      if (!first.reusedSocket || systemCode(error) !== 'ECONNRESET') throw error
      return responseOf(this.#send(target, headers, signal))
    }
  }

  [Symbol.dispose](): void {
    for (const agent of this.#agents.values()) agent.destroy()
  }

  #send(
    { url, zone }: Target,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): ClientRequest {
    const send = url.protocol === 'https:' ? httpsRequest : plainRequest
    const request = send(url, {
      agent: this.#agentFor(url, zone),
      signal,
      timeout: this.#rules.silenceMs,
      maxHeaderSize: this.#rules.headBytesMax,
      headers,
    })
    request.on('timeout', () => request.destroy(new UnavailableError('it is silent')))
    refuseMoved(request, url, zone)
    request.end()
    return request
  }

  #agentFor({ protocol }: URL, zone: Zone): HttpAgent {
    const key = `${zone} ${protocol}`
    const known = this.#agents.get(key)
    if (known !== undefined) return known
    const { connectionsMax } = this.#rules
    const options = {
      keepAlive: true,
      maxSockets: connectionsMax,
      maxFreeSockets: connectionsMax,
      timeout: keptMs,
      lookup: guardedLookup(this.#lookup, zone),
    }
    const agent = protocol === 'https:' ? new HttpsAgent(options) : new PlainAgent(options)
    this.#agents.set(key, agent)
    return agent
  }
}

function responseOf(request: ClientRequest): Promise<IncomingMessage> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
  request.on('response', resolve)
  request.on('error', reject)
  return promise
}

/** The last look, at the connection itself: before it carries a byte of ours. */
function refuseMoved(request: ClientRequest, { host }: URL, zone: Zone): void {
  request.on('socket', socket => {
    const check = (): void => {
      const fault = faultOfAddresses([socket.remoteAddress ?? ''], zone, host)
      if (fault !== undefined) request.destroy(fault)
    }
    if (socket.connecting) socket.prependOnceListener('connect', check)
    else check()
  })
}

/** Node tells what the network did by codes; what is not HTTP at all breaks the rules. */
export function networkFault(error: unknown, who = 'it'): unknown {
  if (error instanceof CommonweightError || isAbort(error) || error instanceof TypeError) {
    return error
  }
  const code = systemCode(error)
  if (code === undefined) return error
  const details = { cause: error }
  if (code.startsWith('HPE_')) return new ProtocolError(`${who} does not speak HTTP`, details)
  return new UnavailableError(`${who} cannot be reached: ${messageOf(error) || code}`, details)
}
