/**
 * A hub as mirroring sees it: what a repository is, its files at one commit, and ranges of their bytes.
 * Nothing of it is believed before it is checked, and all of it is bounded: docs/spec/mirroring.md.
 */

import type { IncomingHttpHeaders } from 'node:http'
import { z } from 'zod'
import {
  CommonweightError,
  InvalidInputError,
  IntegrityError,
  LimitError,
  NotFoundError,
  ProtocolError,
  UnavailableError,
} from '../core/errors.ts'
import { fileBytesMax } from '../core/limits.ts'
import { formatBytes, MiB } from '../core/units.ts'
import { manifestFilesMax } from '../manifest/manifest.ts'
import { pathBytesMax } from '../manifest/paths.ts'
import { isRepoName } from '../manifest/source.ts'
import { type Answer, HubClient, type HubDeps, type HubOptions } from './client.ts'
import { isDeep } from './card.ts'
import { apiPath, encodePath, formatHubRef, type HubRef, type HubRepo, resolvePath } from './ref.ts'

export type { HubDeps, HubOptions } from './client.ts'

export interface HubInfo extends HubRepo {
  readonly commit: string
  readonly isPrivate: boolean
  readonly isDisabled: boolean
  /** How access is asked for; false when nobody asks. */
  readonly gated: 'auto' | 'manual' | false
  readonly licence: string | undefined
  readonly tags: readonly string[]
  readonly pipelineTag: string | undefined
  readonly libraryName: string | undefined
  readonly lastModified: string | undefined
  /** The head of the model card, as JSON. */
  readonly cardData: unknown
}

export interface HubFile {
  readonly path: string
  /** Of the file itself, not of its pointer. */
  readonly size: number
  /** Of the git blob: the file, or its pointer. */
  readonly gitOid: string
  /** SHA-256 of the file, when it lies in LFS. */
  readonly sha256: string | undefined
  readonly xetHash: string | undefined
}

export interface HubRefs {
  readonly branches: Readonly<Record<string, string>>
  readonly tags: Readonly<Record<string, string>>
}

export interface ByteRange {
  readonly start: number
  /** Exclusive. */
  readonly end: number
}

export interface Hub extends Disposable {
  /** The hub's origin and where one commit's files are, as a web seed is written. */
  treeUrl(repo: HubRepo, commit: string): string
  info(ref: HubRef, signal: AbortSignal): Promise<HubInfo>
  /** Undefined when the hub does not say. */
  refs(repo: HubRepo, signal: AbortSignal): Promise<HubRefs | undefined>
  /** All files of a commit. */
  files(repo: HubRepo, commit: string, signal: AbortSignal): Promise<HubFile[]>
  /**
   * The bytes of a range, in order. IntegrityError when the hub has another file there than its list said;
   * UnavailableError when they do not come, or not to their end.
   */
  read(from: FilePlace, range: ByteRange, signal: AbortSignal): AsyncIterable<Uint8Array>
}

export interface FilePlace extends HubRepo {
  readonly commit: string
  readonly file: Pick<HubFile, 'path' | 'size' | 'sha256'>
}

/** Pages of a list; a hub gives a thousand entries in each. */
const pagesMax = 2000
/** Files and folders of one commit. */
const entriesMax = 2 * manifestFilesMax
/** All pages together: 0.4 KiB for each entry, and as much again. */
const listBytesMax = 160 * MiB
/** Branches and tags that are remembered, of each kind. */
const refsMax = 1000
/** Where files were found at a CDN; its signed URLs are good for an hour. */
const targetsMax = 256

export function openHub(deps: HubDeps, options: HubOptions): Hub {
  return new HttpHub(new HubClient(deps, options))
}

class HttpHub implements Hub {
  readonly #client: HubClient
  readonly #targets = new Map<string, URL>()

  constructor(client: HubClient) {
    this.#client = client
  }

  treeUrl(repo: HubRepo, commit: string): string {
    return `${this.#client.upstream.origin}${resolvePath(repo, commit)}`
  }

  async info(ref: HubRef, signal: AbortSignal): Promise<HubInfo> {
    const path = apiPath(ref, `/revision/${encodeURIComponent(ref.revision)}`)
    const answer = await this.#client.getJson(path, refusalOf(formatHubRef(ref)), signal)
    const info = infoOf(ref, parse(infoSchema, answer.value))
    checkRename(ref, info, answer.url)
    return info
  }

  async refs(repo: HubRepo, signal: AbortSignal): Promise<HubRefs | undefined> {
    const path = apiPath(repo, '/refs')
    try {
      const { value } = await this.#client.getJson(path, refusalOf(repo.repo), signal)
      const { branches, tags } = parse(refsSchema, value)
      return { branches: named(branches), tags: named(tags) }
    } catch (error) {
      signal.throwIfAborted()
      // A mirror of a hub need not have them, a repository has too many, and nothing depends on them.
      if (error instanceof CommonweightError) return undefined
      throw error
    }
  }

  async files(repo: HubRepo, commit: string, signal: AbortSignal): Promise<HubFile[]> {
    const files: HubFile[] = []
    const what = formatHubRef({ ...repo, revision: commit })
    let path: string | undefined = apiPath(repo, `/tree/${commit}?recursive=true&expand=false`)
    let entries = 0
    let bytes = 0
    for (let page = 0; path !== undefined; page += 1) {
      const answer = await this.#client.getJson(path, refusalOf(what), signal)
      const { headers } = answer
      bytes += answer.bytes
      if (bytes > listBytesMax) {
        throw new LimitError(`the list of ${what} has more than ${formatBytes(listBytesMax)}`)
      }
      const found = parse(treeSchema, answer.value)
      entries += found.length
      if (page === pagesMax || entries > entriesMax) {
        throw new LimitError(`${what} lists more than ${entriesMax} files and folders`)
      }
      for (const entry of found) {
        const file = fileOf(entry)
        if (file !== undefined) files.push(file)
      }
      path = nextPage(headers, this.#client.upstream)
    }
    return files
  }

  async *read(from: FilePlace, range: ByteRange, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    const { response, status, headers } = await this.#openRange(from, range, signal)
    let left = range.end - range.start
    try {
      // A server that gives whole files is of use when the range begins where the file does.
      if (status === 200) checkWhole(headers, from.file, range)
      else checkPart(headers, from.file, range)
      for await (const part of response as AsyncIterable<Buffer>) {
        const bytes = part.length <= left ? part : part.subarray(0, left)
        left -= bytes.length
        if (bytes.length > 0) yield bytes
        if (left === 0) break
      }
    } catch (error) {
      throw brokenOff(from.file.path, error, signal)
    } finally {
      // What comes after the range is not wanted; a body that ended keeps its connection.
      if (!response.complete) response.destroy()
    }
    if (left > 0) throw new UnavailableError(`${from.file.path} ended ${left} bytes too early`)
  }

  [Symbol.dispose](): void {
    this.#client[Symbol.dispose]()
  }

  /** Asks where the file was found last; again from the start when that is over. */
  async #openRange(from: FilePlace, range: ByteRange, signal: AbortSignal): Promise<Answer> {
    const { commit, file } = from
    const path = `${resolvePath(from, commit)}${encodePath(file.path)}`
    const headers = {
      accept: '*/*',
      'accept-encoding': 'identity',
      range: `bytes=${range.start}-${range.end - 1}`,
    }
    const known = this.#targets.get(path)
    if (known !== undefined) {
      const answer = await this.#client.get(known, headers, signal)
      if (isGood(answer)) return answer
      // A signature that ran out.
      answer.response.destroy()
      this.#targets.delete(path)
    }
    let answer = await this.#client.get(path, headers, signal)
    const isAtCdn = answer.url.origin !== this.#client.upstream.origin
    if (!isGood(answer) && isAtCdn) {
      // It ran out on the way.
      answer.response.destroy()
      answer = await this.#client.get(path, headers, signal)
    }
    if (!isGood(answer)) {
      answer.response.destroy()
      if (answer.status === 416) throw changed(file.path)
      throw refusalOf(file.path)(answer.status, answer.headers, '')
    }
    checkHubHeaders(answer.hubHeaders, from)
    if (answer.url.origin !== this.#client.upstream.origin) this.#remember(path, answer.url)
    return answer
  }

  #remember(path: string, url: URL): void {
    this.#targets.set(path, url)
    const [oldest] = this.#targets.keys()
    if (this.#targets.size > targetsMax && oldest !== undefined) this.#targets.delete(oldest)
  }
}

function isGood({ status }: Answer): boolean {
  return status === 206 || status === 200
}

// Answers of the API. What is not named is dropped.

const oid = z.string().regex(/^[0-9a-f]{40}$/u)
const sha256 = z.string().regex(/^[0-9a-f]{64}$/u)
const shortText = z.string().max(500)

const infoSchema = z.object({
  id: z.string(),
  sha: oid,
  private: z.boolean().optional(),
  disabled: z.boolean().nullish(),
  gated: z.union([z.literal('auto'), z.literal('manual'), z.boolean()]).nullish(),
  tags: z.array(shortText).max(10_000).nullish(),
  pipeline_tag: shortText.nullish(),
  library_name: shortText.nullish(),
  lastModified: shortText.nullish(),
  cardData: z.unknown().optional(),
})

const refSchema = z.object({ name: shortText, targetCommit: oid })
const refsSchema = z.object({
  branches: z.array(refSchema).max(100_000),
  tags: z.array(refSchema).max(100_000).default([]),
})

const entrySchema = z.object({
  type: shortText,
  // What is longer is no path of a model; a unit has a byte or more.
  path: z.string().max(pathBytesMax),
  oid,
  size: z.number().int().nonnegative().max(fileBytesMax).default(0),
  lfs: z.object({ oid: sha256, size: z.number().int().nonnegative().max(fileBytesMax) }).nullish(),
  xetHash: sha256.nullish(),
})
const treeSchema = z.array(entrySchema).max(entriesMax)

function parse<T>(schema: z.ZodType<T>, value: unknown): T {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  const where = issue?.path.join('.') ?? ''
  throw new ProtocolError(`the hub's answer is not understood: ${where} ${issue?.message ?? ''}`, {
    hint: 'is this the URL of a hub?',
  })
}

function infoOf(ref: HubRef, answer: z.infer<typeof infoSchema>): HubInfo {
  const { id, sha, gated, cardData, tags } = answer
  if (!isRepoName(id))
    throw new ProtocolError(`the hub calls it ${JSON.stringify(id.slice(0, 200))}`)
  const licence = (tags ?? []).find(tag => tag.startsWith('license:'))?.slice('license:'.length)
  return {
    type: ref.type,
    // As the hub spells it: repositories are renamed, and asked for in any case.
    repo: id,
    commit: sha,
    isPrivate: answer.private ?? false,
    isDisabled: answer.disabled ?? false,
    gated: gated === true ? 'manual' : (gated ?? false),
    licence,
    tags: tags ?? [],
    pipelineTag: answer.pipeline_tag ?? undefined,
    libraryName: answer.library_name ?? undefined,
    lastModified: answer.lastModified ?? undefined,
    cardData: isDeep(cardData) ? null : (cardData ?? null),
  }
}

/** A renamed repository is redirected to; another one's name would be taken by a mere answer. */
function checkRename(asked: HubRepo, found: HubRepo, { pathname }: URL): void {
  const isSame = asked.repo.toLowerCase() === found.repo.toLowerCase()
  if (isSame || pathname.startsWith(apiPath(found, '/revision/'))) return
  throw new ProtocolError(`the hub answers with ${found.repo} when asked for ${asked.repo}`, {
    hint: `ask for hf:${found.repo} if that is what you want`,
  })
}

function named(refs: readonly z.infer<typeof refSchema>[]): Record<string, string> {
  return Object.fromEntries(
    refs.slice(0, refsMax).map(({ name, targetCommit }) => [name, targetCommit]),
  )
}

function fileOf(entry: z.infer<typeof entrySchema>): HubFile | undefined {
  if (entry.type === 'directory') return undefined
  if (entry.type !== 'file') {
    throw new ProtocolError(`${entry.path} is a ${entry.type.slice(0, 40)}, not a file`)
  }
  const { path, lfs, xetHash } = entry
  return {
    path,
    size: lfs?.size ?? entry.size,
    gitOid: entry.oid,
    sha256: lfs?.oid,
    xetHash: xetHash ?? undefined,
  }
}

/** Only path and query are taken: a mirror of a hub may name the hub itself here. */
function nextPage({ link }: IncomingHttpHeaders, upstream: URL): string | undefined {
  const text = Array.isArray(link) ? link.join(',') : (link ?? '')
  const next = /<([^<>]{1,4000})>\s*;[^,]{0,200}\brel="?next"?/u.exec(text)?.[1]
  if (next === undefined || !URL.canParse(next, upstream.href)) return undefined
  const { pathname, search } = new URL(next, upstream)
  return `${pathname}${search}`
}

// Refusals.

function refusalOf(
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
function checkHubHeaders(headers: IncomingHttpHeaders, { commit, file }: FilePlace): void {
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

function changed(path: string): IntegrityError {
  return new IntegrityError(`the hub has another ${path} than the one it listed`)
}

function checkPart(headers: IncomingHttpHeaders, file: FilePlace['file'], range: ByteRange): void {
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

function checkWhole(headers: IncomingHttpHeaders, file: FilePlace['file'], range: ByteRange): void {
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
function brokenOff(path: string, error: unknown, signal: AbortSignal): unknown {
  signal.throwIfAborted()
  if (error instanceof IntegrityError || error instanceof ProtocolError) return error
  return new UnavailableError(`the transfer of ${path} broke off`, { cause: error })
}
