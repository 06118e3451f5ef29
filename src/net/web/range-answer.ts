/**
 * What a server's answer to a Range request means, and its body. Only the header fields that decide are
 * read, and each exactly: a wrong Content-Range would put right bytes at a wrong place.
 */

import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'
import { ProtocolError, UnavailableError } from '../../core/errors.ts'
import { second } from '../../core/units.ts'

export interface RangeAsk {
  readonly offset: number
  /** 1 to chunkBytesMax. */
  readonly length: number
  /** Bytes of the whole file. */
  readonly size: number
}

export type Verdict =
  /** The body has the bytes; of one that goes on after them the rest is not wanted. */
  | { readonly type: 'bytes'; readonly isWhole: boolean }
  | { readonly type: 'redirect'; readonly location: string }
  /** It does not have the file, or has another one of that name. */
  | { readonly type: 'missing'; readonly why: string }
  /** It gives whole files only. */
  | { readonly type: 'no-ranges' }
  /** It asks for patience, for so long if it said. */
  | { readonly type: 'busy'; readonly why: string; readonly retryMs: number | undefined }
  /** It is broken for now. */
  | { readonly type: 'failing'; readonly why: string }

const redirects: ReadonlySet<number> = new Set([301, 302, 303, 307, 308])
/** Request Timeout, Too Early, Too Many Requests, Service Unavailable: the same request may work later. */
const patience: ReadonlySet<number> = new Set([408, 425, 429, 503])

export interface AnswerHead {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  /** Wall clock, for a Retry-After that is a date. */
  readonly nowMs: number
}

/** Throws ProtocolError when the answer breaks the rules of HTTP ranges. */
export function judge({ status, headers, nowMs }: AnswerHead, ask: RangeAsk): Verdict {
  const why = `it answered ${status}`
  if (status === 206) return judgePart(headers, ask)
  if (status === 200) return judgeWhole(headers, ask)
  if (redirects.has(status)) return judgeRedirect(headers, why)
  if (patience.has(status)) return { type: 'busy', why, retryMs: retryAfter(headers, nowMs) }
  if (status >= 400 && status < 500) return { type: 'missing', why }
  if (status >= 500) return { type: 'failing', why }
  throw new ProtocolError(`it answered a request for a range with ${status}`)
}

function judgeRedirect({ location }: IncomingHttpHeaders, why: string): Verdict {
  if (location === undefined) throw new ProtocolError(`${why} and not where to go`)
  return { type: 'redirect', location }
}

function judgePart(headers: IncomingHttpHeaders, { offset, length, size }: RangeAsk): Verdict {
  checkEncoding(headers)
  const text = headers['content-range'] ?? ''
  const match = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15}|\*)$/iu.exec(text)
  if (match === null) throw new ProtocolError(`its Content-Range is ${JSON.stringify(text)}`)
  const [, start, end, total] = match
  if (total !== '*' && Number(total) !== size) {
    return { type: 'missing', why: `its file has ${total} bytes, not ${size}` }
  }
  if (Number(start) !== offset || Number(end) !== offset + length - 1) {
    throw new ProtocolError(
      `it was asked for the bytes ${offset}-${offset + length - 1} and sent ${start}-${end}`,
    )
  }
  const declared = lengthOf(headers)
  if (declared !== undefined && declared !== length) {
    throw new ProtocolError(`it announced ${declared} bytes for a range of ${length}`)
  }
  return { type: 'bytes', isWhole: declared === length }
}

/** A server without ranges sends the file from its start: of use only there. */
function judgeWhole(headers: IncomingHttpHeaders, { offset, length, size }: RangeAsk): Verdict {
  checkEncoding(headers)
  const declared = lengthOf(headers)
  if (declared !== undefined && declared !== size) {
    return { type: 'missing', why: `its file has ${declared} bytes, not ${size}` }
  }
  if (offset > 0) return { type: 'no-ranges' }
  return { type: 'bytes', isWhole: declared === length }
}

/** Bytes that were packed on the way have other ranges and other hashes. */
function checkEncoding(headers: IncomingHttpHeaders): void {
  const encoding = headers['content-encoding']
  if (encoding === undefined || encoding.toLowerCase() === 'identity') return
  throw new ProtocolError(`it was asked for bytes as they are and sent them as ${encoding}`)
}

/** Node's parser took it for a number already. */
function lengthOf(headers: IncomingHttpHeaders): number | undefined {
  const text = headers['content-length']
  return text === undefined ? undefined : Number(text)
}

/** Seconds or an HTTP date; what is neither counts as not said. */
export function retryAfter(headers: IncomingHttpHeaders, nowMs: number): number | undefined {
  const text = headers['retry-after']?.trim() ?? ''
  if (/^\d{1,9}$/u.test(text)) return Number(text) * second
  const atMs = Date.parse(text)
  return Number.isNaN(atMs) ? undefined : Math.max(0, atMs - nowMs)
}

/**
 * Fills `bytes` from the start of the body: what comes after that ends the connection. Resolves once nothing
 * is written to them any more. Rejects with UnavailableError when the body ends before; until it has
 * ended, more of it may be written.
 */
export function readBody(
  response: IncomingMessage,
  bytes: Uint8Array,
  { isWhole }: { readonly isWhole: boolean },
): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const { length } = bytes
  let filled = 0
  response.on('data', (part: Buffer) => {
    // Of another chunk by now, when its memory is used again.
    if (filled >= length) return
    part.copy(bytes, filled)
    filled += part.length
    if (filled < length) return
    // Of a body whose length was announced, Node lets no byte more come; its connection is kept.
    if (!isWhole) response.destroy()
    resolve()
  })
  const cutShort = (cause?: Error): void =>
    reject(new UnavailableError(`the answer ended after ${filled} of ${length} bytes`, { cause }))
  response.on('end', cutShort)
  response.on('error', cutShort)
  response.on('close', cutShort)
  return promise
}
