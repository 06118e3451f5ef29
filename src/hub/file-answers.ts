/** What a hub and its CDN answer when bytes of a file are asked for: is it that file, that range, and what else. */

import type { IncomingHttpHeaders } from 'node:http'
import {
  InvalidInputError,
  IntegrityError,
  NotFoundError,
  ProtocolError,
  UnavailableError,
} from '../core/errors.ts'
import { type HubRepo } from './ref.ts'
import type { HubFile } from './answers.ts'

export interface ByteRange {
  readonly start: number
  /** Exclusive. */
  readonly end: number
}

export interface FilePlace extends HubRepo {
  readonly commit: string
  readonly file: Pick<HubFile, 'path' | 'size' | 'sha256'>
}

export function refusalOf(
  what: string,
): (status: number, headers: IncomingHttpHeaders, text: string) => Error {
  return (status, headers, text) => {
    const code = headers['x-error-code']
    const said = text === '' ? '' : `: ${text}`
    if (code === 'GatedRepo') {
      return new InvalidInputError(`${what} is gated, and its terms were not accepted${said}`, {
        hint: 'accept them on the hub, then give a token of that account with HF_TOKEN or --token-file',
      })
    }
    if (code === 'RevisionNotFound') {
      return new NotFoundError(`${what}: no such revision${said}`, {
        hint: 'after the @ comes a branch, a tag or a commit',
      })
    }
    if (code === 'EntryNotFound') {
      return new NotFoundError(`${what}: the hub lists it and does not have it${said}`, {
        hint: 'the hub is broken here: leave the file out with --exclude',
      })
    }
    if (status === 404 || (status === 401 && code === 'RepoNotFound')) {
      return new NotFoundError(`${what} is not on the hub, or is private${said}`, {
        hint: 'check the spelling; a token is given with HF_TOKEN or --token-file',
      })
    }
    if (status === 401 || status === 403) {
      return new InvalidInputError(`the hub does not give ${what} (${status})${said}`, {
        hint: 'a token is given with HF_TOKEN or --token-file, and may have run out',
      })
    }
    return new UnavailableError(`the hub answered ${status} for ${what}${said}`)
  }
}

/** What the hub itself says of a file, on the hop before its CDN. */
export function checkHubHeaders(headers: IncomingHttpHeaders, { commit, file }: FilePlace): void {
  const said = headers['x-repo-commit']
  if (typeof said === 'string' && said !== commit) throw changed(file.path)
  const size = headers['x-linked-size']
  if (typeof size === 'string' && size !== String(file.size)) throw changed(file.path)
  const etag = headers['x-linked-etag']
  const isOther =
    file.sha256 !== undefined &&
    typeof etag === 'string' &&
    /^(?:W\/)?"[0-9a-f]{64}"$/u.test(etag) &&
    !etag.includes(file.sha256)
  if (isOther) throw changed(file.path)
}

export function changed(path: string): IntegrityError {
  return new IntegrityError(`the hub has another ${path} than the one it listed`)
}

export function checkPart(
  headers: IncomingHttpHeaders,
  file: FilePlace['file'],
  range: ByteRange,
): void {
  checkEncoding(headers)
  const text = headers['content-range'] ?? ''
  const [, start, end, total] = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15}|\*)$/iu.exec(text) ?? []
  if (total !== undefined && total !== '*' && Number(total) !== file.size) throw changed(file.path)
  if (Number(start) !== range.start || Number(end) !== range.end - 1) {
    throw new ProtocolError(
      `asked for the bytes ${range.start}-${range.end - 1} of ${file.path}, the hub sent ${JSON.stringify(text.slice(0, 80))}`,
    )
  }
}

export function checkWhole(
  headers: IncomingHttpHeaders,
  file: FilePlace['file'],
  range: ByteRange,
): void {
  checkEncoding(headers)
  const length = headers['content-length']
  if (length !== undefined && Number(length) !== file.size) throw changed(file.path)
  if (range.start > 0) throw new ProtocolError(`the hub gives no ranges of ${file.path}`)
}

/** Bytes that were packed on the way have other ranges and other hashes. */
function checkEncoding(headers: IncomingHttpHeaders): void {
  const encoding = headers['content-encoding']
  if (encoding === undefined || encoding.toLowerCase() === 'identity') return
  throw new ProtocolError(`the hub sent bytes as ${encoding.slice(0, 40)}, and not as they are`)
}

/** A connection that breaks is no surprise: the rest is asked for again. */
export function brokenOff(path: string, error: unknown, signal: AbortSignal): unknown {
  signal.throwIfAborted()
  if (error instanceof IntegrityError || error instanceof ProtocolError) return error
  return new UnavailableError(`the transfer of ${path} broke off`, { cause: error })
}
