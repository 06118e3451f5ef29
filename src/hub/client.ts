/**
 * HTTP as a hub needs it: redirects by hand, so that a token stays at the hub that it is for and the
 * headers of each hop are seen; patience when it is asked for; every answer bounded.
 * docs/spec/mirroring.md, sections 2 and 3.
 */

import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'
import type { Clock } from '../core/clock.ts'
import { InvalidInputError, LimitError, ProtocolError, UnavailableError } from '../core/errors.ts'
import type { Logger } from '../core/log.ts'
import { formatBytes, formatDuration, KiB, MiB, minute, second } from '../core/units.ts'
import { literalOf, type Lookup, systemLookup, zoneOf } from '../net/web/address-guard.ts'
import { Connections, networkFault, type Target } from '../net/web/connections.ts'
import { backoffMs, hubPatience } from './patience.ts'

/** To one host at a time: as many as the hub's own client uses. */
export const hubConnectionsMax = 8
/** The hub's own, a renamed repository's, and those to a CDN. */
const redirectsMax = 5
/** A page of 1,000 files has 0.4 MiB; an answer about a repository lists its files, too. */
export const answerBytesMax = 32 * MiB
/** Signed URLs have a few KiB. */
const answerHeadBytesMax = 64 * KiB
/** To connect, for the head of an answer, between two packets. */
const silenceMs = 30 * second
/** The body of a redirect that is read for the sake of its connection; a hub's has 1 KiB. */
const droppedBytesMax = 64 * KiB
/** Of an answer of the API, after `silenceMs`; and however fast it comes, it ends. */
const leastBytesPerSecond = 4 * KiB
const answerMsMax = 10 * minute
/** Failures in a row of one request; at the end it waits half a minute each. */
const failuresMax = 6
/** Windows of five minutes that one request waits for. */
const waitsMax = 12

export interface HubDeps {
  readonly clock: Clock
  readonly log: Logger
  /** Worth a line on the terminal. */
  readonly onNotice: (level: 'info' | 'warn', message: string) => void
  /** The system's resolver when left out. */
  readonly lookup?: Lookup
}

export interface HubOptions {
  /** Where the hub is asked, or a mirror of it. */
  readonly upstream: string
  /** Hosts of this machine's network may be asked, and not loopback alone. */
  readonly allowPrivate: boolean
  /** Sent to the upstream's own origin and nowhere else. */
  readonly token?: string | undefined
  /** Name and version, for the hub's log. */
  readonly agent: string
  /** Half a minute when left out. */
  readonly silenceMs?: number
}

export interface Answer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  /** Of the first hop: only the hub itself says what a file is, its CDN does not. */
  readonly hubHeaders: IncomingHttpHeaders
  /** Where it came from. */
  readonly url: URL
  readonly response: IncomingMessage
}

export interface JsonAnswer {
  readonly value: unknown
  readonly headers: IncomingHttpHeaders
  /** How long it was. */
  readonly bytes: number
  /** Where it came from: another path when the hub redirected. */
  readonly url: URL
}

/** Throws InvalidInputError unless an operator may name this URL. */
export function parseUpstream(
  text: string,
  { allowPrivate }: Pick<HubOptions, 'allowPrivate'>,
): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined
  const isPlain =
    url !== undefined &&
    url.username === '' &&
    url.password === '' &&
    url.search === '' &&
    url.hash === '' &&
    url.pathname === '/'
  if (!isPlain || (url.protocol !== 'https:' && url.protocol !== 'http:')) {
    throw new InvalidInputError(`not the URL of a hub: ${JSON.stringify(text.slice(0, 100))}`, {
      hint: 'write https://HOST, without a path',
    })
  }
  const literal = literalOf(url)
  // Loopback that the operator typed is meant; what else is inside needs the setting for it.
  const isLoopback = literal !== undefined && /^(?:127\.|::1$)/u.test(literal)
  if (literal !== undefined && zoneOf(literal) === 'private' && !isLoopback && !allowPrivate) {
    throw new InvalidInputError(`the hub ${url.host} is a private address`, { hint: privateHint })
  }
  if (url.protocol === 'http:' && !isLoopback && !allowPrivate) {
    throw new InvalidInputError(`the hub ${url.host} is not https`, { hint: privateHint })
  }
  return url
}

const privateHint = 'set webseed.allow_private to let hosts of your own network be asked'

export class HubClient implements Disposable {
  readonly upstream: URL
  readonly #deps: HubDeps
  readonly #options: HubOptions
  readonly #connections: Connections
  /** Before this nothing is asked of an origin. */
  readonly #quietUntilMs = new Map<string, number>()

  constructor(deps: HubDeps, options: HubOptions) {
    this.upstream = parseUpstream(options.upstream, options)
    this.#deps = deps
    this.#options = options
    this.#connections = new Connections(deps.lookup ?? systemLookup, {
      connectionsMax: hubConnectionsMax,
      silenceMs: options.silenceMs ?? silenceMs,
      headBytesMax: answerHeadBytesMax,
    })
  }

  /**
   * The answer to a GET of `path` at the upstream, or of a URL that it led to before: any status but those
   * that ask to come back later, which it does. The caller reads the body or destroys the response.
   */
  async get(
    place: string | URL,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<Answer> {
    const first = typeof place === 'string' ? new URL(place, this.upstream) : place
    let failures = 0
    for (let waits = 0; ; waits += 1) {
      signal.throwIfAborted()
      await this.#keepQuiet(first, signal)
      const answer = await this.#attempt(first, headers, signal).catch((error: unknown) => {
        const fault = networkFault(error, first.host)
        failures += 1
        if (!(fault instanceof UnavailableError) || failures > failuresMax) throw fault
        return fault
      })
      if (answer instanceof UnavailableError) {
        await this.#pause(answer.message, backoffMs(failures - 1), signal)
        continue
      }
      const { status } = answer
      const isBusy = status === 429 || status === 503
      if (!isBusy && status < 500) return answer
      answer.response.destroy()
      const askedMs = hubPatience(answer.headers, this.#deps.clock.now())
      failures += isBusy && askedMs !== undefined ? 0 : 1
      if (failures > failuresMax || waits >= waitsMax) {
        throw new UnavailableError(`${answer.url.host} answers ${status} again and again`, {
          hint: 'try again later: what was fetched is kept',
        })
      }
      const waitMs = askedMs ?? backoffMs(failures - 1)
      if (isBusy) this.#quietUntilMs.set(answer.url.origin, this.#deps.clock.monotonic() + waitMs)
      await this.#pause(`${answer.url.host} answered ${status}`, waitMs, signal)
    }
  }

  /** The JSON of an answer with status 200; other answers are `refuse`d. */
  async getJson(
    path: string,
    refuse: (status: number, headers: IncomingHttpHeaders, text: string) => Error,
    signal: AbortSignal,
  ): Promise<JsonAnswer> {
    const { status, headers, response, url } = await this.get(
      path,
      { accept: 'application/json', 'accept-encoding': 'identity' },
      signal,
    )
    const bytes = await this.#readAnswer(response, url)
    if (status !== 200) throw refuse(status, headers, errorText(headers, bytes))
    try {
      return {
        value: JSON.parse(bytes.toString('utf8')) as unknown,
        headers,
        bytes: bytes.length,
        url,
      }
    } catch (error) {
      const type = headers['content-type'] ?? 'no type'
      throw new ProtocolError(`${url.host} answered ${path} with what is no JSON (${type})`, {
        cause: error,
        hint: 'is this the URL of a hub?',
      })
    }
  }

  /** Silence ends an answer; so does one that drips. */
  #readAnswer(response: IncomingMessage, { host }: URL): Promise<Buffer> {
    const { clock } = this.#deps
    const startedMs = clock.monotonic()
    const graceMs = this.#options.silenceMs ?? silenceMs
    return readAll(response, answerBytesMax, `the answer of ${host}`, length => {
      const patienceMs = graceMs + (length / leastBytesPerSecond) * second
      if (clock.monotonic() - startedMs <= Math.min(patienceMs, answerMsMax)) return
      throw new UnavailableError(`the answer of ${host} comes too slowly`, {
        hint: 'try again later, or from another network',
      })
    })
  }

  [Symbol.dispose](): void {
    this.#connections[Symbol.dispose]()
  }

  async #attempt(
    first: URL,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<Answer> {
    let target = await this.#judge(first, undefined)
    let hubHeaders: IncomingHttpHeaders | undefined
    for (let redirects = 0; ; redirects += 1) {
      const isOwn = target.url.origin === this.upstream.origin
      const { agent, token } = this.#options
      const response = await this.#connections.get(
        target,
        {
          ...headers,
          'user-agent': agent,
          // A gateway of ours that is asked passes nothing through to another hub.
          'x-commonweight': 'mirror',
          ...(isOwn && token !== undefined ? { authorization: `Bearer ${token}` } : {}),
        },
        signal,
      )
      const { statusCode: status = 0, headers: answered } = response
      hubHeaders ??= answered
      // Said before there is a need to: nothing is left of what may be asked.
      const quietMs = status < 400 ? hubPatience(answered, this.#deps.clock.now()) : undefined
      if (quietMs !== undefined) {
        this.#quietUntilMs.set(target.url.origin, this.#deps.clock.monotonic() + quietMs)
      }
      const { location } = answered
      if (!redirectStatuses.has(status) || location === undefined) {
        return { status, headers: answered, hubHeaders, url: target.url, response }
      }
      dropBody(response)
      if (redirects === redirectsMax) {
        throw new ProtocolError(`${first.host} redirects more than ${redirectsMax} times`)
      }
      target = await this.#judgeRedirect(target, location)
    }
  }

  async #judgeRedirect(from: Target, location: string): Promise<Target> {
    if (!URL.canParse(location, from.url.href)) {
      throw new ProtocolError(`${from.url.host} redirects to no URL`)
    }
    const url = new URL(location, from.url)
    url.hash = ''
    const where = `${from.url.host} redirects to ${url.protocol}//${url.host}`
    if (url.protocol !== 'https:' && url.protocol !== from.url.protocol) {
      throw new ProtocolError(`${where}, which is not https`)
    }
    if (url.username !== '' || url.password !== '') {
      throw new ProtocolError(`${where} with a user name or password`)
    }
    return this.#judge(url, from)
  }

  /** What is public leads nowhere inside; an operator's own hub may lead to its neighbours. */
  async #judge(url: URL, from: Target | undefined): Promise<Target> {
    const zone = await this.#connections.zoneOf(url)
    const typed = literalOf(this.upstream)
    const isTyped = typed !== undefined && zoneOf(typed) === 'private'
    const mayBePrivate = this.#options.allowPrivate || isTyped
    if (zone === 'private' && (from?.zone === 'public' || !mayBePrivate)) {
      throw new ProtocolError(`${url.host} is a private address`, { hint: privateHint })
    }
    if (zone === 'public' && url.protocol === 'http:') {
      throw new ProtocolError(`${url.host} is public and asked for by http`)
    }
    return { url, zone }
  }

  async #keepQuiet({ origin }: URL, signal: AbortSignal): Promise<void> {
    const { clock } = this.#deps
    for (;;) {
      const waitMs = (this.#quietUntilMs.get(origin) ?? 0) - clock.monotonic()
      if (waitMs <= 0) return
      await clock.sleep(waitMs, signal)
    }
  }

  /** Waits, and says so when a person would wonder. */
  async #pause(why: string, ms: number, signal: AbortSignal): Promise<void> {
    const { clock, log, onNotice } = this.#deps
    log.info('a hub is left alone', { why, ms })
    if (ms >= 5 * second) onNotice('info', `${why}: asked again in ${formatDuration(ms)}`)
    await clock.sleep(ms, signal)
  }
}

const redirectStatuses: ReadonlySet<number> = new Set([301, 302, 303, 307, 308])

/** A connection is kept when a body that is known to be short is read to its end. */
function dropBody(response: IncomingMessage): void {
  const length = Number(response.headers['content-length'] ?? Infinity)
  if (length <= droppedBytesMax) response.resume()
  else response.destroy()
}

/** Rejects with LimitError when the body is longer, and with UnavailableError when it breaks off. */
export async function readAll(
  response: IncomingMessage,
  bytesMax: number,
  what: string,
  onLength?: (length: number) => void,
): Promise<Buffer> {
  const parts: Buffer[] = []
  let length = 0
  try {
    for await (const part of response as AsyncIterable<Buffer>) {
      length += part.length
      if (length > bytesMax) {
        throw new LimitError(`${what} has more than ${formatBytes(bytesMax)}`)
      }
      onLength?.(length)
      parts.push(part)
    }
  } catch (error) {
    throw networkFault(error)
  }
  return Buffer.concat(parts)
}

/** What a hub says of an error: a header, JSON, or nothing a person wants to read. */
function errorText(headers: IncomingHttpHeaders, body: Buffer): string {
  const said = headers['x-error-message']
  if (typeof said === 'string' && said !== '') return oneLine(said)
  try {
    const { error } = JSON.parse(body.toString('utf8')) as { error?: unknown }
    return typeof error === 'string' ? oneLine(error) : ''
  } catch {
    // A page for people: its status says enough.
    return ''
  }
}

/** Of somebody else: it must not look like a line of ours. */
function oneLine(text: string): string {
  return text.slice(0, 300).replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu, ' ')
}
