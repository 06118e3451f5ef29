/**
 * Acts for a session: finds sources, sends its requests, checks and writes what comes, opens and
 * publishes files. Decides nothing itself but when to give up.
 */

import { IntegrityError, messageOf, UnavailableError } from '../core/errors.ts'
import { second } from '../core/units.ts'
import type { ChunkTable } from '../dag/chunk-table.ts'
import type { Partial } from '../store/partial.ts'
import { type ChunkOutcome, fetchChunk } from './chunk-fetch.ts'
import type {
  DownloadDeps,
  DownloadOptions,
  DownloadProgress,
  DownloadRequest,
  WantedFile,
} from './request.ts'
import { readLocalChunk } from './reuse.ts'
import { Session } from './session.ts'
import type { SessionAction, SessionEvent } from './session-events.ts'
import type { HaveUpdate, Source, SourceId } from './source.ts'
import { TableFetcher } from './table-fetcher.ts'
import { bytesHeld, type Tally } from './tally.ts'

/** Deadlines are seconds; progress is told four times a second. */
const tickMs = second / 4
/** For how long a source that gave bytes counts as one of those that give. */
const activeMs = 5 * second
/** Sources that come and go would otherwise fill the terminal with "waiting". */
const noticeMs = 30 * second

interface RunFile {
  readonly wanted: WantedFile
  table: ChunkTable | undefined
  partial: Partial | undefined
}

type RequestAction = Extract<SessionAction, { type: 'request' }>

export class SwarmRun {
  readonly #deps: DownloadDeps
  readonly #request: DownloadRequest
  readonly #options: DownloadOptions & { readonly tally: Tally }
  readonly #session: Session
  readonly #tables: TableFetcher
  readonly #files: RunFile[]
  readonly #fileByRoot = new Map<string, number>()
  readonly #sources = new Map<SourceId, Source>()
  readonly #requests = new Map<SourceId, Map<string, AbortController>>()
  readonly #stop = new AbortController()
  readonly #finished = Promise.withResolvers<void>()
  /** Opening, writing, publishing: waited for before the files are closed. */
  readonly #tasks = new Set<Promise<void>>()
  /** Local chunks are copied one file after the other: disks like that, and it bounds memory. */
  #copying: Promise<unknown> = Promise.resolve()
  #copies = 0
  /** Reads and writes of this machine's disk under way: while they last, nobody is waited for. */
  #localWork = 0
  #hadSources = false
  #progressAtMs: number
  #noticeAtMs = -Infinity
  /** While it waits for its turn to ask for more. */
  #leaveAllowance: (() => void) | undefined

  constructor(
    deps: DownloadDeps,
    request: DownloadRequest,
    options: DownloadOptions & { readonly tally: Tally },
  ) {
    this.#deps = deps
    this.#request = request
    this.#options = options
    this.#files = request.files.map(wanted => ({ wanted, table: undefined, partial: undefined }))
    for (const [file, { root }] of request.files.entries()) {
      this.#fileByRoot.set(root.toString(), file)
    }
    this.#session = new Session({
      files: this.#files.length,
      random: () => deps.random(),
      allowance: options.allowance,
      isSequential: options.order === 'sequential',
    })
    this.#progressAtMs = deps.clock.monotonic()
    this.#tables = new TableFetcher({
      ...deps,
      sources: () => [...this.#sources.values()],
      onLie: (source, error) => this.#ban(source.id, error),
    })
  }

  /** Resolves once every file is published; rejects with partial files flushed and closed. */
  async finish(): Promise<void> {
    const { signal } = this.#options
    signal.throwIfAborted()
    const onAbort = (): void => this.#finished.reject(signal.reason)
    signal.addEventListener('abort', onAbort)
    try {
      this.#learnTables()
      this.#spawn(this.#findSources())
      this.#spawn(this.#fetchTables())
      this.#spawn(this.#tick())
      await this.#finished.promise
    } finally {
      signal.removeEventListener('abort', onAbort)
      this.#stop.abort()
      this.#leaveAllowance?.()
      for (const source of this.#sources.values()) this.#cancelAll(source.id)
      while (this.#tasks.size > 0) await Promise.all(this.#tasks)
      await this.#closeFiles()
    }
  }

  #spawn(work: Promise<void>): void {
    const task = work
      .catch((error: unknown) => {
        // After the end, every wait is aborted.
        if (!this.#stop.signal.aborted) this.#finished.reject(error)
      })
      .finally(() => this.#tasks.delete(task))
    this.#tasks.add(task)
  }

  async #locally(work: () => Promise<void>): Promise<void> {
    this.#localWork += 1
    try {
      await work()
    } finally {
      this.#localWork -= 1
    }
  }

  async #closeFiles(): Promise<void> {
    for (const file of this.#files) {
      try {
        await file.partial?.[Symbol.asyncDispose]()
      } catch (error) {
        const { path } = file.wanted
        this.#deps.log.warn('closing a partial file failed', { path, error: messageOf(error) })
      }
    }
  }

  #apply(event: SessionEvent): void {
    if (this.#stop.signal.aborted) return
    for (const action of this.#session.apply(event, this.#deps.clock.monotonic())) this.#act(action)
    if (this.#session.isDone) this.#finished.resolve()
    else if (this.#session.isHeldBack) this.#awaitAllowance()
  }

  #awaitAllowance(): void {
    this.#leaveAllowance ??= this.#options.allowance?.whenOpen(() => {
      this.#leaveAllowance = undefined
      this.#apply({ type: 'allowed' })
    })
  }

  #act(action: SessionAction): void {
    switch (action.type) {
      case 'request':
        this.#spawn(this.#fetchChunk(action))
        return
      case 'cancel':
        this.#requests.get(action.source)?.get(keyOf(action))?.abort(cancelled)
        return
      case 'ban':
        this.#ban(action.source, action.reason)
        return
      case 'stalled':
      case 'distrusted':
        this.#deps.log.warn(`source ${action.type}`, { source: action.source })
        return
      case 'open':
        this.#spawn(this.#locally(() => this.#open(action.file)))
        return
      case 'park':
        this.#spawn(this.#locally(() => this.#park(action.file)))
        return
      case 'publish':
        this.#spawn(this.#locally(() => this.#publish(action.file)))
        return
      case 'need-sources':
        this.#noticeWaiting()
    }
  }

  // Sources.

  async #findSources(): Promise<void> {
    const { keys } = this.#request
    const { peers } = this.#options
    const find = this.#deps.finder.find(keys, { peers, signal: this.#stop.signal })
    for await (const found of find) if (found.type === 'source') this.#addSource(found.source)
  }

  #addSource(source: Source): void {
    const before = this.#sources.get(source.id)
    if (source.closed.aborted || before === source) return
    if (before !== undefined) this.#removeSource(before)
    this.#hadSources = true
    this.#sources.set(source.id, source)
    this.#requests.set(source.id, new Map())
    const onClosed = (): void => this.#removeSource(source)
    source.closed.addEventListener('abort', onClosed, { once: true, signal: this.#stop.signal })
    const { id, requestsMax, isUnlimited } = source
    this.#apply({ type: 'source-added', source: id, requestsMax, isUnlimited })
    this.#watch(source, [...this.#files.keys()])
    this.#tables.wake()
  }

  #removeSource(source: Source): void {
    if (this.#sources.get(source.id) !== source) return
    this.#sources.delete(source.id)
    this.#cancelAll(source.id)
    this.#requests.delete(source.id)
    this.#deps.log.debug('a source is gone', { source: source.id })
    this.#apply({ type: 'source-gone', source: source.id })
  }

  #cancelAll(id: SourceId): void {
    for (const request of this.#requests.get(id)?.values() ?? []) request.abort(cancelled)
  }

  #ban(id: SourceId, reason: Error): void {
    const source = this.#sources.get(id)
    if (source === undefined) return
    this.#options.onNotice('warn', `banned ${id}: ${reason.message}`)
    this.#deps.log.warn('banned a source', { source: id, reason: reason.message })
    this.#removeSource(source)
    source.ban(reason)
  }

  /** Asks to be told of those of the files whose chunks are known. */
  #watch(source: Source, files: readonly number[]): void {
    const watched = files.flatMap(file => {
      const { wanted, table } = this.#files[file] as RunFile
      return table === undefined ? [] : { root: wanted.root, chunks: table.count }
    })
    if (watched.length === 0) return
    const onHave = (update: HaveUpdate): void => this.#onHave(source, update)
    source.watch(watched, onHave, { signal: this.#stop.signal })
  }

  #onHave(source: Source, { root, gained, lost }: HaveUpdate): void {
    const file = this.#fileByRoot.get(root.toString())
    if (file === undefined || this.#sources.get(source.id) !== source) return
    this.#apply({ type: 'have', source: source.id, file, gained, lost })
  }

  // Chunk tables.

  /** Those that need nobody: small files are their own table, others may be known here. */
  #learnTables(): void {
    for (const [file, { wanted }] of this.#files.entries()) {
      const table = this.#tables.local(wanted)
      if (table !== undefined) this.#know(file, table)
    }
  }

  async #fetchTables(): Promise<void> {
    const unknown = this.#files.flatMap(({ table }, file) => (table === undefined ? file : []))
    const wanted = (file: number): WantedFile => (this.#files[file] as RunFile).wanted
    await this.#tables.fetchAll(unknown, wanted, this.#stop.signal, (file, table) => {
      this.#progressed()
      this.#know(file, table)
      for (const source of this.#sources.values()) this.#watch(source, [file])
    })
  }

  #know(file: number, table: ChunkTable): void {
    const entry = this.#files[file] as RunFile
    entry.table = table
    this.#apply({ type: 'file-known', file, table })
  }

  // Chunks.

  async #fetchChunk(action: RequestAction): Promise<void> {
    const { index, length } = action
    const source = this.#sources.get(action.source)
    const requests = this.#requests.get(action.source)
    const { wanted, partial, table } = this.#files[action.file] as RunFile
    if (source === undefined || requests === undefined) return
    if (partial === undefined || table === undefined) return
    const request = new AbortController()
    requests.set(keyOf(action), request)
    // What has arrived is not cancelled any more.
    const ended = (): void => {
      if (requests.get(keyOf(action)) === request) requests.delete(keyOf(action))
    }
    const { digest, offset } = table.ref(index)
    try {
      const outcome = await fetchChunk({
        source,
        partial,
        chunk: { root: wanted.root, index, offset, length, digest },
        signal: request.signal,
        onArrived: () => {
          ended()
          this.#apply({ source: action.source, file: action.file, index, type: 'chunk-arrived' })
        },
        locally: work => this.#locally(work),
      })
      if (outcome !== undefined) this.#fetched(action, outcome)
    } finally {
      ended()
    }
  }

  #fetched(action: RequestAction, outcome: NonNullable<ChunkOutcome>): void {
    const { type } = outcome
    const isHere = type === 'chunk-verified' || type === 'chunk-found'
    if (isHere) this.#progressed()
    if (type === 'chunk-verified' || (type === 'chunk-found' && outcome.isFetched)) {
      this.#options.tally.fetched(action.source, action.length)
    }
    const { source, file, index } = action
    if (!isHere) {
      const reason = 'reason' in outcome ? outcome.reason.message : 'its thread ended'
      this.#deps.log.debug('no chunk', { source, file, index, type, reason })
    }
    const event = { ...outcome, source, file, index }
    this.#apply(event)
  }

  // Files.

  async #open(file: number): Promise<void> {
    const entry = this.#files[file] as RunFile
    const { root, sha256, place, size } = entry.wanted
    const table = entry.table as ChunkTable
    const { folder } = this.#request
    const isFirst = entry.partial === undefined
    entry.partial = await this.#deps.store.openPartial({ root, sha256, table, place, folder })
    const heldBefore = bytesHeld(table, entry.partial.held)
    if (isFirst) this.#options.tally.reused(heldBefore)
    if (heldBefore < size) await this.#copyLocal(entry, table)
    this.#apply({ type: 'file-opened', file, held: entry.partial.held })
  }

  /** Chunks that lie in other files of this machine. */
  async #copyLocal(entry: RunFile, table: ChunkTable): Promise<void> {
    const { store } = this.#deps
    const partial = entry.partial as Partial
    const copy = async (): Promise<void> => {
      for (let index = 0; index < table.count; index += 1) {
        if (this.#stop.signal.aborted) return
        if (partial.held.has(index)) continue
        const places = store.findChunk(table.digest(index))
        if (places.length === 0) continue
        const block = await readLocalChunk(this.#deps, table.digest(index), places)
        if (block === undefined) continue
        await partial.write(index, block)
        this.#options.tally.reused(block.bytes.length)
        this.#progressed()
      }
    }
    const isNeeded = (index: number): boolean =>
      !partial.held.has(index) && store.findChunk(table.digest(index)).length > 0
    if (!someIndex(table.count, isNeeded)) return
    const before = this.#copying
    const turn = Promise.withResolvers<void>()
    this.#copying = turn.promise
    this.#copies += 1
    try {
      await before
      await copy()
    } finally {
      this.#copies -= 1
      turn.resolve()
    }
  }

  async #park(file: number): Promise<void> {
    const entry = this.#files[file] as RunFile
    await entry.partial?.[Symbol.asyncDispose]()
    this.#apply({ type: 'file-parked', file })
  }

  async #publish(file: number): Promise<void> {
    const entry = this.#files[file] as RunFile
    const partial = entry.partial as Partial
    if (!partial.held.isFull) {
      // The store read some of it back and found it damaged: that is fetched again.
      this.#apply({ type: 'file-opened', file, held: partial.held })
      return
    }
    try {
      const { keptAs } = await partial.publish()
      if (keptAs !== undefined) this.#options.onNotice('info', keptNotice(keptAs))
      await partial[Symbol.asyncDispose]()
    } catch (error) {
      if (error instanceof IntegrityError) entry.wanted.table?.blame?.(error)
      throw error
    }
    entry.partial = undefined
    this.#progressed()
    this.#options.tally.fileDone()
    this.#apply({ type: 'file-done', file })
  }

  // Time.

  async #tick(): Promise<void> {
    const { clock } = this.#deps
    for (;;) {
      this.#options.onProgress(this.#progress())
      await clock.sleep(tickMs, this.#stop.signal)
      this.#apply({ type: 'tick' })
      // What holds it up is here, and not that nobody serves.
      if (this.#localWork > 0 || this.#leaveAllowance !== undefined) this.#progressed()
      const idleMs = clock.monotonic() - this.#progressAtMs
      if (idleMs > this.#options.patienceMs) throw this.#givenUp()
    }
  }

  #progress(): DownloadProgress {
    return this.#options.tally.progress(this.#phase(), this.#session.activeSources(activeMs))
  }

  #phase(): DownloadProgress['phase'] {
    if (this.#copies > 0) return 'reusing'
    if (!this.#hadSources) return 'finding'
    if (this.#session.isWaiting && this.#tables.inFlight === 0) return 'waiting'
    return this.#session.missing === 0 ? 'publishing' : 'fetching'
  }

  #progressed(): void {
    this.#progressAtMs = this.#deps.clock.monotonic()
  }

  #noticeWaiting(): void {
    const nowMs = this.#deps.clock.monotonic()
    const isKnown = this.#files.every(({ table }) => table !== undefined)
    if (!this.#hadSources || !isKnown || nowMs - this.#noticeAtMs < noticeMs) return
    this.#noticeAtMs = nowMs
    const left = this.#files.length - this.#session.filesDone
    const what = left === 1 ? 'a file' : `${left} files`
    this.#options.onNotice('info', `nobody known serves what is missing of ${what}: waiting`)
  }

  #givenUp(): UnavailableError {
    const left = this.#files.length - this.#session.filesDone
    const why = this.#hadSources ? 'nobody serves what is missing' : 'no source was found'
    return new UnavailableError(`${left} of ${this.#files.length} files are not whole: ${why}`, {
      hint: 'run the same pull again later: what was fetched is kept',
    })
  }
}

function keptNotice(path: string): string {
  return `the damaged file is kept as ${path}: delete it when you do not need it`
}

const cancelled = new UnavailableError('not needed any more')

function keyOf({ file, index }: { file: number; index: number }): string {
  return `${file}/${index}`
}

function someIndex(count: number, test: (index: number) => boolean): boolean {
  for (let index = 0; index < count; index += 1) if (test(index)) return true
  return false
}
