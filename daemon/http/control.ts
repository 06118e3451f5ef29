/** The control API of src/api/contract.ts over a Node: each route parses, calls, answers. */

import { Readable } from 'node:stream'
import type { FastifyInstance, FastifyReply } from 'fastify'
import { z } from 'zod'
import * as api from '../../src/api/contract.ts'
import { schemaFault, schemaHint } from '../../src/api/schema-faults.ts'
import { InvalidInputError } from '../../src/core/errors.ts'
import type { Node } from '../../src/node.ts'
import { errorBody } from '../error-body.ts'
import type { Operations } from '../operations.ts'
import type { Plugin } from './server.ts'

export interface ControlDeps {
  readonly node: Node
  readonly operations: Operations
  /** What the daemon as a process adds to the status of its node. */
  readonly about: Pick<api.StatusView, 'version' | 'pid' | 'home' | 'gateway' | 'startedAtMs'>
  readonly config: readonly api.ConfigEntry[]
  /** Ends the daemon, after the answer has left. */
  requestStop(): void
}

const idSchema = z.object({ id: z.string().min(1).max(64) })
const noBodySchema = z.undefined().or(z.null()).or(z.strictObject({}))

export function control(deps: ControlDeps): Plugin {
  return app => {
    modelRoutes(app, deps)
    networkRoutes(app, deps)
    operationRoutes(app, deps)
    daemonRoutes(app, deps)
  }
}

function modelRoutes(app: FastifyInstance, { node }: ControlDeps): void {
  app.get(api.routes.models, async (_, reply) => ({ models: await node.models(whileOpen(reply)) }))

  app.get(api.routes.model, async ({ query }, reply): Promise<api.ModelResponse> => {
    const { ref } = parse(api.refQuerySchema, query)
    return node.show(ref, whileOpen(reply))
  })

  app.delete(api.routes.model, async ({ query }): Promise<api.RemovedView> => {
    const { ref, files } = parse(api.removeQuerySchema, query)
    return node.remove(ref, { files: files === 'true' })
  })

  app.post(api.routes.pin, ({ body }, reply): FastifyReply => {
    const { ref, pinned } = parse(api.pinRequestSchema, body)
    return reply.send(node.pin(ref, pinned))
  })

  app.get(api.routes.name, async () => ({ names: node.names() }))

  app.post(api.routes.name, ({ body }, reply): FastifyReply => {
    const { name, ref } = parse(api.nameRequestSchema, body)
    return reply.send(node.name(name, ref))
  })

  app.get(api.routes.link, ({ query }, reply): FastifyReply => {
    const { ref, ws = [] } = parse(api.linkQuerySchema, query)
    return reply.send(node.link(ref, [ws].flat()))
  })

  app.post(api.routes.gc, async ({ body }): Promise<api.RemovedView> => {
    return node.gc(parse(api.gcRequestSchema, body ?? {}))
  })
}

function networkRoutes(app: FastifyInstance, { node }: ControlDeps): void {
  app.get(api.routes.peers, (_, reply) => reply.send({ peers: node.peers() }))

  app.post(api.routes.connect, async ({ body }, reply): Promise<api.ConnectedView> => {
    const { address } = parse(api.connectRequestSchema, body)
    return node.connect(address, whileOpen(reply))
  })

  app.get(api.routes.limits, (_, reply): FastifyReply => reply.send(node.limits()))

  app.post(api.routes.limits, ({ body }, reply): FastifyReply => {
    return reply.send(node.setLimits(parse(api.limitsRequestSchema, body)))
  })

  app.get(api.routes.providers, ({ query }, reply): FastifyReply => {
    const { ref } = parse(api.refQuerySchema, query)
    return streamLines(reply, findProviders(node, ref, whileOpen(reply)))
  })
}

async function* findProviders(
  node: Node,
  ref: string,
  signal: AbortSignal,
): AsyncGenerator<api.ProvidersEvent> {
  const startedMs = performance.now()
  let providers = 0
  try {
    for await (const provider of node.providers(ref, signal)) {
      providers += 1
      yield provider
    }
    const milliseconds = Math.round(performance.now() - startedMs)
    yield { type: 'done', providers, milliseconds }
  } catch (error) {
    // The status has left already: an error is the last line.
    yield errorBody(error)
  }
}

function operationRoutes(app: FastifyInstance, { operations }: ControlDeps): void {
  app.get(api.routes.operations, (_, reply) => reply.send({ operations: operations.list() }))

  app.post(api.routes.operations, ({ body }, reply): FastifyReply => {
    const attachment = operations.start(parse(api.operationRequestSchema, body))
    return streamLines(reply, attachment.events(whileOpen(reply)))
  })

  app.get(api.routes.operation, ({ params }, reply): FastifyReply => {
    return reply.send(operations.summary(parse(idSchema, params).id))
  })

  app.get(api.routes.operationEvents, ({ params }, reply): FastifyReply => {
    const attachment = operations.attach(parse(idSchema, params).id)
    return streamLines(reply, attachment.events(whileOpen(reply)))
  })

  app.delete(api.routes.operation, ({ params }, reply): FastifyReply => {
    operations.cancel(parse(idSchema, params).id)
    return reply.send({ type: 'ok' })
  })
}

function daemonRoutes(app: FastifyInstance, deps: ControlDeps): void {
  app.get(api.routes.status, (_, reply): FastifyReply => {
    const status: api.StatusView = {
      type: 'status',
      ...deps.about,
      apiVersion: api.apiVersion,
      ...deps.node.status(),
      memory: { rssBytes: process.memoryUsage.rss() },
      operations: deps.operations.recent(),
    }
    return reply.send(status)
  })

  app.get(api.routes.config, (_, reply) => reply.send({ settings: deps.config }))

  app.post(api.routes.stop, ({ body }, reply): FastifyReply => {
    parse(noBodySchema, body)
    reply.raw.once('finish', () => deps.requestStop())
    return reply.send({ type: 'ok' })
  })
}

function parse<T>(schema: z.ZodType<T>, value: unknown): T {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  throw new InvalidInputError(schemaFault(parsed.error, 'the request'), schemaHint(parsed.error))
}

/** Aborts when nobody reads the answer any more. (The request closes as soon as its body was read.) */
function whileOpen(reply: FastifyReply): AbortSignal {
  const gone = new AbortController()
  reply.raw.once('close', () => gone.abort())
  return gone.signal
}

/** Pulled as the reader takes it: one who does not read holds a socket buffer and one event. */
function streamLines(reply: FastifyReply, events: AsyncIterable<object>): FastifyReply {
  const lines = Readable.from(toLines(events), { objectMode: false, highWaterMark: 1 })
  return reply.type('application/x-ndjson').send(lines)
}

async function* toLines(events: AsyncIterable<object>): AsyncGenerator<Buffer> {
  for await (const event of events) yield Buffer.from(`${JSON.stringify(event)}\n`)
}
