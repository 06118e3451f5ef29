/**
 * Refuses what no command of ours sends: requests that a web page could make, and other versions of the
 * API. The socket is reachable by its owner only; this holds if somebody bridges it to a port.
 */

import type { FastifyRequest } from 'fastify'
import { contractDigest, contractHeader } from '../../src/api/contract-digest.ts'
import { apiVersion, apiVersionHeader, routes } from '../../src/api/contract.ts'
import { ConflictError, errorFromCode, InvalidInputError } from '../../src/core/errors.ts'
import { stopping } from '../operations.ts'
import type { Plugin } from './server.ts'

/** Browsers add at least one of these to whatever a page sends (CSRF). */
const browserHeaders = ['origin', 'referer', 'sec-fetch-site', 'sec-fetch-mode'] as const

export interface GuardOptions {
  /** Aborted when the node behind the routes is closing: there is nothing to ask any more. */
  readonly closing: AbortSignal
}

export function guard({ closing }: GuardOptions): Plugin {
  const contract = contractDigest()
  return app => {
    app.addHook('onRequest', async (request, reply) => {
      reply.header(apiVersionHeader, apiVersion).header(contractHeader, contract)
      // Nothing here is for a cache, and nothing is to be guessed from the bytes.
      reply.header('cache-control', 'no-store').header('x-content-type-options', 'nosniff')
      refuseBrowser(request)
      refuseOtherVersion(request)
      if (closing.aborted) throw stopping()
    })
  }
}

function refuseBrowser(request: FastifyRequest): void {
  const sign = browserHeaders.find(name => request.headers[name] !== undefined)
  if (sign !== undefined) {
    throw errorFromCode(
      'UNTRUSTED',
      `requests of web pages are refused (they have the header ${sign})`,
    )
  }
  // A name that resolves to us is how a page reaches what it may not (DNS rebinding).
  if (request.host !== 'localhost') {
    throw errorFromCode('UNTRUSTED', 'requests must have the header Host: localhost')
  }
}

function refuseOtherVersion(request: FastifyRequest): void {
  const version = request.headers[apiVersionHeader]
  if (version === undefined) {
    throw new InvalidInputError(`the header ${apiVersionHeader}: ${apiVersion} is missing`)
  }
  // A newer command must be able to end an older daemon, whatever else changed.
  if (version === String(apiVersion) || request.routeOptions.url === routes.stop) return
  throw new ConflictError(
    `this daemon speaks version ${apiVersion} of the control API and the command version ${String(version)}`,
    { hint: 'end the daemon with commonweight stop, then run the command again' },
  )
}
