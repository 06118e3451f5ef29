/**
 * Asks web servers for byte ranges: few connections that are kept, redirects followed by hand and judged
 * like the first URL, every address checked when it is named, looked up and connected to.
 */

import type { Agent as HttpAgent, ClientRequest, IncomingMessage } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import type { Clock } from '../../core/clock.ts'
import {
  CommonweightError,
  isAbort,
  messageOf,
  ProtocolError,
  systemCode,
  UnavailableError,
} from '../../core/errors.ts'
import { KiB, second } from '../../core/units.ts'
import { withDeadline } from '../../transfer/ask-sources.ts'
import {
  anyLookup,
  type Lookup,
  movedInside,
  publicLookup,
  type Zone,
  zoneOf,
  zoneOfHost,
} from './address-guard.ts'
import { judge, type RangeAsk, readBody, type Verdict } from './range-answer.ts'
import { privateHint, queryInside, type WebSeedRules } from './seed-url.ts'

// Not imported: an import reads every export of a built-in module, and one of node:http's loads all
// of undici.
const { Agent: PlainAgent, request: plainRequest } = process.getBuiltinModule('node:http')

/** As many as browsers open to one host; servers that count connections allow these. */
export const webConnectionsMax = 6
/** A mirror's own, a hub's to its CDN, and one to spare. */
const redirectsMax = 3
/** One web seed leads to a CDN of a few hosts; one that scatters us over the net is no seed. */
const originsMax = 16
/** Where redirects led, for files being fetched now: a hub counts each visit, and its answers are long. */
const targetsMax = 256
const targetCharactersMax = 4 * KiB
const answerHeadBytesMax = 16 * KiB
/** To connect, for the head of the answer, between two packets: then nothing will come. */
const silenceMs = 20 * second
/** Of a whole answer: who is slower than this is not worth a connection. */
const leastBytesPerMs = (16 * KiB) / second
/** An idle connection is kept so long; most servers keep them longer. */
const keptMs = 30 * second

export interface WebClientDeps {
  readonly lookup: Lookup
  readonly clock: Clock
}

export interface WebClientOptions extends WebSeedRules {
  /** Name and version, for the server's log. */
  readonly agent: string
}

export type WebAnswer =
  | { readonly type: 'bytes'; readonly bytes: Uint8Array }
  | Exclude<Verdict, { type: 'bytes' | 'redirect' }>

/** Where one request goes, judged. */
interface Target {
  readonly url: URL
  readonly zone: Zone
}

type Visited = WebAnswer | Extract<Verdict, { type: 'redirect' }>

export class WebClient implements Disposable {
  readonly #deps: WebClientDeps
  readonly #options: WebClientOptions
  /** Connections that may only be public are not mixed with others. By zone and scheme. */
  readonly #agents = new Map<string, HttpAgent>()
  readonly #zones = new Map<string, Zone>()
  readonly #targets = new Map<string, Target>()

  constructor(deps: WebClientDeps, options: WebClientOptions) {
    this.#deps = deps
    this.#options = options
  }

  /**
   * Rejects with ProtocolError when the server breaks the rules or leads where it must not, and with
   * UnavailableError when there is no connection, or not in time.
   */
  fetchRange(url: URL, ask: RangeAsk, signal: AbortSignal): Promise<WebAnswer> {
    const limitMs = silenceMs + ask.length / leastBytesPerMs
    return withDeadline(this.#deps.clock, limitMs, signal, async inner => {
      try {
        return (await this.#visitKnown(url, ask, inner)) ?? (await this.#follow(url, ask, inner))
      } catch (error) {
        throw faultOf(error)
      }
    })
  }

  [Symbol.dispose](): void {
    for (const agent of this.#agents.values()) agent.destroy()
  }

  /** Asks where the last redirect led; undefined when that is over, as signed URLs are after a while. */
  async #visitKnown(url: URL, ask: RangeAsk, signal: AbortSignal): Promise<WebAnswer | undefined> {
    const target = this.#targets.get(url.href)
    if (target === undefined) return undefined
    try {
      const answer = await this.#visit(target, ask, signal)
      if (answer.type !== 'redirect' && answer.type !== 'missing') return answer
      this.#targets.delete(url.href)
      return undefined
    } catch (error) {
      if (!signal.aborted) this.#targets.delete(url.href)
      throw error
    }
  }

  async #follow(first: URL, ask: RangeAsk, signal: AbortSignal): Promise<WebAnswer> {
    let target = await this.#judgeUrl(first, this.#options.allowPrivate)
    for (let redirects = 0; ; redirects += 1) {
      const answer = await this.#visit(target, ask, signal)
      if (answer.type !== 'redirect') {
        if (redirects > 0 && answer.type === 'bytes') this.#remember(first, target)
        return answer
      }
      if (redirects === redirectsMax) {
        throw new ProtocolError(`it redirects more than ${redirectsMax} times`)
      }
      target = await this.#judgeRedirect(target, answer.location)
    }
  }

  async #judgeRedirect(from: Target, location: string): Promise<Target> {
    if (!URL.canParse(location, from.url.href)) throw new ProtocolError('it redirects to no URL')
    const url = new URL(location, from.url)
    url.hash = ''
    const where = `it redirects to ${url.protocol}//${url.host}`
    if (url.protocol !== 'https:' && url.protocol !== from.url.protocol) {
      throw new ProtocolError(`${where}, which is not https`)
    }
    if (url.username !== '' || url.password !== '') {
      throw new ProtocolError(`${where} with a user name or password`)
    }
    return this.#judgeUrl(url, from.zone === 'private')
  }

  /** What cannot be seen in the text of a URL: where its host is. */
  async #judgeUrl(url: URL, mayBePrivate: boolean): Promise<Target> {
    const zone = await this.#zoneOf(url)
    if (zone === 'private' && !mayBePrivate) {
      throw new ProtocolError(`${url.host} leads to a private address: ${privateHint}`)
    }
    if (zone === 'public' && url.protocol === 'http:') {
      throw new ProtocolError(`${url.host} is public and asked for by http`)
    }
    if (zone === 'private' && url.search !== '') {
      throw new ProtocolError(`${url.host} ${queryInside}`)
    }
    return { url, zone }
  }

  /** Looked up once; whether it stays so is checked with every connection. */
  async #zoneOf(url: URL): Promise<Zone> {
    const known = this.#zones.get(url.origin)
    if (known !== undefined) return known
    const zone = await zoneOfHost(url, this.#deps.lookup)
    if (this.#zones.size >= originsMax) {
      throw new ProtocolError(`it redirects to more than ${originsMax} hosts`)
    }
    this.#zones.set(url.origin, zone)
    return zone
  }

  #remember({ href }: URL, target: Target): void {
    if (target.url.href.length > targetCharactersMax) return
    this.#targets.delete(href)
    this.#targets.set(href, target)
    const [oldest] = this.#targets.keys()
    if (this.#targets.size > targetsMax && oldest !== undefined) this.#targets.delete(oldest)
  }

  async #visit(target: Target, ask: RangeAsk, signal: AbortSignal): Promise<Visited> {
    const response = await this.#respond(target, ask, signal)
    try {
      const { statusCode: status = 0, headers } = response
      const verdict = judge({ status, headers, nowMs: this.#deps.clock.now() }, ask)
      if (verdict.type === 'bytes') {
        return { type: 'bytes', bytes: await readBody(response, ask.length, verdict) }
      }
      response.destroy()
      return verdict
    } catch (error) {
      response.destroy()
      throw error
    }
  }

  /** A kept connection may have been closed by the server just before it was used: once more, then. */
  async #respond(target: Target, ask: RangeAsk, signal: AbortSignal): Promise<IncomingMessage> {
    const first = this.#send(target, ask, signal)
    try {
      return await responseOf(first)
    } catch (error) {
      signal.throwIfAborted()
      if (!first.reusedSocket || systemCode(error) !== 'ECONNRESET') throw error
      return responseOf(this.#send(target, ask, signal))
    }
  }

  #send({ url, zone }: Target, { offset, length }: RangeAsk, signal: AbortSignal): ClientRequest {
    const send = url.protocol === 'https:' ? httpsRequest : plainRequest
    const request = send(url, {
      agent: this.#agentFor(url, zone),
      signal,
      timeout: silenceMs,
      maxHeaderSize: answerHeadBytesMax,
      headers: {
        accept: '*/*',
        'accept-encoding': 'identity',
        range: `bytes=${offset}-${offset + length - 1}`,
        'user-agent': this.#options.agent,
      },
    })
    request.on('timeout', () => request.destroy(new UnavailableError('it is silent')))
    if (zone === 'public') refusePrivate(request, url)
    request.end()
    return request
  }

  #agentFor({ protocol }: URL, zone: Zone): HttpAgent {
    const key = `${zone} ${protocol}`
    const known = this.#agents.get(key)
    if (known !== undefined) return known
    const { lookup } = this.#deps
    const options = {
      keepAlive: true,
      maxSockets: webConnectionsMax,
      maxFreeSockets: webConnectionsMax,
      timeout: keptMs,
      lookup: zone === 'public' ? publicLookup(lookup) : anyLookup(lookup),
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
function refusePrivate(request: ClientRequest, { host }: URL): void {
  request.on('socket', socket => {
    const check = (): void => {
      if (zoneOf(socket.remoteAddress ?? '') !== 'public') request.destroy(movedInside(host))
    }
    if (socket.connecting) socket.prependOnceListener('connect', check)
    else check()
  })
}

/** Node tells what the network did by codes; what is not HTTP at all breaks the rules. */
function faultOf(error: unknown): unknown {
  if (error instanceof CommonweightError || isAbort(error) || error instanceof TypeError) {
    return error
  }
  const code = systemCode(error)
  if (code === undefined) return error
  const details = { cause: error }
  if (code.startsWith('HPE_')) return new ProtocolError('it does not speak HTTP', details)
  return new UnavailableError(`it cannot be reached: ${messageOf(error) || code}`, details)
}
