/**
 * A file of a hub while it is read through the gateway: fetched in the order in which readers want it, and
 * given to them as it comes. Nobody can check a part of it, so that its last bytes are given only when the
 * whole has the hub's hash: what is wrong never becomes a file. docs/spec/mirroring.md, section 8.
 */

import { mapLimit, raceSignal } from '../../core/async.ts'
import type { Clock } from '../../core/clock.ts'
import { IntegrityError, isAbort, messageOf, UnavailableError } from '../../core/errors.ts'
import { MiB, second } from '../../core/units.ts'
import type { NewFile } from '../../store/new-file.ts'
import type { Span } from '../../store/store.ts'
import type { OpenedFile } from '../gateway/opened-file.ts'
import { blockBytes, type HubPartial } from './hub-partial.ts'
import {
  isWanted,
  localFile,
  type MirrorFileDeps,
  type MirrorJob,
  openPartial,
  publish,
  readRange,
} from './file.ts'
import type { Work } from '../work.ts'

/** One request: what a reader waits for at the most before bytes of another place come. */
const requestBytes = 4 * MiB
const requestsAtOnce = 4
/** Clients pause and read the next range: it goes on for so long when the last reader has left. */
const lingerMs = 30 * second

export interface UpstreamFileDeps extends MirrorFileDeps {
  readonly store: MirrorFileDeps['store'] & {
    readSpan(
      root: NewFile['root'],
      span: Span,
      into: Uint8Array,
      options: { signal: AbortSignal },
    ): Promise<Uint8Array>
  }
  readonly work: Work
}

type State =
  | { readonly kind: 'coming'; partial: HubPartial | undefined }
  | { readonly kind: 'here'; readonly file: NewFile }
  | { readonly kind: 'failed'; readonly error: Error }

export class UpstreamFile {
  /** Settles when it is here or given up; never rejects. */
  readonly ended: Promise<NewFile | undefined>
  readonly #deps: UpstreamFileDeps
  readonly #job: Omit<MirrorJob, 'signal'>
  readonly #stop = new AbortController()
  /** Where each reader is. */
  readonly #readers = new Set<{ offset: number }>()
  #state: State = { kind: 'coming', partial: undefined }
  #changed = Promise.withResolvers<void>()
  #left: AbortController | undefined

  constructor(deps: UpstreamFileDeps, job: Omit<MirrorJob, 'signal'>) {
    this.#deps = deps
    this.#job = job
    this.ended = deps.work
      .run(signal => this.#run(signal), this.#stop.signal)
      .catch((error: unknown) => this.#fail(error))
  }

  /** False when who asks next needs another one. */
  get isUsable(): boolean {
    return this.#state.kind !== 'failed'
  }

  open(): OpenedFile {
    const reader = { offset: 0 }
    this.#readers.add(reader)
    this.#left?.abort()
    const isWhole = (): boolean => this.#state.kind === 'here'
    return {
      get isWhole() {
        return isWhole()
      },
      read: (span, into, signal) => {
        reader.offset = span.offset
        return this.#read(span, into, signal)
      },
      [Symbol.dispose]: () => {
        this.#readers.delete(reader)
        if (this.#readers.size === 0) this.#linger(this.#deps.clock)
      },
    }
  }

  async #read(span: Span, into: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
    for (;;) {
      signal.throwIfAborted()
      const state = this.#state
      if (state.kind === 'failed') throw state.error
      if (state.kind === 'here') return this.#readHere(state.file, span, { into, signal })
      const end = state.partial === undefined ? span.offset : this.#givenTo(state.partial, span)
      if (state.partial !== undefined && end > span.offset) {
        const length = Math.min(end - span.offset, into.length)
        const bytes = await state.partial.read(span.offset, length)
        into.set(bytes)
        return into.subarray(0, bytes.length)
      }
      await raceSignal(this.#changed.promise, signal)
    }
  }

  /** IntegrityError or NotFoundError when it changed or went: then it is fetched anew for who asks next. */
  async #readHere(
    { root }: NewFile,
    span: Span,
    { into, signal }: { readonly into: Uint8Array; readonly signal: AbortSignal },
  ): Promise<Uint8Array> {
    try {
      return await this.#deps.store.readSpan(root, span, into, { signal })
    } catch (error) {
      if (!isAbort(error)) this.#fail(error)
      throw error
    }
  }

  /** How far from the offset bytes may be given: those that are here, without the last block. */
  #givenTo({ held }: HubPartial, { offset, end }: Span): number {
    let block = Math.floor(offset / blockBytes)
    while (block < held.length - 1 && held.has(block)) block += 1
    return Math.min(end, block * blockBytes)
  }

  async #run(signal: AbortSignal): Promise<NewFile> {
    const job: MirrorJob = { ...this.#job, signal }
    const local = await localFile(this.#deps, job)
    const file = local ?? (await this.#fetch(job))
    this.#set({ kind: 'here', file })
    return file
  }

  async #fetch(job: MirrorJob): Promise<NewFile> {
    await this.#deps.store.checkSpace(job.folder, job.from.file.size)
    await using partial = await openPartial(job)
    this.#set({ kind: 'coming', partial })
    await this.#fetchAll(partial, job)
    const hashed = await this.#deps.pool.hashFile(partial.path, { signal: job.signal })
    if (await isWanted(job, hashed, partial.path)) {
      const file = await publish(this.#deps, job, partial, hashed)
      // Before the partial file is closed: nobody reads from it then.
      this.#set({ kind: 'here', file })
      return file
    }
    await partial.forgetAll()
    throw new IntegrityError(`${job.from.file.path}: the hub's bytes are not what it says they are`)
  }

  /** Some requests at a time, each for what is wanted most when it begins. */
  async #fetchAll(partial: HubPartial, job: MirrorJob): Promise<void> {
    const inFlight = new Set<number>()
    const next = (): { start: number; end: number } | undefined => this.#next(partial, inFlight)
    function* ranges(): Generator<{ start: number; end: number }> {
      for (let range = next(); range !== undefined; range = next()) yield range
    }
    const work = (range: { start: number; end: number }, signal: AbortSignal): Promise<void> =>
      this.#fetchRange(partial, { ...job, signal }, range)
    try {
      for await (const _ of mapLimit(ranges(), requestsAtOnce, work, job.signal)) continue
    } finally {
      await partial.record()
    }
  }

  async #fetchRange(
    partial: HubPartial,
    job: MirrorJob,
    range: { start: number; end: number },
  ): Promise<void> {
    let at = range.start
    await readRange(this.#deps, job, range, async bytes => {
      await partial.write(at, bytes)
      at += bytes.length
      await partial.wrote(range.start, at)
      this.#tell()
    })
  }

  /** From where a reader is, else from the start; taken blocks are marked in flight. */
  #next(
    { held, size }: HubPartial,
    inFlight: Set<number>,
  ): { start: number; end: number } | undefined {
    const isFree = (block: number): boolean => !held.has(block) && !inFlight.has(block)
    const froms = Array.from(this.#readers, ({ offset }) => Math.floor(offset / blockBytes))
    for (const from of [...froms, 0]) {
      let first = from
      while (first < held.length && !isFree(first)) first += 1
      if (first >= held.length) continue
      let last = first
      while (last < held.length && isFree(last) && (last - first) * blockBytes < requestBytes) {
        inFlight.add(last)
        last += 1
      }
      return { start: first * blockBytes, end: Math.min(size, last * blockBytes) }
    }
    return undefined
  }

  #fail(error: unknown): undefined {
    const isStopped = isAbort(error) || this.#stop.signal.aborted
    const reason = isStopped ? 'nobody reads it any more' : messageOf(error)
    if (!isStopped) this.#deps.log.warn('not had from the hub', { error: reason })
    const what = `${this.#job.from.file.path}: ${reason}`
    this.#set({ kind: 'failed', error: new UnavailableError(what, { cause: error }) })
    return undefined
  }

  #set(state: State): void {
    this.#state = state
    this.#tell()
  }

  /** Whoever waits looks again. */
  #tell(): void {
    this.#changed.resolve()
    this.#changed = Promise.withResolvers<void>()
  }

  #linger(clock: Clock): void {
    const left = new AbortController()
    this.#left = left
    clock.sleep(lingerMs, left.signal).then(
      () => this.#stop.abort(new DOMException('nobody reads it any more', 'AbortError')),
      // Somebody came.
      () => undefined,
    )
  }
}
