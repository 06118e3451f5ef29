/**
 * Who may ask: programs, by a name that is ours. A web page that reaches us does it by a name of its
 * own (DNS rebinding) or says where it comes from.
 */

import { isIP } from 'node:net'
import type { IncomingHttpHeaders } from 'node:http'
import { type Answer, refused } from './refusal.ts'

export interface GuardOptions {
  /** What is listened on, as given: `127.0.0.1`, `0.0.0.0`, a name. */
  readonly host: string
  /** Further names, in lower case. */
  readonly allowed: readonly string[]
}

const ourOwn = new Set(['127.0.0.1', '[::1]', 'localhost'])
const withPort = /^(\[[^\]]*\]|[^:[\]]*)(?::\d{1,5})?$/u

/** What to answer instead, or undefined. */
export function refuseStranger(
  headers: IncomingHttpHeaders,
  options: GuardOptions,
): Answer | undefined {
  const { host, origin } = headers
  if (host === undefined || host === '') return refused(400, 'the header Host is missing')
  const name = withPort.exec(host.toLowerCase())?.[1]
  if (name === undefined || !isAllowed(name, options)) {
    return refused(421, 'this name is not served here: allow it with --allow-host')
  }
  const site = headers['sec-fetch-site']
  const isOfPage = site !== undefined && site !== 'none' && site !== 'same-origin'
  if (origin !== undefined || isOfPage) {
    return refused(403, 'requests of web pages are refused')
  }
  return undefined
}

function isAllowed(name: string, { host, allowed }: GuardOptions): boolean {
  if (ourOwn.has(name) || allowed.includes(name)) return true
  // An address cannot be rebound: who names the one that is listened on came on purpose.
  const address = host.includes(':') ? `[${host}]` : host
  return isIP(host) !== 0 && name === address
}
