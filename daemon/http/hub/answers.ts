/** What is answered to a question about one repository; no I/O: a file's bytes come after. */

import type { IncomingHttpHeaders } from 'node:http'
import type { Span } from '../../../src/node.ts'
import { type FileHead, fileHead, rangedHead } from './file-answer.ts'
import { gitOid } from '../../../src/core/git.ts'
import { type GitEntry, type GitFile, pointerText } from '../../../src/manifest/git-commit.ts'
import { type Answer, notFound, refused } from './refusal.ts'
import {
  commitsBody,
  entryBody,
  infoBody,
  isRevision,
  listTree,
  refsBody,
  type Repository,
} from './repository.ts'
import { type RepoTarget, splitRevision } from './target.ts'
import {
  casUrl,
  reconstruction,
  tokenAnswer,
  xetHashOf,
  xetHeaders,
  type XetPlace,
  xorbBytes,
  xorbSpan,
} from './xet.ts'

/** Entries of a tree in one page: llama.cpp reads only the first. */
export const pageEntriesMax = 10_000
/** Paths of one question. */
const pathsMax = 10_000

export interface HubQuestion {
  readonly repository: Repository
  readonly target: RepoTarget
  readonly method: string
  readonly headers: IncomingHttpHeaders
  readonly query: URLSearchParams
  /** The header Host: absolute links are made with it. */
  readonly host: string
  /** As it was sent. */
  readonly body: string
  readonly nowMs: number
  /** Larger files are given to huggingface_hub by Xet. */
  readonly plainBytesMax: number
}

export type HubAnswer =
  | (Answer & { readonly kind: 'answer' })
  /** A file, or a part of it as Xet sends it. */
  | {
      readonly kind: 'file'
      readonly head: FileHead
      readonly entry: GitFile
      readonly xorb?: Span
    }
  | { readonly kind: 'text'; readonly head: FileHead; readonly text: string }

export function answerRepository(question: HubQuestion): HubAnswer {
  const { repository, target, method, query } = question
  const isPost = method === 'POST'
  const isTelling = target.verb === 'cas' && target.rest[1] === 'telemetry'
  if (isPost !== (target.verb === 'paths-info' || isTelling)) {
    return json(refused(405, 'another method is needed'))
  }
  const blobs = isTrue(query.get('blobs'))
  switch (target.verb) {
    case 'info':
      return ok(infoBody(repository, { blobs }))
    case 'revision':
      return atRevision(question, () => ok(infoBody(repository, { blobs })))
    case 'tree':
      return atRevision(question, path => treeAnswer(question, path))
    case 'paths-info':
      return atRevision(question, () => pathsAnswer(question))
    case 'resolve':
    case 'raw':
      return atRevision(question, path => fileAnswer(question, path))
    case 'commits':
      return atRevision(question, () => ok(commitsBody(repository)))
    case 'refs':
      return ok(refsBody(repository))
    case 'auth-check':
      return ok({})
    case 'xet-read-token':
      return atRevision(question, () => json(tokenAnswer(xetPlace(question), question.nowMs)))
    case 'cas':
      return casAnswer(question)
    case 'discussions':
      // An empty list would make transformers send the name and a token to a server of others.
      return json(refused(404, 'there are no discussions here'))
  }
}

function atRevision(question: HubQuestion, answer: (path: string) => HubAnswer): HubAnswer {
  const { repository, target } = question
  const split = splitRevision(target.rest, text => isRevision(repository, text))
  if (split !== undefined) return answer(split.path)
  const revision = target.rest[0] ?? ''
  return json(notFound('RevisionNotFound', `no revision ${revision} of ${repository.model.name}`))
}

function treeAnswer({ host, query, repository, target }: HubQuestion, path: string): HubAnswer {
  const { commit } = repository
  const recursive = isTrue(query.get('recursive'))
  const entries = listTree(repository, path, { recursive })
  if (entries === undefined) return noEntry(repository, path)
  const limit = boundedNumber(query.get('limit'), pageEntriesMax) || pageEntriesMax
  const start = boundedNumber(query.get('cursor'), entries.length)
  const page = entries.slice(start, start + limit)
  const headers: Record<string, string> = { 'x-repo-commit': commit.id }
  if (start + limit < entries.length) {
    const next = new URLSearchParams(query)
    next.set('cursor', String(start + limit))
    const place = [commit.id, ...(path === '' ? [] : path.split('/'))].map(encodeURIComponent)
    // By commit: the branch may move between two pages.
    const url = `http://${host}/api/${apiPath(target.name)}/tree/${place.join('/')}?${next.toString()}`
    headers['link'] = `<${url}>; rel="next"`
  }
  return json({ status: 200, headers, body: page.map(entryBody) })
}

function apiPath(name: string): string {
  return /^(?:datasets|spaces|kernels)\//u.test(name) ? name : `models/${name}`
}

function pathsAnswer({ body, headers, repository }: HubQuestion): HubAnswer {
  const paths = parsePaths(body, headers['content-type'] ?? '')
  if (paths === undefined) return json(refused(400, 'no list of paths'))
  const entries = paths
    .map(path => repository.commit.entries.get(path))
    .filter((entry): entry is GitEntry => entry !== undefined)
  return ok(entries.map(entryBody))
}

/** Python sends a form, JavaScript sends JSON. */
function parsePaths(body: string, type: string): string[] | undefined {
  const given = type.includes('json') ? jsonPaths(body) : new URLSearchParams(body).getAll('paths')
  if (!Array.isArray(given) || given.length > pathsMax) return undefined
  return given.every(path => typeof path === 'string') ? given : undefined
}

function jsonPaths(body: string): unknown {
  try {
    const value: unknown = JSON.parse(body)
    return typeof value === 'object' && value !== null && 'paths' in value ? value.paths : undefined
  } catch {
    return undefined
  }
}

function fileAnswer(question: HubQuestion, path: string): HubAnswer {
  const { headers, repository, target } = question
  const entry = repository.commit.entries.get(path)
  if (entry?.kind !== 'file') return noEntry(repository, path)
  const commit = repository.commit.id
  const { isLfs, oid, pointerSize, sha256, size } = entry
  if (target.verb === 'raw' && isLfs) {
    const text = pointerText(entry)
    if (gitOid('blob', Buffer.from(text)) !== oid) {
      return json(refused(404, `the pointer of ${path} has lines that are not known here`))
    }
    const pointer = { path, size: pointerSize, etag: oid, commit, isLfs: false }
    return { kind: 'text', head: fileHead(pointer, headers), text }
  }
  const served = { path, size, etag: isLfs ? sha256 : oid, commit, isLfs }
  const agent = headers['user-agent'] ?? ''
  if (size > question.plainBytesMax && agent.includes('hf_hub/')) {
    const xetHash = xetHashOf(entry, repository.xetHashes().get(path))
    const head = fileHead(served, headers)
    const more = xetHeaders(xetHash, xetPlace(question))
    return { kind: 'file', head: { ...head, headers: { ...head.headers, ...more } }, entry }
  }
  return { kind: 'file', head: fileHead(served, headers), entry }
}

/** What follows the address that a token came with: docs/spec/hub-gateway.md section 6. */
function casAnswer(question: HubQuestion): HubAnswer {
  const { headers, repository, target } = question
  const [first, second = '', third = ''] = target.rest
  if (second === 'telemetry') return ok({})
  if (second === 'reconstructions' && (first === 'v1' || first === 'v2')) {
    const entry = fileOfXet(repository, third)
    if (entry === undefined) return json(refused(404, 'no file of this model has that Xet hash'))
    const cas = casUrl(xetPlace(question))
    return json(reconstruction(entry, { version: first, range: headers.range, cas }))
  }
  const entry = first === 'xorbs' ? fileOfXet(repository, second) : undefined
  const xorb = /^\d{1,9}$/u.test(third) ? Number(third) : -1
  const span = entry === undefined || xorb < 0 ? undefined : xorbSpan(entry.size, xorb)
  if (entry === undefined || span === undefined) return json(refused(404, 'no such xorb'))
  const sent = { etag: `${entry.sha256}-${xorb}`, size: xorbBytes(span), headers: xorbHeaders }
  return { kind: 'file', head: rangedHead(sent, headers), entry, xorb: span }
}

const xorbHeaders = { 'content-type': 'application/octet-stream' }

/** By the hub's Xet hash, or by the SHA-256 that stands for one. */
function fileOfXet({ commit, xetHashes }: Repository, xetHash: string): GitFile | undefined {
  const known = xetHashes()
  for (const entry of commit.entries.values()) {
    if (entry.kind !== 'file') continue
    if (entry.sha256 === xetHash || known.get(entry.path) === xetHash) return entry
  }
  return undefined
}

function xetPlace({ host, repository, target }: HubQuestion): XetPlace {
  const origin = `http://${host}`
  return { origin, repository: apiPath(target.name), commit: repository.commit.id }
}

function noEntry({ commit, model }: Repository, path: string): HubAnswer {
  return json(notFound('EntryNotFound', `no ${path} in ${model.name}`, commit.id))
}

/** `true` of httpx, `True` of requests, `1` of others. */
function isTrue(text: string | null): boolean {
  return text !== null && /^(?:true|1)$/iu.test(text)
}

function boundedNumber(text: string | null, most: number): number {
  return text !== null && /^\d{1,9}$/u.test(text) ? Math.min(Number(text), most) : 0
}

function ok(body: unknown): HubAnswer {
  return json({ status: 200, headers: {}, body })
}

function json(answer: Answer): HubAnswer {
  return { ...answer, kind: 'answer' }
}
