/**
 * What happens to a request before anything is looked for: who may ask, how often, from which pages, and
 * whether its body is worth reading. docs/spec/hub-gateway.md sections 1 and 7.
 */

import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Clock } from '../../../src/core/clock.ts'
import { MiB } from '../../../src/core/units.ts'
import { corsHeaders, isAllowedOrigin, preflightHeaders } from './cors.ts'
import { type GuardOptions, mayStart, refuseStranger } from './host-guard.ts'
import { type Answer, busy, refused, tooMany } from './refusal.ts'
import { openVisitors, type Visitors } from './visitors.ts'

/** Ten thousand paths of a hundred bytes, which is more than any client asks for at once. */
export const questionBytesMax = MiB
/** Bodies that arrive at a time, and so 32 MiB: they have ten seconds. */
const questionsMax = 32

const readOnly = 'this gateway only reads: share a model with commonweight seed'

export interface EntranceDeps {
  readonly clock: Clock
}

export interface EntranceOptions extends GuardOptions {
  /** Whose requests are not limited: those of this machine when left out. */
  readonly isOurs?: (address: string) => boolean
}

export interface Entrance {
  readonly visitors: Visitors
  /** What to answer at once, or undefined. */
  check(request: FastifyRequest, reply: FastifyReply): Answer | undefined
  /** Of a request that was let in: whether something may be fetched for it. */
  mayStart(request: FastifyRequest): boolean
}

/** What has a body and writes nothing: which paths are there, and what Xet's clients tell of themselves. */
function isQuestion(url: string): boolean {
  return url.includes('/paths-info/') || /^\/cas\/[^?]*\/v1\/telemetry$/u.test(url)
}

export function openEntrance({ clock }: EntranceDeps, options: EntranceOptions): Entrance {
  const visitors = openVisitors({ clock, isOurs: options.isOurs })
  let questions = 0

  function refuseQuestion({ headers }: FastifyRequest, reply: FastifyReply): Answer | undefined {
    if (questions >= questionsMax) {
      return busy('too many questions are being read', headers['user-agent'] ?? '')
    }
    questions += 1
    reply.raw.once('close', () => (questions -= 1))
    return undefined
  }

  return {
    visitors,
    mayStart: ({ headers }) => mayStart(headers, options),
    check(request, reply) {
      const { headers, method, socket, url } = request
      const waitSeconds = visitors.asked(socket.remoteAddress ?? '')
      if (waitSeconds > 0) return tooMany(waitSeconds, headers['user-agent'] ?? '')
      const stranger = refuseStranger(headers, options, socket.localAddress)
      if (stranger !== undefined) return stranger
      const { corsOrigins } = options
      // On the raw answer: files are written to it past Fastify.
      for (const [name, value] of Object.entries(corsHeaders(headers, corsOrigins))) {
        reply.raw.setHeader(name, value)
      }
      const isPreflight = headers['access-control-request-method'] !== undefined
      if (method === 'OPTIONS' && isPreflight && isAllowedOrigin(headers, corsOrigins)) {
        return { status: 204, headers: preflightHeaders(headers), body: undefined }
      }
      if (method === 'GET' || method === 'HEAD') return undefined
      if (method !== 'POST' || !isQuestion(url)) return refused(403, readOnly)
      return refuseQuestion(request, reply)
    },
  }
}
