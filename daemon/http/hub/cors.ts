/**
 * Web pages that the operator lets read: exactly the origins that are configured, never with what a
 * browser knows of its user. docs/spec/hub-gateway.md section 1.
 */

import type { IncomingHttpHeaders } from 'node:http'
import { minute, second } from '../../../src/core/units.ts'

/** What the Hub's clients in a browser read of an answer. */
const exposed = [
  'Accept-Ranges',
  'Content-Range',
  'ETag',
  'Link',
  'Retry-After',
  'X-Error-Code',
  'X-Error-Message',
  'X-Linked-ETag',
  'X-Linked-Size',
  'X-Repo-Commit',
]
/** What they send. A token opens nothing, and is let pass so that who has one can read. */
const accepted = ['Authorization', 'Content-Type', 'If-None-Match', 'If-Range', 'Range']
/** A browser asks again after this; a page whose origin is taken away goes on for as long. */
const rememberedMs = 10 * minute

/** Whether a page of this origin may read. */
export function isAllowedOrigin(
  { origin }: IncomingHttpHeaders,
  origins: readonly string[],
): boolean {
  return origin !== undefined && origins.includes(origin)
}

/** For every answer, also to an origin that may not read: caches must tell them apart. */
export function corsHeaders(
  headers: IncomingHttpHeaders,
  origins: readonly string[],
): Readonly<Record<string, string>> {
  if (origins.length === 0) return {}
  if (!isAllowedOrigin(headers, origins)) return { vary: 'Origin' }
  return {
    vary: 'Origin',
    'access-control-allow-origin': headers.origin ?? '',
    'access-control-expose-headers': exposed.join(', '),
  }
}

/** What a browser asks before a request that a page could not make without it. */
export function preflightHeaders(headers: IncomingHttpHeaders): Readonly<Record<string, string>> {
  const isToPrivate = headers['access-control-request-private-network'] === 'true'
  return {
    'access-control-allow-methods': 'GET, HEAD, POST',
    'access-control-allow-headers': accepted.join(', '),
    'access-control-max-age': String(rememberedMs / second),
    ...(isToPrivate ? { 'access-control-allow-private-network': 'true' } : {}),
  }
}
