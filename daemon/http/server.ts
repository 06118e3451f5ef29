/**
 * One HTTP listener: Fastify with our limits and our error bodies, and the plug-ins it was given, in
 * order. The control API is one plug-in on the Unix socket; later ones listen on loopback TCP.
 */

import { chmod } from 'node:fs/promises'
import fastify from 'fastify'
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { InvalidInputError, LimitError, NotFoundError } from '../../src/core/errors.ts'
import { KiB, MiB, second } from '../../src/core/units.ts'
import type { Logger } from '../../src/core/log.ts'
import { bugCode } from '../../src/api/contract.ts'
import { errorBody, statusOf } from '../error-body.ts'

/** Ten thousand paths of 400 bytes: the largest request that makes sense. */
const bodyBytesMax = 4 * MiB
/** A REF of 4,096 characters, three bytes each when percent-encoded, and the headers. */
const headerBytesMax = 24 * KiB
/** A request that is still arriving after this long is not from a program that means it. */
const requestMs = 10 * second
/** How often Node looks for those: 30 seconds by itself, which makes the bound four times as long. */
const requestLookMs = 5 * second
/** Far more commands than a person starts; each costs a file descriptor. */
const connectionsMax = 1024
/** On TCP, programs keep connections in pools: one that we close first is a request that fails. */
const pooledMs = 90 * second
/** Answers under way get this long to leave when the listener closes. */
const drainMs = 2 * second

export type Plugin = (app: FastifyInstance) => void

export type Listener = { readonly path: string } | { readonly host: string; readonly port: number }

export interface HttpDeps {
  readonly log: Logger
  /** What is refused before there is a route, in other words than those of the control API. */
  readonly refuse?: (error: unknown, exchange: Exchange) => Promise<void>
}

export interface HttpServer extends AsyncDisposable {
  /** A URL, or the path of the socket. */
  readonly address: string
}

export async function openHttp(
  deps: HttpDeps,
  listener: Listener,
  plugins: readonly Plugin[],
): Promise<HttpServer> {
  const app = fastify({
    bodyLimit: bodyBytesMax,
    requestTimeout: requestMs,
    keepAliveTimeout: 'path' in listener ? requestMs : pooledMs,
    http: {
      maxHeaderSize: headerBytesMax,
      headersTimeout: requestMs,
      connectionsCheckingInterval: requestLookMs,
    },
    // No path of ours is long; the rest is in the query.
    routerOptions: { maxParamLength: 100 },
    exposeHeadRoutes: false,
    // Refused before there is a route: an address that does not parse, a parameter without end.
    frameworkErrors(error, request, reply) {
      const told = isFastifyError(error) ? translate(error) : error
      void (
        deps.refuse?.(told, { request, reply }) ?? answerError(deps.log, error, { request, reply })
      )
    },
  })
  app.server.maxConnections = connectionsMax
  app.setErrorHandler((error, request, reply) => answerError(deps.log, error, { request, reply }))
  app.setNotFoundHandler(request => {
    throw new NotFoundError(`no such route: ${request.method} ${pathOf(request)}`, {
      hint: 'the daemon and the command may be of different versions: commonweight stop',
    })
  })
  for (const plugin of plugins) plugin(app)
  const address = await app.listen(listener)
  // Its folder keeps others out already; not everything that copies a folder keeps the folder's mode.
  if ('path' in listener && process.platform !== 'win32') await chmod(listener.path, 0o600)
  return { address, [Symbol.asyncDispose]: () => close(app) }
}

/** Lets answers finish for a moment; whoever does not read theirs is cut off. */
async function close(app: FastifyInstance): Promise<void> {
  const cut = setTimeout(() => app.server.closeAllConnections(), drainMs)
  await app.close()
  clearTimeout(cut)
}

export interface Exchange {
  readonly request: FastifyRequest
  readonly reply: FastifyReply
}

async function answerError(log: Logger, error: unknown, exchange: Exchange): Promise<void> {
  const { request, reply } = exchange
  const body = errorBody(isFastifyError(error) ? translate(error) : error)
  const fields = { method: request.method, path: pathOf(request) }
  if (body.code === bugCode) log.error('request failed by a bug', { ...fields, error })
  else log.debug(`request refused: ${body.message}`, fields)
  await reply.code(statusOf(body)).send(body)
}

/** The query may hold what the user looks for: it does not belong in a log. */
function pathOf(request: FastifyRequest): string {
  return request.url.split('?', 1)[0] ?? ''
}

/** Not Error.isError: Fastify makes its errors without the Error constructor, which that asks for. */
function isFastifyError(error: unknown): error is FastifyError {
  return error instanceof Error && 'statusCode' in error
}

/** Fastify's own refusals, all of them about the request, in the words of our taxonomy. */
function translate(error: FastifyError): Error {
  if (error.statusCode === 413) {
    return new LimitError(`a request may have ${bodyBytesMax} bytes at most`, { cause: error })
  }
  if ((error.statusCode ?? 500) >= 500) return error
  // Its message has the whole URL, and so the query.
  if (error.code === 'FST_ERR_BAD_URL') {
    return new InvalidInputError('malformed request: the URL is not percent-encoded UTF-8')
  }
  return new InvalidInputError(`malformed request: ${error.message}`, { cause: error })
}
