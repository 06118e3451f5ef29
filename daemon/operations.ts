/**
 * The long operations of a daemon: seed, pull, mirror, verify, adopt. They belong to the daemon and not to the command
 * that asked: the command may go and come back by id, or by asking the same again.
 */

import type { Node } from '../src/node.ts'
import type {
  ErrorBody,
  OperationEvent,
  OperationRequest,
  OperationResult,
  OperationSummary,
  MirrorRequest,
  PullRequest,
} from '../src/api/contract.ts'
import type { Clock } from '../src/core/clock.ts'
import type { Logger } from '../src/core/log.ts'
import {
  CommonweightError,
  isAbort,
  LimitError,
  messageOf,
  NotFoundError,
  UnavailableError,
} from '../src/core/errors.ts'
import { hour } from '../src/core/units.ts'
import { errorBody } from './error-body.ts'
import { EventLog } from './event-log.ts'

/** Each running one holds files and memory; more wait better in the user's own queue. */
const runningMax = 64
/** Finished ones are kept for a command that comes back for the result. */
const finishedMax = 100
const finishedKeptMs = hour
/** Of the ended ones a status shows so many: what a person may have missed. */
const endedShown = 5

export interface OperationsDeps {
  readonly node: Pick<Node, 'adopt' | 'seed' | 'pull' | 'verify' | 'mirror' | 'import' | 'connect'>
  readonly clock: Clock
  readonly log: Logger
  /** A new id, unique for the life of the daemon. */
  readonly newId: () => string
}

export interface Attachment {
  readonly id: string
  /** True when it was running before it was asked for. */
  readonly attached: boolean
  /** From what is known now to the end; ends early, without a last event, when the signal aborts. */
  events(signal: AbortSignal): AsyncIterable<OperationEvent>
}

interface Operation {
  readonly id: string
  readonly request: OperationRequest
  readonly sameness: string
  readonly startedAtMs: number
  readonly events: EventLog
  readonly stop: AbortController
  state: OperationSummary['state']
  finishedAtMs: number
  settled: Promise<void>
}

export class Operations {
  readonly #deps: OperationsDeps
  /** In the order they were started. */
  readonly #all = new Map<string, Operation>()
  #closing = false

  constructor(deps: OperationsDeps) {
    this.#deps = deps
  }

  /** Starts what is asked, or attaches to the same request when it is running already. */
  start(request: OperationRequest): Attachment {
    this.#forgetOld()
    const sameness = samenessOf(request)
    const running = this.#running()
    const same = running.find(operation => operation.sameness === sameness)
    if (same !== undefined) {
      this.#addPeers(same, request)
      return attachmentOf(same, true)
    }
    if (this.#closing) throw stopping()
    if (running.length >= runningMax) {
      throw new LimitError(`${runningMax} operations are running, which is the most at a time`, {
        hint: 'wait for one to end, or stop one: commonweight attach ID, then Ctrl-C',
      })
    }
    const operation = this.#create(request, sameness)
    operation.settled = this.#run(operation)
    return attachmentOf(operation, false)
  }

  attach(id: string): Attachment {
    return attachmentOf(this.#find(id), true)
  }

  /** Ends an operation for good: a cancelled pull is not resumed. Nothing to do when it has ended. */
  cancel(id: string): void {
    this.#find(id).stop.abort(new DOMException('the operation was cancelled', 'AbortError'))
  }

  summary(id: string): OperationSummary {
    return summaryOf(this.#find(id))
  }

  /** The running ones and those that ended lately, oldest first. */
  list(): OperationSummary[] {
    this.#forgetOld()
    return [...this.#all.values()].map(summaryOf)
  }

  /** For a status: all that run, and the few that ended last. */
  recent(): OperationSummary[] {
    const all = this.list()
    const ended = all.filter(({ state }) => state !== 'running').slice(-endedShown)
    return all.filter(summary => summary.state === 'running' || ended.includes(summary))
  }

  /** Takes nothing new: the daemon is stopping, and its node ends what runs. */
  close(): void {
    this.#closing = true
  }

  async settled(): Promise<void> {
    await Promise.all(this.#running().map(operation => operation.settled))
  }

  #create(request: OperationRequest, sameness: string): Operation {
    const { clock, newId } = this.#deps
    const stop = new AbortController()
    const operation: Operation = {
      id: newId(),
      request,
      sameness,
      startedAtMs: clock.now(),
      events: new EventLog(clock),
      stop,
      state: 'running',
      finishedAtMs: 0,
      settled: Promise.resolve(),
    }
    this.#all.set(operation.id, operation)
    return operation
  }

  async #run(operation: Operation): Promise<void> {
    const { log, clock } = this.#deps
    const fields = { id: operation.id, target: targetOf(operation.request) }
    log.info(`${operation.request.kind} started`, fields)
    let last: OperationResult | ErrorBody
    try {
      last = await this.#perform(operation)
      operation.state = 'done'
      log.info(`${operation.request.kind} done`, fields)
    } catch (thrown) {
      // Every error ends here: the operation is nobody's call, so its last event is where it goes.
      const error = this.#reasonOf(operation, thrown)
      last = errorBody(error)
      operation.state = isAbort(error) ? 'cancelled' : 'failed'
      if (isExpected(error))
        log.info(`${operation.request.kind} ended: ${messageOf(error)}`, fields)
      else log.error(`${operation.request.kind} failed by a bug`, { ...fields, error })
    }
    operation.finishedAtMs = clock.monotonic()
    operation.events.finish(last)
  }

  /** A node that closes aborts what runs; whoever follows is told why, not that somebody cancelled. */
  #reasonOf(operation: Operation, thrown: unknown): unknown {
    const byNode = this.#closing && isAbort(thrown) && !operation.stop.signal.aborted
    return byNode ? stopping(operation) : thrown
  }

  #perform({ request, stop, events }: Operation): Promise<OperationResult> {
    const { node } = this.#deps
    const options = {
      signal: stop.signal,
      onEvent: events.add.bind(events),
    }
    switch (request.kind) {
      case 'seed':
        return node.seed(request, options)
      case 'pull':
        return node.pull(request, options)
      case 'verify':
        return node.verify(request, options)
      case 'adopt':
        return node.adopt(request, options)
      case 'mirror':
        return node.mirror(request, options)
      case 'import':
        return node.import(request, options)
    }
  }

  /** Who asks for a running pull and names a peer wants that peer used: connected is found. */
  #addPeers(operation: Operation, request: OperationRequest): void {
    if (request.kind !== 'pull' || operation.request.kind !== 'pull') return
    const known = operation.request.peers
    for (const peer of request.peers.filter(address => !known.includes(address))) {
      void this.#connect(operation, peer)
    }
  }

  async #connect(operation: Operation, peer: string): Promise<void> {
    try {
      await this.#deps.node.connect(peer, operation.stop.signal)
    } catch (error) {
      const message = `no connection to ${peer}: ${messageOf(error)}`
      operation.events.add({ type: 'notice', level: 'warn', message })
    }
  }

  #running(): Operation[] {
    return [...this.#all.values()].filter(operation => operation.state === 'running')
  }

  #find(id: string): Operation {
    this.#forgetOld()
    const operation = this.#all.get(id)
    if (operation !== undefined) return operation
    throw new NotFoundError(`no operation ${id}`, {
      hint: 'it may have ended long ago, or with the last daemon; commonweight operations lists those that are known',
    })
  }

  #forgetOld(): void {
    const finished = [...this.#all.values()].filter(operation => operation.state !== 'running')
    const now = this.#deps.clock.monotonic()
    for (const [index, operation] of finished.entries()) {
      const tooMany = finished.length - index > finishedMax
      const tooOld = now - operation.finishedAtMs > finishedKeptMs
      if (tooMany || tooOld) this.#all.delete(operation.id)
    }
  }
}

/** Starts the pulls again that the last daemon did not end. */
export function resumePulls(
  operations: Operations,
  pulls: readonly (PullRequest | MirrorRequest)[],
  log: Logger,
): void {
  for (const request of pulls) {
    try {
      operations.start(request)
    } catch (error) {
      if (!(error instanceof CommonweightError)) throw error
      log.warn(`not resumed now: ${error.message}`, { ref: request.ref })
    }
  }
}

/** For what is asked of a daemon that is stopping, or ended by that. */
export function stopping(ended?: Pick<Operation, 'request'>): UnavailableError {
  const kind = ended?.request.kind
  const goesOn = kind === 'pull' || kind === 'mirror'
  const hint = goesOn
    ? `the ${kind} goes on when the daemon starts again`
    : 'ask again when it has started anew'
  return new UnavailableError('the daemon is stopping', { hint })
}

function isExpected(error: unknown): boolean {
  return error instanceof CommonweightError || isAbort(error)
}

function attachmentOf(operation: Operation, attached: boolean): Attachment {
  const { id, events } = operation
  return {
    id,
    attached,
    async *events(signal) {
      yield { type: 'operation', id, attached }
      yield* events.read(signal)
    },
  }
}

/** Two requests with equal text do the same work; how long to look and whom to ask do not matter. */
function samenessOf(request: OperationRequest): string {
  switch (request.kind) {
    case 'seed':
      return JSON.stringify([request.kind, request.paths.toSorted(), request.name])
    case 'pull': {
      const { kind, ref, to, hfCache, include, exclude, seed } = request
      const folders = [to ?? null, hfCache ?? null]
      return JSON.stringify([kind, ref, folders, include.toSorted(), exclude.toSorted(), seed])
    }
    case 'verify':
      return JSON.stringify([request.kind, request.target])
    case 'adopt': {
      const { kind, hf, ollama, lmStudio, include, exclude, dryRun, pin, watch } = request
      const lists = [hf, ollama, lmStudio, include, exclude].map(list => list.toSorted())
      return JSON.stringify([kind, lists, dryRun, pin, watch ?? null])
    }
    case 'import': {
      const { kind, path, source, upstream, allowGated, token } = request
      return JSON.stringify([
        kind,
        path,
        source ?? null,
        upstream ?? null,
        allowGated,
        token ?? null,
      ])
    }
    case 'mirror': {
      const { kind, ref, to, include, exclude, upstream, allowGated, seed, token } = request
      // What one token may not have another may.
      const wishes = [include.toSorted(), exclude.toSorted(), allowGated, seed, token ?? null]
      return JSON.stringify([kind, ref, to ?? null, upstream ?? null, ...wishes])
    }
  }
}

function targetOf(request: OperationRequest): string {
  switch (request.kind) {
    case 'seed':
      return request.name ?? request.paths[0] ?? ''
    case 'pull':
    case 'mirror':
      return request.ref
    case 'import':
      return request.path
    case 'verify':
      return request.target ?? 'everything'
    case 'adopt':
      return [...request.hf, ...request.ollama, ...request.lmStudio].join(', ')
  }
}

function summaryOf({ id, request, state, startedAtMs, events }: Operation): OperationSummary {
  return {
    type: 'operation',
    id,
    kind: request.kind,
    target: targetOf(request),
    state,
    startedAtMs,
    progress: events.progress,
    error: state === 'failed' ? (events.error?.message ?? null) : null,
  }
}
