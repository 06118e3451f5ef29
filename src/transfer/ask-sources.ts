/**
 * One question to whoever may know: asks sources as they are found, several at a time, until one
 * gives an answer that proves itself. Who lies is banned; who has nothing is asked again next round.
 */

import { raceSignal } from '../core/async.ts'
import type { CID } from '../core/cid.ts'
import type { Clock } from '../core/clock.ts'
import {
  IntegrityError,
  isAbort,
  LimitError,
  messageOf,
  NotFoundError,
  ProtocolError,
  UnavailableError,
} from '../core/errors.ts'
import type { Logger } from '../core/log.ts'
import { second } from '../core/units.ts'
import type { FindOptions, Source, SourceFinder } from './source.ts'

/** A manifest of 64 MiB takes this long at 2 MiB/s; a source that is silent costs one place so long. */
export const answerMs = 30 * second
/** Silent ones must not keep us from asking those that answer. */
const asksInFlightMax = 16
/** Named in the message when nobody was found. */
const unreachedShown = 3

export interface AskDeps {
  readonly finder: SourceFinder
  readonly clock: Clock
  readonly log: Logger
}

export interface AskOptions extends FindOptions {
  readonly patienceMs: number
  readonly onNotice: (level: 'info' | 'warn', message: string) => void
}

export interface Question<T> {
  /** For messages: `the manifest bafy…`. */
  readonly what: string
  /** DHT keys to find sources by. */
  readonly keys: readonly CID[]
  /** Rejects with IntegrityError when the answer is not what was asked for. */
  ask(source: Source, signal: AbortSignal): Promise<T>
}

/** Rejects with NotFoundError when nobody answered within `patienceMs`. */
export async function askSources<T>(
  deps: AskDeps,
  question: Question<T>,
  options: AskOptions,
): Promise<T> {
  const asking = new Asking(deps, question, options)
  return asking.answer()
}

class Asking<T> {
  readonly #deps: AskDeps
  readonly #question: Question<T>
  readonly #options: AskOptions
  readonly #stop = new AbortController()
  readonly #signal: AbortSignal
  readonly #answer = Promise.withResolvers<T>()
  readonly #sources = new Set<Source>()
  #waiting: Source[] = []
  readonly #asked = new Set<Source>()
  /** Given peers, by their ids, and why nobody could ask them. */
  readonly #unreached = new Map<string, string>()

  constructor(deps: AskDeps, question: Question<T>, options: AskOptions) {
    this.#deps = deps
    this.#question = question
    this.#options = options
    this.#signal = AbortSignal.any([options.signal, this.#stop.signal])
  }

  async answer(): Promise<T> {
    const { clock } = this.#deps
    const { patienceMs, signal } = this.#options
    signal.throwIfAborted()
    const finding = this.#find().catch((error: unknown) => this.#answer.reject(error))
    const patience = clock.sleep(patienceMs, this.#signal).then(
      () => this.#answer.reject(this.#notFound()),
      () => undefined,
    )
    try {
      return await raceSignal(this.#answer.promise, signal)
    } finally {
      this.#stop.abort()
      await Promise.allSettled([finding, patience])
    }
  }

  async #find(): Promise<void> {
    const { keys } = this.#question
    const { peers } = this.#options
    const onUnreached = (peer: string, reason: string): void => {
      this.#unreached.set(peer, reason)
      this.#options.onUnreached?.(peer, reason)
    }
    const options = { peers, onUnreached, signal: this.#signal }
    for await (const found of this.#deps.finder.find(keys, options)) {
      if (found.type === 'source') {
        this.#sources.add(found.source)
        this.#unreached.delete(found.source.id)
      }
      const again = found.type === 'source' ? [found.source] : [...this.#sources]
      this.#waiting = [...new Set([...this.#waiting, ...again])]
      this.#askNext()
    }
  }

  #askNext(): void {
    while (this.#asked.size < asksInFlightMax && !this.#signal.aborted) {
      const source = this.#waiting.shift()
      if (source === undefined) return
      if (source.closed.aborted) this.#sources.delete(source)
      else if (!this.#asked.has(source)) void this.#askOne(source)
    }
  }

  async #askOne(source: Source): Promise<void> {
    this.#asked.add(source)
    try {
      const { clock } = this.#deps
      const work = (signal: AbortSignal): Promise<T> => this.#question.ask(source, signal)
      this.#answer.resolve(await withDeadline(clock, answerMs, this.#signal, work))
    } catch (error) {
      if (!this.#signal.aborted) this.#blame(source, error)
    } finally {
      this.#asked.delete(source)
      this.#askNext()
    }
  }

  #blame(source: Source, error: unknown): void {
    const { what } = this.#question
    if (isLie(error)) {
      this.#sources.delete(source)
      this.#options.onNotice('warn', `banned ${source.id}: ${error.message}`)
      source.ban(error)
    } else if (isNoAnswer(error)) {
      this.#deps.log.debug('no answer', { what, source: source.id, error: messageOf(error) })
    } else {
      this.#answer.reject(error)
    }
  }

  #notFound(): NotFoundError {
    const count = this.#sources.size
    const few = count === 0 ? 'no source was found' : 'the one source found does not have it'
    const asked = count > 1 ? `none of the ${count} sources found has it` : few
    const failed = [...this.#unreached].map(([peer, why]) => `; ${peer} was not reached: ${why}`)
    const more = failed.length > unreachedShown ? '; and others were not' : ''
    const told = failed.slice(0, unreachedShown).join('') + more
    return new NotFoundError(`${this.#question.what}: ${asked}${told}`, {
      hint:
        failed.length === 0
          ? 'check the reference, or name a peer that has it with --peer'
          : 'compare the address with the one that its own status shows, and see that its port is open',
    })
  }
}

/** The source broke the rules, or what it sent is not what was asked for. */
export function isLie(error: unknown): error is Error {
  return error instanceof ProtocolError || error instanceof IntegrityError
}

/** The source has nothing to say now; another may. */
export function isNoAnswer(error: unknown): boolean {
  return error instanceof UnavailableError || error instanceof LimitError || isAbort(error)
}

/** Runs `work` with a signal that aborts, as UnavailableError, after `ms` of the given clock. */
export async function withDeadline<T>(
  clock: Clock,
  ms: number,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const late = new AbortController()
  const inTime = new AbortController()
  const limit = async (): Promise<void> => {
    await clock.sleep(ms, AbortSignal.any([signal, inTime.signal]))
    late.abort(new UnavailableError('no answer in time'))
  }
  // Rejects when it is not needed any more.
  const limited = limit().catch(() => undefined)
  const inner = AbortSignal.any([signal, late.signal])
  try {
    return await raceSignal(work(inner), inner)
  } finally {
    inTime.abort()
    await limited
  }
}
