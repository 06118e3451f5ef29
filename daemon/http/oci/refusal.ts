/** Errors as clients of a registry understand them: docs/spec/oci.md section 6. */

import type { Answer } from '../hub/refusal.ts'

export type RegistryCode =
  | 'BLOB_UNKNOWN'
  | 'DENIED'
  | 'DIGEST_INVALID'
  | 'MANIFEST_UNKNOWN'
  | 'NAME_UNKNOWN'
  | 'TOOMANYREQUESTS'
  | 'UNAVAILABLE'
  | 'UNKNOWN'
  | 'UNSUPPORTED'

export function registryError(status: number, code: RegistryCode, message: string): Answer {
  return { status, headers: versionHeader, body: { errors: [{ code, message }] } }
}

/** By it Docker tells a registry from a web site. */
export const versionHeader = { 'docker-distribution-api-version': 'registry/2.0' } as const

const codes: Readonly<Record<number, RegistryCode>> = {
  400: 'UNSUPPORTED',
  403: 'DENIED',
  404: 'UNSUPPORTED',
  405: 'UNSUPPORTED',
  421: 'DENIED',
  429: 'TOOMANYREQUESTS',
  503: 'UNAVAILABLE',
}

/** A refusal of the Hub gateway, said as a registry says it. */
export function inRegistryWords({ status, headers, body }: Answer): Answer {
  const code = codes[status] ?? 'UNKNOWN'
  const message =
    typeof body === 'object' && body !== null && 'error' in body ? String(body.error) : ''
  const { 'retry-after': later } = headers
  const { headers: own, ...rest } = registryError(status, code, message)
  return { ...rest, headers: later === undefined ? own : { ...own, 'retry-after': later } }
}
