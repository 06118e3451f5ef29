/**
 * The small part of the Xet protocol that lets clients read files of ours, which know nothing of Xet: how
 * a file is cut into what Xet fetches, and what is said about that. docs/spec/hub-gateway.md section 6.
 */

import { hash } from 'node:crypto'
import { KiB, MiB, minute, second } from '../../../src/core/units.ts'
import type { GitFile } from '../../../src/manifest/git-commit.ts'
import { parseByteRange } from './byte-range.ts'
import type { Answer } from './refusal.ts'
import { refused } from './refusal.ts'

/** huggingface_hub refuses larger files over plain HTTP. */
export const clientPlainBytesMax = 50_000_000_000
/** Of a chunk, the largest that Xet has. */
export const xetChunkBytes = 128 * KiB
/** Before each chunk: version 0, length, scheme 0 (not compressed), length again. */
export const xetHeadBytes = 8
/** Of a file in a xorb: half of what one may have, so that its heads fit too. */
export const xorbFileBytes = 32 * MiB
/** A token opens nothing; clients ask for a new one when it has a minute left. */
const tokenMs = 60 * minute

/** Xorbs that one answer names, some 300 bytes each: half a TiB of a file. Clients ask for 1 GB at a time. */
const xorbsMax = 16_384

const chunksPerXorb = xorbFileBytes / xetChunkBytes

/** The hub's for the file, or its SHA-256: clients do not compare it with the bytes. */
export function xetHashOf({ sha256 }: Pick<GitFile, 'sha256'>, known: string | undefined): string {
  return known ?? sha256
}

export interface XetPlace {
  /** `http://HOST` of the request. */
  readonly origin: string
  /** What follows `/cas/` and `/api/`: `models/org/model`. */
  readonly repository: string
  readonly commit: string
}

/** For an answer about a file, so that clients fetch it by Xet. */
export function xetHeaders(xetHash: string, place: XetPlace): Readonly<Record<string, string>> {
  const auth = `${place.origin}/api/${place.repository}/xet-read-token/${place.commit}`
  const info = `${casUrl(place)}/v1/reconstructions/${xetHash}`
  const link = `<${auth}>; rel="xet-auth", <${info}>; rel="xet-reconstruction-info"`
  return { 'x-xet-hash': xetHash, link }
}

/** Python reads the headers, the others read the body. */
export function tokenAnswer(place: XetPlace, nowMs: number): Answer {
  const exp = Math.floor((nowMs + tokenMs) / second)
  const token = { accessToken: 'none', exp, casUrl: casUrl(place) }
  const headers = {
    'x-xet-cas-url': token.casUrl,
    'x-xet-access-token': token.accessToken,
    'x-xet-token-expiration': String(exp),
    'cache-control': 'no-store',
  }
  return { status: 200, headers, body: token }
}

export function casUrl({ origin, repository }: XetPlace): string {
  return `${origin}/cas/${repository.split('/').map(encodeURIComponent).join('/')}`
}

/** How the bytes of a range are put together from xorbs; in both versions of the protocol. */
export function reconstruction(
  { sha256, size }: Pick<GitFile, 'sha256' | 'size'>,
  asked: {
    readonly version: 'v1' | 'v2'
    readonly range: string | undefined
    readonly cas: string
  },
): Answer {
  const range = parseByteRange(asked.range, size)
  if (range.kind === 'outside') {
    const answer = refused(416, 'the range begins behind the end of the file')
    return { ...answer, headers: { ...answer.headers, 'content-range': `bytes */${size}` } }
  }
  const { start, end } = range.kind === 'part' ? range : { start: 0, end: size }
  const first = Math.floor(start / xetChunkBytes)
  const behind = Math.ceil(end / xetChunkBytes)
  if (behind - first > xorbsMax * chunksPerXorb) return refused(400, 'ask for less at a time')
  const parts: Part[] = []
  for (let chunk = first; chunk < behind;) {
    const xorb = Math.floor(chunk / chunksPerXorb)
    const stop = Math.min(behind, (xorb + 1) * chunksPerXorb)
    parts.push(partOf({ sha256, size }, { xorb, start: chunk, end: stop, cas: asked.cas }))
    chunk = stop
  }
  const offset = start - first * xetChunkBytes
  const body = asked.version === 'v2' ? secondVersion(parts) : firstVersion(parts)
  const terms = parts.map(({ chunks, hash: name, length }) => {
    return { hash: name, unpacked_length: length, range: chunks }
  })
  return { status: 200, headers: {}, body: { offset_into_first_range: offset, terms, ...body } }
}

interface Part {
  /** Of the xorb. */
  readonly hash: string
  readonly url: string
  /** Of the xorb, the end exclusive. */
  readonly chunks: { readonly start: number; readonly end: number }
  /** Of the xorb as it is sent, the end inclusive. */
  readonly bytes: { readonly start: number; readonly end: number }
  /** Bytes of the file. */
  readonly length: number
}

function partOf(
  { sha256, size }: Pick<GitFile, 'sha256' | 'size'>,
  { xorb, start, end, cas }: { xorb: number; start: number; end: number; cas: string },
): Part {
  const base = xorb * chunksPerXorb
  const chunks = { start: start - base, end: end - base }
  const length = Math.min(size, end * xetChunkBytes) - start * xetChunkBytes
  const from = chunks.start * (xetChunkBytes + xetHeadBytes)
  const bytes = { start: from, end: from + length + (end - start) * xetHeadBytes - 1 }
  const name = hash('sha256', `cw-xorb ${sha256} ${xorb}`)
  return { hash: name, url: `${cas}/xorbs/${sha256}/${xorb}`, chunks, bytes, length }
}

function firstVersion(parts: readonly Part[]): object {
  const fetches = parts.map(({ bytes, chunks, hash: name, url }) => {
    return [name, [{ range: chunks, url, url_range: bytes }]] as const
  })
  return { fetch_info: Object.fromEntries(fetches) }
}

function secondVersion(parts: readonly Part[]): object {
  const fetches = parts.map(({ bytes, chunks, hash: name, url }) => {
    return [name, [{ url, ranges: [{ chunks, bytes }] }]] as const
  })
  return { xorbs: Object.fromEntries(fetches) }
}

/** Bytes of a file that are in a xorb; undefined when it has no such xorb. */
export function xorbSpan(
  size: number,
  xorb: number,
): { readonly offset: number; readonly end: number } | undefined {
  const offset = xorb * xorbFileBytes
  return offset < size ? { offset, end: Math.min(size, offset + xorbFileBytes) } : undefined
}

/** Bytes of a xorb as it is sent. */
export function xorbBytes({ offset, end }: { offset: number; end: number }): number {
  return end - offset + Math.ceil((end - offset) / xetChunkBytes) * xetHeadBytes
}
