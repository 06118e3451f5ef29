/**
 * The main thread's end of one data-plane thread, and of the lanes in it. A thread that dies takes its
 * lanes with it, and the next lane starts another one.
 */

import type { Worker } from 'node:worker_threads'
import { messageOf, UnavailableError } from '../core/errors.ts'
import type { Logger } from '../core/log.ts'
import { receiveError, sendError } from '../core/sent-error.ts'
import { second } from '../core/units.ts'
import { encodeChunkAsk } from '../wire/messages.ts'
import type { InFlight } from './in-flight.ts'
import type { FromThread, ToThread } from './jobs.ts'
import type { ChunkJob, JobOptions, Lane, LaneSpec } from './plane-lane.ts'

/** For goodbyes, and for the writes of a slow disk. */
const stopMs = 5 * second
const threadName = 'a data-plane thread'

interface Job {
  readonly lane: OpenLane
  readonly settled: PromiseWithResolvers<void>
  readonly onChecked: (() => void) | undefined
}

export interface ThreadDeps {
  readonly start: () => Worker
  readonly inFlight: InFlight
  readonly log: Logger
}

export class PlaneThread {
  readonly #deps: ThreadDeps
  readonly #lanes = new Map<number, OpenLane>()
  readonly #jobs = new Map<number, Job>()
  #worker: Worker | undefined
  #unsent: ToThread[] = []
  #nextId = 1
  #exited: Promise<void> = Promise.resolve()
  #isEnding = false

  constructor(deps: ThreadDeps) {
    this.#deps = deps
  }

  get lanes(): number {
    return this.#lanes.size
  }

  lanesTo(peer: string): number {
    let count = 0
    for (const lane of this.#lanes.values()) if (lane.peer === peer) count += 1
    return count
  }

  async openLane({ peer, addresses }: LaneSpec, signal: AbortSignal): Promise<Lane> {
    signal.throwIfAborted()
    if (this.#isEnding) throw new UnavailableError('the data plane is closed')
    const id = this.#newId()
    const lane = new OpenLane(peer, {
      run: (job, options) => this.#run(id, lane, { job, options }),
      close: reason => this.#post({ kind: 'close', lane: id, reason: sendError(reason) }),
    })
    this.#lanes.set(id, lane)
    // Nothing but these two crosses threads, whatever else the caller's objects hold.
    const places = addresses.map(({ host, port }) => ({ host, port }))
    this.#post({ kind: 'open', lane: id, peer, addresses: places })
    const onAbort = (): void => lane.close(signal.reason as Error)
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      await lane.opened.promise
      return lane
    } finally {
      signal.removeEventListener('abort', onAbort)
    }
  }

  /** Resolves when the thread is gone and every job settled. */
  async end(): Promise<void> {
    this.#isEnding = true
    const worker = this.#worker
    if (worker === undefined) return
    worker.ref()
    this.#post({ kind: 'stop' })
    const late = setTimeout(() => void worker.terminate(), stopMs)
    await this.#exited
    clearTimeout(late)
  }

  #run(
    laneId: number,
    lane: OpenLane,
    { job, options }: { job: ChunkJob; options: JobOptions },
  ): Promise<void> {
    const { root, index, length, digest, fd, offset } = job
    const { signal, onChecked } = options
    return this.#deps.inFlight.run(length, signal, async () => {
      signal.throwIfAborted()
      if (lane.closed.aborted) throw lane.closed.reason as Error
      const id = this.#newId()
      const settled = Promise.withResolvers<void>()
      this.#jobs.set(id, { lane, settled, onChecked })
      const onAbort = (): void => this.#post({ kind: 'cancel', job: id })
      signal.addEventListener('abort', onAbort, { once: true })
      const ask = encodeChunkAsk({ root, index })
      // A copy: of a view of the chunk table, the whole table would be sent along.
      const copy = Uint8Array.from(digest)
      this.#post({ kind: 'fetch', lane: laneId, job: id, ask, length, digest: copy, fd, offset })
      try {
        await settled.promise
      } catch (error) {
        signal.throwIfAborted()
        throw error
      } finally {
        signal.removeEventListener('abort', onAbort)
      }
    })
  }

  #newId(): number {
    const id = this.#nextId
    this.#nextId += 1
    return id
  }

  /** What is said in one turn goes out as one message. */
  #post(message: ToThread): void {
    this.#worker ??= this.#open()
    this.#unsent.push(message)
    if (this.#unsent.length === 1) queueMicrotask(() => this.#flush())
  }

  #flush(): void {
    const messages = this.#unsent
    this.#unsent = []
    if (messages.length > 0) this.#worker?.postMessage(messages)
  }

  #open(): Worker {
    const worker = this.#deps.start()
    let failure: unknown
    worker.on('message', (messages: readonly FromThread[]) => {
      for (const message of messages) this.#take(message)
    })
    worker.on('error', error => {
      failure = error
      this.#deps.log.error(`${threadName} failed`, { error: messageOf(error) })
    })
    this.#exited = new Promise(resolve => {
      // Not before: until then, the system may still be writing to our files.
      worker.on('exit', () => {
        this.#fail(failure)
        resolve()
      })
    })
    // An idle plane keeps no process alive.
    worker.unref()
    return worker
  }

  #take(message: FromThread): void {
    switch (message.kind) {
      case 'opened':
        this.#lanes.get(message.lane)?.isOpen(message.requestsMax)
        return
      case 'closed': {
        const lane = this.#lanes.get(message.lane)
        this.#lanes.delete(message.lane)
        lane?.isClosed(receiveError(message.reason, threadName))
        return
      }
      case 'checked': {
        const job = this.#jobs.get(message.job)
        if (job === undefined) return
        job.lane.bytesReceived = message.bytesReceived
        job.onChecked?.()
        return
      }
      case 'done': {
        const job = this.#jobs.get(message.job)
        this.#jobs.delete(message.job)
        if (message.error === undefined) job?.settled.resolve()
        else job?.settled.reject(receiveError(message.error, threadName))
      }
    }
  }

  #fail(cause: unknown): void {
    const reason = new UnavailableError(`${threadName} ended`, { cause })
    const [lanes, jobs] = [[...this.#lanes.values()], [...this.#jobs.values()]]
    this.#worker = undefined
    this.#unsent = []
    this.#lanes.clear()
    this.#jobs.clear()
    for (const lane of lanes) lane.isClosed(reason)
    for (const job of jobs) job.settled.reject(reason)
  }
}

interface LaneActs {
  run(job: ChunkJob, options: JobOptions): Promise<void>
  close(reason: Error): void
}

class OpenLane implements Lane {
  readonly peer: string
  readonly opened = Promise.withResolvers<void>()
  readonly #acts: LaneActs
  readonly #closing = new AbortController()
  requestsMax = 0
  bytesReceived = 0
  inFlight = 0

  constructor(peer: string, acts: LaneActs) {
    this.peer = peer
    this.#acts = acts
    // Whoever opens it hears of it.
    this.opened.promise.catch(() => undefined)
  }

  get closed(): AbortSignal {
    return this.#closing.signal
  }

  async fetchChunk(job: ChunkJob, options: JobOptions): Promise<void> {
    options.signal.throwIfAborted()
    if (this.closed.aborted) throw this.closed.reason as Error
    this.inFlight += 1
    try {
      await this.#acts.run(job, options)
    } finally {
      this.inFlight -= 1
    }
  }

  close(reason: Error): void {
    if (this.closed.aborted) return
    this.#acts.close(reason)
    this.isClosed(reason)
  }

  isOpen(requestsMax: number): void {
    this.requestsMax = requestsMax
    this.opened.resolve()
  }

  isClosed(reason: Error): void {
    if (this.closed.aborted) return
    this.opened.reject(reason)
    this.#closing.abort(reason)
  }
}
