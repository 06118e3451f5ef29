/**
 * A hub as mirroring sees it: what a repository is, its files at one commit, and ranges of their bytes.
 * Nothing of it is believed before it is checked, and all of it is bounded: docs/spec/mirroring.md.
 */

import { CommonweightError, LimitError, UnavailableError } from '../core/errors.ts'
import { formatBytes, MiB } from '../core/units.ts'
import { type Answer, HubClient, type HubDeps, type HubOptions } from './client.ts'
import { apiPath, encodePath, formatHubRef, type HubRef, type HubRepo, resolvePath } from './ref.ts'
import {
  type HubInfo,
  type HubFile,
  type HubRefs,
  infoSchema,
  refsSchema,
  treeSchema,
  parse,
  infoOf,
  checkRename,
  named,
  fileOf,
  nextPage,
  entriesMax,
} from './answers.ts'
import {
  type ByteRange,
  type FilePlace,
  refusalOf,
  checkHubHeaders,
  changed,
  checkPart,
  checkWhole,
  brokenOff,
} from './file-answers.ts'

export type { HubDeps, HubOptions } from './client.ts'

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

/** Pages of a list; a hub gives a thousand entries in each. */
const pagesMax = 2000
/** All pages together: 0.4 KiB for each entry, and as much again. */
const listBytesMax = 160 * MiB
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
