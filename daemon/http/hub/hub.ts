/**
 * The Hub gateway: answers the read side of the Hugging Face Hub API from what this node holds, so that
 * its clients work unmodified with HF_ENDPOINT set. docs/spec/hub-gateway.md.
 */

import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Clock } from '../../../src/core/clock.ts'
import type { Logger } from '../../../src/core/log.ts'
import type { Gateway } from '../../../src/node.ts'
import { inRegistryWords } from '../oci/refusal.ts'
import { Registry } from '../oci/registry.ts'
import { isRegistryPath, parseRegistryTarget } from '../oci/target.ts'
import type { Plugin } from '../server.ts'
import { answerRepository, type HubQuestion } from './answers.ts'
import { Bodies, goneSignal } from './body.ts'
import { type GuardOptions, refuseStranger } from './host-guard.ts'
import { summaryBody } from './repository.ts'
import { type Answer, answerOfError, notFound, refused } from './refusal.ts'
import { Repositories } from './repositories.ts'
import { type Exchange, send, sendFile, sendText } from './send.ts'
import { parseTarget, type Target } from './target.ts'

export interface HubDeps {
  readonly gateway: Gateway
  readonly clock: Clock
  readonly log: Logger
}

/** Models that one list shows at most. */
const listedMax = 1000

const readOnly = 'this gateway only reads: share a model with commonweight seed'
const methods = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'] as const

export function hubGateway(deps: HubDeps, guard: GuardOptions): Plugin {
  const parts = { ...deps, repositories: new Repositories(deps.gateway), bodies: new Bodies() }
  const hub: Hub = { ...parts, registry: new Registry(parts) }
  // A scope of its own: its errors are told in the Hub's words, not in those of the control API.
  return app => void app.register(async scope => routes(scope, hub, guard))
}

interface Hub extends HubDeps {
  readonly repositories: Repositories
  readonly bodies: Bodies
  readonly registry: Registry
}

function routes(app: FastifyInstance, hub: Hub, guard: GuardOptions): void {
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', { parseAs: 'string' }, (_, body, done) => done(null, body))
  app.addHook('onRequest', async (request, reply) => {
    const refusal = refuseStranger(request.headers, guard) ?? refuseUpload(request)
    if (refusal === undefined) return
    // What follows of the request is not read.
    await send(reply.header('connection', 'close'), inWordsOf(request, refusal))
  })
  app.setErrorHandler((error, request, reply) => answerError(hub, error, { request, reply }))
  app.route({
    method: [...methods],
    url: '*',
    handler: (request, reply) => answer(hub, request, reply),
  })
}

/** A registry has errors of its own form. */
function inWordsOf({ url }: FastifyRequest, refusal: Answer): Answer {
  return isRegistryPath(url) ? inRegistryWords(refusal) : refusal
}

/** Before a body is read: there is one question that has one. */
function refuseUpload({ method, url }: FastifyRequest): Answer | undefined {
  if (method === 'GET' || method === 'HEAD') return undefined
  const isQuestion = method === 'POST' && url.includes('/paths-info/')
  return isQuestion ? undefined : refused(403, readOnly)
}

async function answer(
  hub: Hub,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const url = request.raw.url ?? ''
  const asked = parseRegistryTarget(url)
  if (asked !== undefined) return hub.registry.answer(asked, { request, reply })
  const target = parseTarget(url)
  if (target.kind !== 'repo') return send(reply, answerGlobal(hub, target, request))
  const found = await hub.repositories.find(target.readings, goneSignal(reply.raw))
  if (found === undefined) {
    const name = target.readings[0]?.name ?? ''
    return send(reply, notFound('RepoNotFound', `no model ${name} is known here`))
  }
  const question: HubQuestion = {
    repository: found.repository,
    target: found.target,
    method: request.method,
    headers: request.headers,
    query: new URL(url, 'http://gateway').searchParams,
    host: request.headers.host ?? '',
    body: typeof request.body === 'string' ? request.body : '',
  }
  const given = answerRepository(question)
  if (given.kind === 'answer') return send(reply, given)
  if (given.kind === 'text') return sendText(given, { request, reply })
  return sendFile(hub, { ...given, model: found.repository.model }, { request, reply })
}

function answerGlobal(
  { gateway }: Hub,
  target: Exclude<Target, { kind: 'repo' }>,
  request: FastifyRequest,
): Answer {
  switch (target.kind) {
    case 'agent-harnesses':
      return ok({ standardEnvVars: [], harnesses: {} })
    case 'telemetry':
      return ok({})
    case 'whoami':
      return request.headers.authorization === undefined
        ? refused(401, 'this gateway has no accounts: any token will do')
        : ok(whoami)
    case 'list': {
      const query = new URL(request.raw.url ?? '', 'http://gateway').searchParams
      return ok(listModels(gateway, target.type, query))
    }
    case 'none':
      return refused(404, 'no such route')
  }
}

const whoami = {
  type: 'user',
  id: 'local',
  name: 'local',
  fullname: 'whoever uses this node',
  orgs: [],
  auth: { type: 'access_token', accessToken: { displayName: 'local', role: 'read' } },
}

function listModels(gateway: Gateway, type: string, query: URLSearchParams): object[] {
  const search = query.get('search')?.toLowerCase() ?? ''
  const author = query.get('author')?.toLowerCase()
  const limit = Math.min(Number(query.get('limit') ?? listedMax) || listedMax, listedMax)
  const isOfType = (name: string): boolean => {
    const prefix = /^(datasets|spaces|kernels)\//u.exec(name)?.[1] ?? 'models'
    return prefix === type
  }
  return gateway
    .names()
    .filter(({ name }) => isOfType(name) && name.toLowerCase().includes(search))
    .filter(({ name }) => author === undefined || name.toLowerCase().startsWith(`${author}/`))
    .slice(0, limit)
    .map(summaryBody)
}

function ok(body: unknown): Answer {
  return { status: 200, headers: {}, body }
}

async function answerError({ log }: Hub, error: unknown, exchange: Exchange): Promise<void> {
  const { request, reply } = exchange
  const { method } = request
  const given = isRefusal(error)
    ? refused(error.statusCode, error.message)
    : answerOfError(error, request.headers['user-agent'] ?? '')
  if (given.status === 500) log.error('the gateway failed by a bug', { method, error })
  await send(reply, inWordsOf(request, given))
}

/** Fastify's own: a body that is too large, a length that is not true. */
function isRefusal(error: unknown): error is Error & { statusCode: number } {
  const status = error instanceof Error && 'statusCode' in error ? Number(error.statusCode) : 500
  return status >= 400 && status < 500
}
