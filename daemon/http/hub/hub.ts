/**
 * The Hub gateway: answers the read side of the Hugging Face Hub API from what this node holds, so that
 * its clients work unmodified with HF_ENDPOINT set. docs/spec/hub-gateway.md.
 */

import type { Socket } from 'node:net'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Clock } from '../../../src/core/clock.ts'
import type { Logger } from '../../../src/core/log.ts'
import type { Gateway, NodeGateway } from '../../../src/node.ts'
import { inRegistryWords } from '../oci/refusal.ts'
import { Registry } from '../oci/registry.ts'
import { isRegistryPath, parseRegistryTarget } from '../oci/target.ts'
import type { Plugin } from '../server.ts'
import { answerRepository, type HubQuestion } from './answers.ts'
import { Bodies, goneSignal } from './body.ts'
import { type Entrance, type EntranceOptions, openEntrance, questionBytesMax } from './entrance.ts'
import { summaryBody } from './repository.ts'
import { type Answer, answerOfError, notFound, refused } from './refusal.ts'
import { PlainFiles } from './plain-files.ts'
import { Commits, Repositories } from './repositories.ts'
import { type Exchange, send, sendFile, sendText } from './send.ts'
import { parseTarget, type Target } from './target.ts'
import type { Visitors } from './visitors.ts'
import { clientPlainBytesMax } from './xet.ts'

export interface HubDeps {
  readonly gateway: NodeGateway
  readonly clock: Clock
  readonly log: Logger
}

/** Sent by src/hub/client.ts. */
const throughHeader = 'x-commonweight'

/** Mostly a person with a browser reads it. */
const notAPage =
  'there are no pages here: /api/models lists the models, /ORG/MODEL/resolve/main/FILE is a file'

/** Models that one list shows at most. */
const listedMax = 1000

const methods = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'] as const

export interface HubOptions extends EntranceOptions {
  /** Larger files are given to huggingface_hub by Xet: those that it refuses otherwise when left out. */
  readonly plainBytesMax?: number
}

export function hubGateway(deps: HubDeps, options: HubOptions): Plugin {
  const entrance = openEntrance(deps, options)
  const { visitors } = entrance
  const { plainBytesMax = clientPlainBytesMax } = options
  const bodies = new Bodies()
  const commits = new Commits()
  const hubOver = (gateway: Gateway): Hub => {
    const repositories = new Repositories(gateway, commits)
    const parts = { ...deps, gateway, repositories, bodies, visitors }
    const plainFiles = new PlainFiles(gateway)
    return { ...parts, plainFiles, plainBytesMax, registry: new Registry(parts) }
  }
  const hubs = { whole: hubOver(deps.gateway), held: hubOver(deps.gateway.held) }
  // A scope of its own: its errors are told in the Hub's words, not in those of the control API.
  return app => void app.register(async scope => routes(scope, hubs, entrance))
}

interface Hubs {
  readonly whole: Hub
  /** For who may start nothing. */
  readonly held: Hub
}

interface Hub extends Omit<HubDeps, 'gateway'> {
  readonly gateway: Gateway
  readonly repositories: Repositories
  readonly bodies: Bodies
  readonly plainFiles: PlainFiles
  readonly registry: Registry
  readonly visitors: Visitors
  readonly plainBytesMax: number
}

/** For who has too many connections: there is no request yet, and perhaps never will be. */
const tooManyConnections =
  'HTTP/1.1 429 Too Many Requests\r\nRetry-After: 10\r\nContent-Length: 0\r\nConnection: close\r\n\r\n'

function routes(app: FastifyInstance, hubs: Hubs, entrance: Entrance): void {
  app.server.on('connection', (socket: Socket) => {
    if (entrance.visitors.connected(socket)) return
    socket.write(tooManyConnections)
    socket.destroySoon()
  })
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', { parseAs: 'string' }, (_, body, done) => done(null, body))
  app.addHook('onRequest', async (request, reply) => {
    const refusal = entrance.check(request, reply)
    if (refusal === undefined) return
    // What follows of an upload is not read.
    if (refusal.status >= 400 && hasBody(request)) reply.header('connection', 'close')
    await send(reply, inWordsOf(request, refusal))
  })
  app.setErrorHandler((error, request, reply) => answerError(hubs.whole, error, { request, reply }))
  app.route({
    method: [...methods],
    url: '*',
    bodyLimit: questionBytesMax,
    handler: (request, reply) =>
      answer(entrance.mayStart(request) ? hubs.whole : hubs.held, request, reply),
  })
}

/** A registry has errors of its own form. */
function inWordsOf({ url }: FastifyRequest, refusal: Answer): Answer {
  return isRegistryPath(url) && refusal.status >= 400 ? inRegistryWords(refusal) : refusal
}

function hasBody({ headers }: FastifyRequest): boolean {
  return headers['content-length'] !== undefined || headers['transfer-encoding'] !== undefined
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
  const gone = goneSignal(reply.raw)
  const known = await hub.repositories.find(target.readings, gone)
  // A gateway that asks for somebody else is told what is here: two of them would ask each other for ever.
  const isAsked = request.headers[throughHeader] === undefined
  const found =
    known ?? (isAsked ? await hub.repositories.lookUp(target.readings, gone) : undefined)
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
    nowMs: hub.clock.now(),
    plainBytesMax: hub.plainBytesMax,
  }
  const given = answerRepository(question)
  if (given.kind === 'answer') return send(reply, given)
  if (given.kind === 'text') return sendText(given, { request, reply })
  const { entry, head, xorb } = given
  const { model } = found.repository
  if (request.method !== 'HEAD' && head.end > head.start) {
    await hub.plainFiles.prove(model, entry, goneSignal(reply.raw))
  }
  return sendFile(hub, { head, model, file: entry.file, xorb }, { request, reply })
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
      return refused(404, notAPage)
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

/** In the Hub's words. */
export async function answerError(
  { log }: Pick<HubDeps, 'log'>,
  error: unknown,
  exchange: Exchange,
): Promise<void> {
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
