/**
 * Acts for a session: finds sources, sends its requests, checks and writes what comes, opens and
 * publishes files. Decides nothing itself but when to give up.
 */

import { BufferPool } from '../core/buffers.ts'
import { UnavailableError } from '../core/errors.ts'
import { second } from '../core/units.ts'
import type { ChunkTable } from '../dag/chunk-table.ts'
import { DownloadLimits } from './allowance.ts'
import { type ChunkOutcome, fetchChunk } from './chunk-fetch.ts'
import type { FlightShare } from './flight-budget.ts'
import type {
  DownloadDeps,
  DownloadOptions,
  DownloadProgress,
  DownloadRequest,
  WantedFile,
} from './request.ts'
import { RunFiles } from './run-files.ts'
import { RunSources } from './run-sources.ts'
import { Session } from './session.ts'
import type { SessionAction, SessionEvent } from './session-events.ts'
import type { HaveUpdate, Source } from './source.ts'
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
  readonly #sources: RunSources
  readonly #stop = new AbortController()
  readonly #finished = Promise.withResolvers<void>()
  /** Opening, writing, publishing: waited for before the files are closed. */
  readonly #tasks = new Set<Promise<void>>()
  /** Reads and writes of this machine's disk under way: while they last, nobody is waited for. */
  #localWork = 0
  #progressAtMs: number
  #noticeAtMs = -Infinity
  readonly #limits: DownloadLimits
  readonly #share: FlightShare | undefined

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
    this.#sources = new RunSources({
      log: deps.log,
      signal: this.#stop.signal,
      onNotice: options.onNotice,
      onAdded: source => this.#onSource(source),
      onGone: source => this.#apply({ type: 'source-gone', source }),
    })
    for (const [file, { root }] of request.files.entries()) {
      this.#fileByRoot.set(root.toString(), file)
    }
    this.#share = deps.flights?.share()
    this.#limits = new DownloadLimits({ own: options.ownAllowance, node: options.allowance })
    this.#session = new Session({
      files: request.files.length,
      random: () => deps.random(),
      limits: this.#limits,
      share: this.#share,
      isSequential: options.order === 'sequential',
    })
    this.#progressAtMs = deps.clock.monotonic()
    this.#tables = new TableFetcher({
      ...deps,
      sources: () => this.#sources.all,
      onLie: (source, error) => this.#sources.ban(source.id, error),
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
      this.#limits.leave()
      this.#sources.cancelAll()
      while (this.#tasks.size > 0) await Promise.all(this.#tasks)
      this.#share?.[Symbol.dispose]()
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
    else this.#limits.awaitTurns(() => this.#apply({ type: 'allowed' }))
  }

  #act(action: SessionAction): void {
    switch (action.type) {
      case 'request':
        return this.#spawn(this.#fetchChunk(action))
      case 'cancel':
        return this.#sources.cancel(action)
      case 'ban':
        return this.#sources.ban(action.source, action.reason)
      case 'stalled':
      case 'distrusted':
        this.#deps.log.warn(`source ${action.type}`, { source: action.source })
        return
      case 'open':
        return this.#spawn(this.#locally(() => this.#open(action.file)))
      case 'park':
        return this.#spawn(this.#locally(() => this.#park(action.file)))
      case 'publish':
        return this.#spawn(this.#locally(() => this.#publish(action.file)))
      case 'need-sources':
        this.#noticeWaiting()
    }
  }

  // Sources.

  async #findSources(): Promise<void> {
    const { keys } = this.#request
    const { peers, onUnreached } = this.#options
    const find = this.#deps.finder.find(keys, { peers, onUnreached, signal: this.#stop.signal })
    for await (const found of find) {
      if (found.type === 'source') this.#sources.add(found.source)
      // Whoever knows the chunks had the time to say so.
      else if (found.round === 1 && this.#whole !== undefined) {
        this.#spawn(this.#whole.run(this.#stop.signal))
      }
    }
  }

  #onSource(source: Source): void {
    const { id, requestsMax, isUnlimited } = source
    this.#apply({ type: 'source-added', source: id, requestsMax, isUnlimited })
    this.#watch(source, [...this.#files.all.keys()])
    this.#tables.wake()
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
    const { onNotice } = this.#options
    const files = this.#files
    return new WholeFiles({
      fetchWhole,
      clock,
      log,
      sources: () => this.#sources.all,
      unknown: () => files.unknown(),
      wanted: file => files.get(file).wanted,
      onStart(file, { id }) {
        const { path } = files.get(file).wanted
        onNotice('info', `nobody tells the chunks of ${path}: it is fetched whole from ${id}`)
      },
      onBytes: (file, { id }, bytes) => files.gotWhole(file, id, bytes),
      onDiscarded: file => files.discardWhole(file),
      onTable: (file, table) => {
        this.#learn(file, table)
        this.#tables.wake()
      },
      onLie: (source, error) => this.#sources.ban(source.id, error),
    })
  }

  #learn(file: number, table: ChunkTable): void {
    this.#progressed()
    this.#know(file, table)
    for (const source of this.#sources.all) this.#watch(source, [file])
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
    const { wanted, partial, table } = this.#files.get(action.file)
    if (source === undefined || partial === undefined || table === undefined) return
    const request = this.#sources.begin(action)
    if (request === undefined) return
    const { digest, offset } = table.ref(index)
    try {
      const outcome = await fetchChunk({
        source,
        partial,
        buffers: this.#buffers,
        chunk: { root: wanted.root, index, offset, length, digest },
        signal: request.signal,
        onArrived: () => {
          request.ended()
          this.#apply({ source: action.source, file: action.file, index, type: 'chunk-arrived' })
        },
        locally: work => this.#locally(work),
      })
      if (outcome !== undefined) this.#fetched(action, outcome)
    } finally {
      request.ended()
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
    if (event.type !== 'chunk-bad') return this.#apply(event)
    this.#apply({ ...event, reason: this.#files.wrongBytes(file, event.reason) })
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
      if (this.#localWork > 0 || this.#limits.isWaiting) this.#progressed()
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
    if (!this.#sources.hadAny) return 'finding'
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
    if (!this.#sources.hadAny || !isKnown || nowMs - this.#noticeAtMs < noticeMs) return
    this.#noticeAtMs = nowMs
    const left = this.#request.files.length - this.#session.filesDone
    const what = left === 1 ? 'a file' : `${left} files`
    this.#options.onNotice('info', `nobody known serves what is missing of ${what}: waiting`)
  }

  #givenUp(): UnavailableError {
    const left = this.#request.files.length - this.#session.filesDone
    const why = this.#sources.hadAny ? 'nobody serves what is missing' : 'no source was found'
    return new UnavailableError(
      `${left} of ${this.#request.files.length} files are not whole: ${why}`,
      {
        hint: 'run the same pull again later: what was fetched is kept',
      },
    )
  }
}
