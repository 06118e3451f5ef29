/**
 * Who may ask: programs, by a name that is ours. A web page that reaches us does it by a name of its
 * own (DNS rebinding) or says where it comes from.
 */

import { isIP } from 'node:net'
import type { IncomingHttpHeaders } from 'node:http'
import { isAllowedOrigin } from './cors.ts'
import { type Answer, refused } from './refusal.ts'

export interface GuardOptions {
  /** What is listened on, as given: `127.0.0.1`, `0.0.0.0`, a name. */
  readonly host: string
  /** Further names, in lower case. */
  readonly allowed: readonly string[]
  /** Origins of web pages that may read: exactly these. */
  readonly corsOrigins: readonly string[]
}

const ourOwn = new Set(['127.0.0.1', '[::1]', 'localhost'])
const withPort = /^(\[[^\]]*\]|[^:[\]]*)(?::\d{1,5})?$/u

/** Every address of the machine. */
const wildcards = new Set(['0.0.0.0', '::'])

/** What to answer instead, or undefined. `reached` is the address of ours that was connected to. */
export function refuseStranger(
  headers: IncomingHttpHeaders,
  options: GuardOptions,
  reached?: string,
): Answer | undefined {
  const { host, origin } = headers
  if (host === undefined || host === '') return refused(400, 'the header Host is missing')
  const name = withPort.exec(host.toLowerCase())?.[1]
  if (name === undefined || !isAllowed(name, options, reached)) {
    return refused(421, 'this name is not served here: allow it with --allow-host')
  }
  if (isAllowedOrigin(headers, options.corsOrigins)) return undefined
  if (origin === undefined && !isOfOtherSite(headers)) return undefined
  return refused(
    403,
    'requests of web pages are refused; to read it yourself, paste the address into the browser',
  )
}

/**
 * Whether something may be fetched for a request that was let in. To an address of a LAN without TLS a
 * browser says nothing of the page that asks when the page does not want it to; only its name stays.
 */
export function mayStart(
  headers: IncomingHttpHeaders,
  { corsOrigins }: Pick<GuardOptions, 'corsOrigins'>,
): boolean {
  if (isAllowedOrigin(headers, corsOrigins)) return true
  // From nowhere else, or it had not been let in.
  if (headers['sec-fetch-site'] !== undefined || headers.referer !== undefined) return true
  return !isBrowser(headers['user-agent'] ?? '')
}

function isOfOtherSite({ host, referer, 'sec-fetch-site': site }: IncomingHttpHeaders): boolean {
  // A reverse proxy may have changed our name; what the browser itself says is about the one it knows.
  if (site !== undefined) return site !== 'none' && site !== 'same-origin'
  if (referer === undefined) return false
  const from = URL.parse(referer)?.host
  return from !== host?.toLowerCase()
}

/** All browsers begin with it, and no page can change it; so does PowerShell, which runs no pages. */
function isBrowser(userAgent: string): boolean {
  return userAgent.startsWith('Mozilla/') && !userAgent.includes('PowerShell/')
}

function isAllowed(
  name: string,
  { host, allowed }: GuardOptions,
  reached: string | undefined,
): boolean {
  if (ourOwn.has(name) || allowed.includes(name)) return true
  // An address cannot be rebound: who names the one that is listened on came on purpose.
  const address = wildcards.has(host) ? reached?.replace(/^::ffff:(?=\d+\.)/u, '') : host
  if (address === undefined || isIP(address) === 0) return false
  return name === (address.includes(':') ? `[${address}]` : address)
}
