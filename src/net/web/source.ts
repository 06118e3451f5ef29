/**
 * Source of chunks: a web server with the files of one model. It holds everything until it says that it
 * does not, and is left alone for a while when it is busy or gone. It knows nothing of manifests and
 * chunk tables: those come from peers, or the files make them (docs/spec/web-seeds.md).
 */

import type { CID } from '../../core/cid.ts'
import type { Clock } from '../../core/clock.ts'
import { LimitError, UnavailableError } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import type { Range } from '../../core/ranges.ts'
import { minute, second } from '../../core/units.ts'
import type {
  ChunkOptions,
  ChunkRequest,
  HaveUpdate,
  Source,
  SourceOptions,
  WatchedFile,
} from '../../transfer/source.ts'
import { type WebAnswer, type WebClient, webConnectionsMax } from './client.ts'

/** After an answer that asks for patience, or none; doubles while that goes on. */
const pauseMsFirst = 2 * second
const pauseMsMax = minute
/** A Retry-After is honoured up to this: beyond it a server may as well say no. */
const retryMsMax = 10 * minute

export interface SeededFile {
  /** Path in the manifest, for messages. */
  readonly path: string
  readonly root: CID
  readonly size: number
  readonly url: URL
}

export interface WebSourceDeps {
  readonly client: Pick<WebClient, 'fetchRange'>
  readonly clock: Clock
  readonly log: Logger
  /** Worth a line on the terminal. */
  readonly onNotice: (level: 'info' | 'warn', message: string) => void
}

interface HeldFile extends SeededFile {
  /** start: it gives whole files only, so the first chunk can be had. */
  held: 'all' | 'start' | 'none'
}

interface Watch {
  readonly files: ReadonlyMap<string, WatchedFile>
  readonly onHave: (update: HaveUpdate) => void
}

export class WebSource implements Source {
  readonly id: string
  readonly kind = 'web-seed'
  /** A request takes a connection; more would only wait for one. */
  readonly requestsMax = webConnectionsMax
  readonly #deps: WebSourceDeps
  readonly #files: ReadonlyMap<string, HeldFile>
  readonly #watches = new Set<Watch>()
  readonly #closed = new AbortController()
  #isPaused = false
  #pauseMs = pauseMsFirst
  #saidMissing = false
  #saidWhole = false
  #saidPaused = false

  constructor(deps: WebSourceDeps, id: string, files: Iterable<SeededFile>) {
    this.id = id
    this.#deps = deps
    this.#files = new Map(
      Array.from(files, file => [file.root.toString(), { ...file, held: 'all' }]),
    )
  }

  get closed(): AbortSignal {
    return this.#closed.signal
  }

  watch(
    files: readonly WatchedFile[],
    onHave: (update: HaveUpdate) => void,
    { signal }: SourceOptions,
  ): void {
    if (signal.aborted || this.closed.aborted) return
    const watch = {
      files: new Map(files.map(file => [file.root.toString(), file])),
      onHave,
    }
    this.#watches.add(watch)
    signal.addEventListener('abort', () => this.#watches.delete(watch), { once: true })
    for (const { root, chunks } of files) {
      const gained = this.#heldOf(this.#files.get(root.toString()), chunks)
      if (gained.length > 0) onHave({ root, gained, lost: [] })
    }
  }

  fetchManifest(): Promise<never> {
    return Promise.reject(new UnavailableError('a web seed has no manifests'))
  }

  fetchTable(): Promise<never> {
    return Promise.reject(new UnavailableError('a web seed has no chunk tables'))
  }

  async fetchChunk(request: ChunkRequest, options: ChunkOptions): Promise<Uint8Array> {
    const { signal } = options
    signal.throwIfAborted()
    const { root, offset, length } = request
    const file = this.#files.get(root.toString())
    if (this.closed.aborted) throw new UnavailableError('it is not asked any more')
    if (file === undefined || file.held === 'none') throw new UnavailableError('not there')
    if (this.#isPaused) throw new LimitError('it is left alone for a while')
    const ask = { offset, length, size: file.size }
    const inner = AbortSignal.any([signal, this.closed])
    let answer: WebAnswer
    try {
      answer = await this.#deps.client.fetchRange(file.url, ask, { ...options, signal: inner })
    } catch (error) {
      signal.throwIfAborted()
      if (inner.aborted) throw new UnavailableError('it is not asked any more', { cause: error })
      if (error instanceof UnavailableError) this.#pause(error.message, undefined)
      throw error
    }
    return this.#take(answer, file)
  }

  ban(reason: Error): void {
    this.close(reason)
  }

  /** Nothing is asked of it any more. */
  close(reason: Error): void {
    this.#closed.abort(reason)
    this.#watches.clear()
  }

  #take(answer: WebAnswer, file: HeldFile): Uint8Array {
    switch (answer.type) {
      case 'bytes':
        this.#pauseMs = pauseMsFirst
        this.#saidPaused = false
        return answer.bytes
      case 'missing':
        this.#miss(file, answer.why)
        throw new UnavailableError(answer.why)
      case 'no-ranges':
        this.#noRanges(file)
        throw new UnavailableError('it gives whole files only')
      case 'busy':
        this.#pause(answer.why, answer.retryMs)
        throw new LimitError(answer.why)
      case 'failing':
        this.#pause(answer.why, undefined)
        throw new UnavailableError(answer.why)
    }
  }

  #miss(file: HeldFile, why: string): void {
    const { path } = file
    this.#deps.log.info('a web seed does not have a file', { source: this.id, path, why })
    if (!this.#saidMissing) {
      this.#deps.onNotice('warn', `the web seed ${this.id} does not serve ${path}: ${why}`)
      this.#saidMissing = true
    }
    this.#change(file, 'none')
  }

  /** What a first try with a server made for a moment comes to. */
  #noRanges(file: HeldFile): void {
    const { id } = this
    this.#deps.log.info('a web seed has no ranges', { source: id, path: file.path })
    if (!this.#saidWhole) {
      const why = 'gives whole files only, no byte ranges: of little use beside peers'
      this.#deps.onNotice('warn', `the web seed ${id} ${why}`)
      this.#saidWhole = true
    }
    this.#change(file, 'start')
  }

  #change(file: HeldFile, held: HeldFile['held']): void {
    if (file.held === held || file.held === 'none') return
    const before = { ...file }
    file.held = held
    if (!this.#isPaused) this.#tell([[before, file]])
  }

  /**
   * It holds nothing for a while, and then what it held before: so nobody waits for it, and it is not
   * blamed for what it does not serve meanwhile. Requests that fail together are one failure.
   */
  #pause(why: string, retryMs: number | undefined): void {
    if (this.#isPaused || this.closed.aborted) return
    const ms = Math.min(retryMsMax, Math.max(this.#pauseMs, retryMs ?? 0))
    this.#pauseMs = Math.min(pauseMsMax, this.#pauseMs * 2)
    this.#deps.log.info('a web seed is left alone', { source: this.id, ms, why })
    if (!this.#saidPaused) {
      this.#deps.onNotice('info', `the web seed ${this.id} is asked again later: ${why}`)
      this.#saidPaused = true
    }
    const files = [...this.#files.values()]
    this.#tell(files.map(file => [file, undefined]))
    this.#isPaused = true
    this.#deps.clock.sleep(ms, this.closed).then(
      () => {
        this.#isPaused = false
        this.#tell(files.map(file => [undefined, file]))
      },
      // Closed meanwhile.
      () => undefined,
    )
  }

  /** What is held of each file, before and now; undefined is nothing. */
  #tell(changes: readonly (readonly [HeldFile | undefined, HeldFile | undefined])[]): void {
    for (const { files, onHave } of this.#watches) {
      for (const [before, after] of changes) {
        const watched = files.get((before ?? after)?.root.toString() ?? '')
        if (watched === undefined) continue
        const { root, chunks } = watched
        const lost = this.#heldOf(before, chunks)
        const gained = this.#heldOf(after, chunks)
        if (lost.length + gained.length > 0) onHave({ root, gained, lost })
      }
    }
  }

  #heldOf(file: HeldFile | undefined, chunks: number): Range[] {
    if (file === undefined || this.#isPaused || file.held === 'none' || chunks === 0) return []
    return [[0, file.held === 'all' ? chunks : 1]]
  }
}
