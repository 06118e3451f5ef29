/** The sources of one download, and the requests under way at each: added, banned, taken back. */

import { messageOf, UnavailableError } from '../core/errors.ts'
import type { Logger } from '../core/log.ts'
import type { DownloadOptions } from './request.ts'
import type { SourceChunk } from './session-events.ts'
import type { Source, SourceId } from './source.ts'

export interface RunSourcesOptions {
  readonly log: Logger
  /** The download is over. */
  readonly signal: AbortSignal
  readonly onNotice: DownloadOptions['onNotice']
  readonly onAdded: (source: Source) => void
  readonly onGone: (id: SourceId) => void
}

/** A chunk asked for, until it has arrived: what has is not cancelled any more. */
export interface SourceRequest {
  readonly signal: AbortSignal
  ended(): void
}

const cancelled = new UnavailableError('not needed any more')

export class RunSources {
  readonly #options: RunSourcesOptions
  readonly #sources = new Map<SourceId, Source>()
  readonly #requests = new Map<SourceId, Map<string, AbortController>>()
  #hadAny = false

  constructor(options: RunSourcesOptions) {
    this.#options = options
  }

  get all(): Source[] {
    return [...this.#sources.values()]
  }

  /** There was one, though it may be gone. */
  get hadAny(): boolean {
    return this.#hadAny
  }

  get(id: SourceId): Source | undefined {
    return this.#sources.get(id)
  }

  /** Takes the place of one with the same id. */
  add(source: Source): void {
    const before = this.#sources.get(source.id)
    if (source.closed.aborted || before === source) return
    if (before !== undefined) this.#remove(before)
    this.#hadAny = true
    this.#sources.set(source.id, source)
    this.#requests.set(source.id, new Map())
    const onClosed = (): void => this.#remove(source)
    const { signal } = this.#options
    source.closed.addEventListener('abort', onClosed, { once: true, signal })
    this.#options.onAdded(source)
  }

  ban(id: SourceId, reason: Error): void {
    const source = this.#sources.get(id)
    if (source === undefined) return
    const { log, onNotice } = this.#options
    onNotice('warn', `banned ${id}: ${reason.message}`)
    const { message, cause } = reason
    const details = cause === undefined ? {} : { cause: messageOf(cause) }
    log.warn('banned a source', { source: id, reason: message, ...details })
    this.#remove(source)
    source.ban(reason)
  }

  /** Undefined when the source is gone. */
  begin(chunk: SourceChunk): SourceRequest | undefined {
    const requests = this.#requests.get(chunk.source)
    if (requests === undefined) return undefined
    const key = keyOf(chunk)
    const request = new AbortController()
    requests.set(key, request)
    return {
      signal: request.signal,
      ended() {
        if (requests.get(key) === request) requests.delete(key)
      },
    }
  }

  cancel(chunk: SourceChunk): void {
    this.#requests.get(chunk.source)?.get(keyOf(chunk))?.abort(cancelled)
  }

  cancelAll(): void {
    for (const id of this.#sources.keys()) this.#cancelAllOf(id)
  }

  #remove(source: Source): void {
    const { id } = source
    if (this.#sources.get(id) !== source) return
    this.#sources.delete(id)
    this.#cancelAllOf(id)
    this.#requests.delete(id)
    this.#options.log.debug('a source is gone', { source: id })
    this.#options.onGone(id)
  }

  #cancelAllOf(id: SourceId): void {
    for (const request of this.#requests.get(id)?.values() ?? []) request.abort(cancelled)
  }
}

function keyOf({ file, index }: SourceChunk): string {
  return `${file}/${index}`
}
