/** The head of an answer with a file: status and headers, by docs/spec/hub-gateway.md section 3. */

import type { IncomingHttpHeaders } from 'node:http'
import { parseByteRange } from './byte-range.ts'

export interface ServedBytes {
  readonly path: string
  readonly size: number
  /** Without quotes: what clients name the file by in their caches. */
  readonly etag: string
  readonly commit: string
  /** Whether clients take it for one that Git LFS keeps. */
  readonly isLfs: boolean
}

export interface FileHead {
  readonly status: 200 | 206 | 304 | 416
  readonly headers: Readonly<Record<string, string>>
  /** What the body has, unless it is for HEAD. */
  readonly start: number
  readonly end: number
}

export function fileHead(file: ServedBytes, request: IncomingHttpHeaders): FileHead {
  const { commit, etag, isLfs, size } = file
  const headers = {
    'x-repo-commit': commit,
    ...(isLfs ? { 'x-linked-etag': `"${etag}"`, 'x-linked-size': String(size) } : {}),
    ...contentHeaders(file.path),
  }
  return rangedHead({ etag, size, headers }, request)
}

export interface RangedBytes {
  /** Without quotes. */
  readonly etag: string
  readonly size: number
  /** What every answer about them has beside. */
  readonly headers: Readonly<Record<string, string>>
}

/** What the conditions and the range of a request make of it. */
export function rangedHead(bytes: RangedBytes, request: IncomingHttpHeaders): FileHead {
  const { etag, size } = bytes
  const base = { ...bytes.headers, etag: `"${etag}"`, 'accept-ranges': 'bytes' }
  if (matches(request['if-none-match'], etag)) {
    return { status: 304, headers: base, start: 0, end: 0 }
  }
  const isSame = matches(request['if-range']?.toString() ?? '*', etag)
  const range = parseByteRange(isSame ? request.range : undefined, size)
  if (range.kind === 'part') {
    const { end, start } = range
    const contentRange = `bytes ${start}-${end - 1}/${size}`
    const headers = {
      ...base,
      'content-length': String(end - start),
      'content-range': contentRange,
    }
    return { status: 206, headers, start, end }
  }
  const headers = { ...base, 'content-length': String(size) }
  if (range.kind === 'whole') return { status: 200, headers, start: 0, end: size }
  const none = { ...base, 'content-length': '0', 'content-range': `bytes */${size}` }
  // A client that probes with a range takes 416 for an error, and an empty file is none.
  return { status: size === 0 ? 200 : 416, headers: none, start: 0, end: 0 }
}

function matches(header: string | undefined, etag: string): boolean {
  if (header === undefined) return false
  return header
    .split(',')
    .map(each => each.trim().replace(/^W\//u, ''))
    .some(each => each === '*' || each === `"${etag}"`)
}

const textEndings = /\.(?:json|jsonl|md|txt|yaml|yml|toml|jinja|py|model_card|gitattributes)$/iu
/** What a browser would run or draw when it is opened from this origin. */
const activeEndings = /\.(?:html?|xhtml|svgz?|xml|xsl|js|mjs|wasm|pdf)$/iu

function contentHeaders(path: string): Record<string, string> {
  const name = path.split('/').at(-1) ?? ''
  const kind = activeEndings.test(name) ? 'attachment' : 'inline'
  const ascii = name.replaceAll(/[^\w.\- ]/gu, '_')
  const encoded = encodeURIComponent(name).replaceAll(/['()*]/gu, escapeCharacter)
  return {
    'content-type': textEndings.test(name)
      ? 'text/plain; charset=utf-8'
      : 'application/octet-stream',
    'content-disposition': `${kind}; filename*=UTF-8''${encoded}; filename="${ascii}";`,
    'content-security-policy': "sandbox; default-src 'none'",
  }
}

function escapeCharacter(character: string): string {
  return `%${character.charCodeAt(0).toString(16).toUpperCase()}`
}
