/**
 * Acts for a session: finds sources, sends its requests, checks and writes what comes, opens and
 * publishes files. Decides nothing itself but when to give up.
 */

import { BufferPool } from '../core/buffers.ts'
import { UnavailableError } from '../core/errors.ts'
import { second } from '../core/units.ts'
import type { ChunkTable } from '../dag/chunk-table.ts'
import { type ChunkOutcome, fetchChunk } from './chunk-fetch.ts'
import type {
  DownloadDeps,
  DownloadOptions,
  DownloadProgress,
  DownloadRequest,
  WantedFile,
} from './request.ts'
import { RunFiles } from './run-files.ts'
import { Session } from './session.ts'
import type { SessionAction, SessionEvent } from './session-events.ts'
import type { HaveUpdate, Source, SourceId } from './source.ts'
import { TableFetcher } from './table-fetcher.ts'
import { WholeFiles } from './whole-files.ts'
import type { Tally } from './tally.ts'

/** Deadlines are seconds; progress is told four times a second. */
const tickMs = second / 4
/** For how long a source that gave bytes counts as one of those that give. */
const activeMs = 5 * second
/** MiB kept for chunks that come through this thread: half of what may be in flight. */
const buffersKept = 32
/** Sources that come and go would otherwise fill the terminal with "waiting". */
const noticeMs = 30 * second

type RequestAction = Extract<SessionAction, { type: 'request' }>

export class SwarmRun {
  readonly #deps: DownloadDeps
  readonly #request: DownloadRequest
  readonly #options: DownloadOptions & { readonly tally: Tally }
  readonly #session: Session
  readonly #tables: TableFetcher
  readonly #buffers = new BufferPool(buffersKept)
  readonly #whole: WholeFiles | undefined
  readonly #files: RunFiles
  readonly #fileByRoot = new Map<string, number>()
  readonly #sources = new Map<SourceId, Source>()
  readonly #requests = new Map<SourceId, Map<string, AbortController>>()
  readonly #stop = new AbortController()
  readonly #finished = Promise.withResolvers<void>()
  /** Opening, writing, publishing: waited for before the files are closed. */
  readonly #tasks = new Set<Promise<void>>()
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
    this.#files = new RunFiles(deps, request, {
      tally: options.tally,
      signal: this.#stop.signal,
      onNotice: options.onNotice,
      onProgress: () => this.#progressed(),
    })
    for (const [file, { root }] of request.files.entries()) {
      this.#fileByRoot.set(root.toString(), file)
    }
    this.#session = new Session({
      files: request.files.length,
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
    this.#whole = this.#openWhole()
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
      await this.#files.close()
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
    for await (const found of find) {
      if (found.type === 'source') this.#addSource(found.source)
      // Whoever knows the chunks had the time to say so.
      else if (found.round === 1 && this.#whole !== undefined) {
        this.#spawn(this.#whole.run(this.#stop.signal))
      }
    }
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
    this.#watch(source, [...this.#files.all.keys()])
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
      const { wanted, table } = this.#files.get(file)
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
    for (const [file, { wanted }] of this.#files.all.entries()) {
      const table = this.#tables.local(wanted)
      if (table !== undefined) this.#know(file, table)
    }
  }

  async #fetchTables(): Promise<void> {
    const wanted = (file: number): WantedFile | undefined => {
      const { table, wanted: unknown } = this.#files.get(file)
      return table === undefined ? unknown : undefined
    }
    const { signal } = this.#stop
    await this.#tables.fetchAll(this.#files.unknown(), wanted, signal, (file, table) => {
      this.#whole?.known(file)
      this.#learn(file, table)
    })
  }

  /** What nobody tells, web servers may have. */
  #openWhole(): WholeFiles | undefined {
    const { fetchWhole, clock, log } = this.#deps
    if (fetchWhole === undefined) return undefined
    const { tally, onNotice } = this.#options
    const files = this.#files
    return new WholeFiles({
      fetchWhole,
      clock,
      log,
      sources: () => [...this.#sources.values()],
      unknown: () => files.unknown(),
      wanted: file => files.get(file).wanted,
      onStart(file, { id }) {
        const { path } = files.get(file).wanted
        onNotice('info', `nobody tells the chunks of ${path}: it is fetched whole from ${id}`)
      },
      onBytes: (file, { id }, bytes) => {
        files.get(file).bytesWhole += bytes
        tally.fetched(id, bytes)
        this.#progressed()
      },
      onDiscarded(file) {
        tally.discarded(files.get(file).bytesWhole)
        files.get(file).bytesWhole = 0
      },
      onTable: (file, table) => {
        this.#learn(file, table)
        this.#tables.wake()
      },
      onLie: (source, error) => this.#ban(source.id, error),
    })
  }

  #learn(file: number, table: ChunkTable): void {
    this.#progressed()
    this.#know(file, table)
    for (const source of this.#sources.values()) this.#watch(source, [file])
  }

  #know(file: number, table: ChunkTable): void {
    const entry = this.#files.get(file)
    entry.table = table
    this.#options.onTable?.(entry.wanted.root, table)
    this.#apply({ type: 'file-known', file, table })
  }

  // Chunks.

  async #fetchChunk(action: RequestAction): Promise<void> {
    const { index, length } = action
    const source = this.#sources.get(action.source)
    const requests = this.#requests.get(action.source)
    const { wanted, partial, table } = this.#files.get(action.file)
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
        buffers: this.#buffers,
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
    const held = await this.#files.open(file)
    this.#apply({ type: 'file-opened', file, held })
  }

  async #park(file: number): Promise<void> {
    await this.#files.park(file)
    this.#apply({ type: 'file-parked', file })
  }

  async #publish(file: number): Promise<void> {
    const held = await this.#files.publish(file)
    if (held === undefined) this.#apply({ type: 'file-done', file })
    // What was found damaged is fetched again.
    else this.#apply({ type: 'file-opened', file, held })
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
    const active = this.#session.activeSources(activeMs) + (this.#isFetchingWhole ? 1 : 0)
    return this.#options.tally.progress(this.#phase(), active)
  }

  #phase(): DownloadProgress['phase'] {
    if (this.#files.isCopying) return 'reusing'
    if (!this.#hadSources) return 'finding'
    if (this.#isFetchingWhole) return 'fetching'
    if (this.#session.isWaiting && this.#tables.inFlight === 0) return 'waiting'
    return this.#session.missing === 0 ? 'publishing' : 'fetching'
  }

  get #isFetchingWhole(): boolean {
    return this.#whole?.isFetching === true
  }

  #progressed(): void {
    this.#progressAtMs = this.#deps.clock.monotonic()
  }

  #noticeWaiting(): void {
    const nowMs = this.#deps.clock.monotonic()
    const isKnown = this.#files.all.every(({ table }) => table !== undefined)
    if (!this.#hadSources || !isKnown || nowMs - this.#noticeAtMs < noticeMs) return
    this.#noticeAtMs = nowMs
    const left = this.#request.files.length - this.#session.filesDone
    const what = left === 1 ? 'a file' : `${left} files`
    this.#options.onNotice('info', `nobody known serves what is missing of ${what}: waiting`)
  }

  #givenUp(): UnavailableError {
    const left = this.#request.files.length - this.#session.filesDone
    const why = this.#hadSources ? 'nobody serves what is missing' : 'no source was found'
    return new UnavailableError(
      `${left} of ${this.#request.files.length} files are not whole: ${why}`,
      {
        hint: 'run the same pull again later: what was fetched is kept',
      },
    )
  }
}

const cancelled = new UnavailableError('not needed any more')

function keyOf({ file, index }: { file: number; index: number }): string {
  return `${file}/${index}`
}
