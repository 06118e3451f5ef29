/**
 * Asks web servers for byte ranges: few connections that are kept, redirects followed by hand and judged
 * like the first URL, every address checked when it is named, looked up and connected to.
 */

import type { Clock } from '../../core/clock.ts'
import { ProtocolError } from '../../core/errors.ts'
import { KiB, second } from '../../core/units.ts'
import { withDeadline } from '../../transfer/ask-sources.ts'
import type { ChunkOptions } from '../../transfer/source.ts'
import type { Lookup } from './address-guard.ts'
import { Connections, networkFault, type Target } from './connections.ts'
import { judge, type RangeAsk, readBody, type Verdict } from './range-answer.ts'
import { faultOfZone, type WebSeedRules } from './seed-url.ts'

/** As many as browsers open to one host; servers that count connections allow these. */
export const webConnectionsMax = 6
/** A mirror's own, a hub's to its CDN, and one to spare. */
const redirectsMax = 3
/** Where redirects led, for files being fetched now: a hub counts each visit, and its answers are long. */
const targetsMax = 256
const targetCharactersMax = 4 * KiB
const answerHeadBytesMax = 16 * KiB
/** To connect, for the head of the answer, between two packets: then nothing will come. */
const silenceMs = 20 * second
/** Of a whole answer: who is slower than this is not worth a connection. */
const leastBytesPerMs = (16 * KiB) / second

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

type Visited = WebAnswer | Extract<Verdict, { type: 'redirect' }>

export class WebClient implements Disposable {
  readonly #deps: WebClientDeps
  readonly #options: WebClientOptions
  readonly #connections: Connections
  readonly #targets = new Map<string, Target>()

  constructor(deps: WebClientDeps, options: WebClientOptions) {
    this.#deps = deps
    this.#options = options
    this.#connections = new Connections(deps.lookup, {
      connectionsMax: webConnectionsMax,
      silenceMs,
      headBytesMax: answerHeadBytesMax,
    })
  }

  /**
   * Rejects with ProtocolError when the server breaks the rules or leads where it must not, and with
   * UnavailableError when there is no connection, or not in time.
   */
  fetchRange(url: URL, ask: RangeAsk, options: ChunkOptions): Promise<WebAnswer> {
    const limitMs = silenceMs + ask.length / leastBytesPerMs
    return withDeadline(this.#deps.clock, limitMs, options.signal, async signal => {
      const inner = { ...options, signal }
      try {
        return (await this.#visitKnown(url, ask, inner)) ?? (await this.#follow(url, ask, inner))
      } catch (error) {
        throw networkFault(error)
      }
    })
  }

  [Symbol.dispose](): void {
    this.#connections[Symbol.dispose]()
  }

  /** Asks where the last redirect led; undefined when that is over, as signed URLs are after a while. */
  async #visitKnown(
    url: URL,
    ask: RangeAsk,
    options: ChunkOptions,
  ): Promise<WebAnswer | undefined> {
    const target = this.#targets.get(url.href)
    if (target === undefined) return undefined
    try {
      const answer = await this.#visit(target, ask, options)
      if (answer.type !== 'redirect' && answer.type !== 'missing') return answer
      this.#targets.delete(url.href)
      return undefined
    } catch (error) {
      if (!options.signal.aborted) this.#targets.delete(url.href)
      throw error
    }
  }

  async #follow(first: URL, ask: RangeAsk, options: ChunkOptions): Promise<WebAnswer> {
    let target = await this.#judgeUrl(first, this.#options.allowPrivate)
    for (let redirects = 0; ; redirects += 1) {
      const answer = await this.#visit(target, ask, options)
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

  async #judgeUrl(url: URL, mayBePrivate: boolean): Promise<Target> {
    const zone = await this.#connections.zoneOf(url)
    const found = faultOfZone(url, zone, mayBePrivate)
    if (found === undefined) return { url, zone }
    const { fault, hint } = found
    throw new ProtocolError(`${url.host} ${fault}${hint === undefined ? '' : `: ${hint}`}`)
  }

  #remember({ href }: URL, target: Target): void {
    if (target.url.href.length > targetCharactersMax) return
    this.#targets.delete(href)
    this.#targets.set(href, target)
    const [oldest] = this.#targets.keys()
    if (this.#targets.size > targetsMax && oldest !== undefined) this.#targets.delete(oldest)
  }

  async #visit(
    target: Target,
    ask: RangeAsk,
    { signal, allocate }: ChunkOptions,
  ): Promise<Visited> {
    const { offset, length } = ask
    const headers = {
      accept: '*/*',
      'accept-encoding': 'identity',
      range: `bytes=${offset}-${offset + length - 1}`,
      'user-agent': this.#options.agent,
    }
    const response = await this.#connections.get(target, headers, signal)
    try {
      const { statusCode: status = 0, headers: answered } = response
      const verdict = judge({ status, headers: answered, nowMs: this.#deps.clock.now() }, ask)
      if (verdict.type === 'bytes') {
        // Without an offer exact and from no pool: a chunk may be held for a while.
        const room = allocate?.(length) ?? Buffer.allocUnsafeSlow(length)
        const bytes = room.subarray(0, length)
        await readBody(response, bytes, verdict)
        return { type: 'bytes', bytes }
      }
      response.destroy()
      return verdict
    } catch (error) {
      response.destroy()
      throw error
    }
  }
}
