/** The last step of every answer: JSON, a text, or a file as it comes. */

import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Clock } from '../../../src/core/clock.ts'
import { isAbort, messageOf, UnavailableError } from '../../../src/core/errors.ts'
import type { Logger } from '../../../src/core/log.ts'
import type { ManifestFile } from '../../../src/manifest/manifest.ts'
import type { Gateway, NamedModel, Span } from '../../../src/node.ts'
import type { Bodies } from './body.ts'
import type { FileHead } from './file-answer.ts'
import type { Answer } from './refusal.ts'
import type { Visitors } from './visitors.ts'
import { XorbFile } from './xorb-file.ts'

export interface Exchange {
  readonly request: FastifyRequest
  readonly reply: FastifyReply
}

export interface SendDeps {
  readonly bodies: Bodies
  readonly clock: Clock
  readonly gateway: Gateway
  readonly log: Logger
  readonly visitors: Visitors
}

export interface SentFile {
  readonly head: FileHead
  readonly model: NamedModel
  readonly file: ManifestFile
  /** Bytes of the file that are sent as a xorb of Xet. */
  readonly xorb?: Span | undefined
  /** How long the first byte is waited for: not long, when nothing is said. */
  readonly patienceMs?: number
  /** The head does not wait for the first byte: what asks for it wants nothing else at first. */
  readonly isHeadFirst?: boolean
}

export function send(reply: FastifyReply, { status, headers, body }: Answer): FastifyReply {
  if (status === 204) return reply.code(status).headers(headers).send()
  return reply
    .code(status)
    .headers({ ...headers, 'x-content-type-options': 'nosniff' })
    .type('application/json; charset=utf-8')
    .send(JSON.stringify(body))
}

export function sendText(
  { head, text }: { readonly head: FileHead; readonly text: string },
  { request, reply }: Exchange,
): FastifyReply {
  const bytes = Buffer.from(text).subarray(head.start, head.end)
  writeHead(reply, head)
  reply.raw.end(request.method === 'HEAD' ? undefined : bytes)
  return reply
}

/** Rejects, with nothing sent, when the first bytes cannot be had. */
export async function sendFile(
  deps: SendDeps,
  sent: SentFile,
  { request, reply }: Exchange,
): Promise<FastifyReply> {
  if (request.method === 'HEAD' || sent.head.end === sent.head.start) {
    writeHead(reply, sent.head)
    reply.raw.end()
  } else {
    await sendBody(deps, sent, { request, reply })
  }
  return reply
}

async function sendBody(
  { bodies, clock, gateway, log, visitors }: SendDeps,
  { file, head, isHeadFirst = false, model, patienceMs, xorb }: SentFile,
  { request, reply }: Exchange,
): Promise<void> {
  using reading = visitors.reading(request.socket.remoteAddress ?? '')
  if (bodies.isFull || reading === undefined) {
    throw new UnavailableError('too many files are being read')
  }
  const response = reply.raw
  if (isHeadFirst) {
    writeHead(reply, head)
    response.flushHeaders()
  }
  const plain = gateway.open(model, file)
  using opened = xorb === undefined ? plain : new XorbFile(plain, xorb)
  try {
    const span = { offset: head.start, end: head.end }
    const begin = (): void => writeHead(reply, head)
    const reader = { response, clock, patienceMs, allowance: reading, writeHead: begin }
    await bodies.send(opened, span, reader)
  } catch (error) {
    if (!response.headersSent && !response.destroyed) throw error
    // All that is left is to end early, which clients notice by the length.
    if (!isAbort(error)) log.warn('a file was not sent whole', { error: messageOf(error) })
  }
}

function writeHead(reply: FastifyReply, { headers, status }: FileHead): void {
  reply.hijack()
  reply.raw.writeHead(status, { ...headers, 'x-content-type-options': 'nosniff' })
}
