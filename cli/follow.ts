/** A long operation of the daemon, followed to its end: progress shown, Ctrl-C asked about, errors thrown. */

import { createInterface } from 'node:readline'
import type { AdoptedEvent } from '../src/api/adoption.ts'
import type { Client } from '../src/api/client.ts'
import type { ErrorBody, OperationEvent, OperationResult } from '../src/api/contract.ts'
import { exitCodes, messageOf } from '../src/core/errors.ts'
import { second } from '../src/core/units.ts'
import type { Context } from './context.ts'
import { shortId } from './text.ts'

export interface FollowOptions {
  /** On Ctrl-C leave the operation running, without asking. */
  readonly detach: boolean
  /** To follow what runs was the wish, not an accident. */
  readonly attach?: boolean
  /** How one model of an adoption is shown. */
  readonly onAdopted?: (event: AdoptedEvent) => void
}

type Event = Exclude<OperationEvent, ErrorBody>

/** The daemon only notes that it is wanted: an answer that takes longer does not come. */
const cancelTimeoutMs = 10 * second

export const detachAbout = 'on Ctrl-C leave it running in the daemon, without asking'

/**
 * Shows the operation's events until its result, which is returned. Undefined when the user left it
 * running: that is said, and the exit code tells that there is no result.
 */
export async function follow(
  context: Context,
  events: (client: Client, signal: AbortSignal) => AsyncIterable<Event>,
  options: FollowOptions,
): Promise<OperationResult | undefined> {
  const client = await context.client()
  return new Follower(context, client, options).run(events)
}

class Follower {
  readonly #context: Context
  readonly #client: Client
  readonly #options: FollowOptions
  /** Ends our listening, not the operation. */
  readonly #leave = new AbortController()
  readonly #ended = new AbortController()
  #id: string | undefined
  /** What the user chose before the daemon had told us which operation it is. */
  #wanted: 'cancel' | undefined
  #detached = false

  constructor(context: Context, client: Client, options: FollowOptions) {
    this.#context = context
    this.#client = client
    this.#options = options
  }

  async run(
    events: (client: Client, signal: AbortSignal) => AsyncIterable<Event>,
  ): Promise<OperationResult | undefined> {
    const { interrupts, output } = this.#context
    using _ = interrupts.handle(times => this.#interrupted(times))
    try {
      for await (const event of events(this.#client, this.#leave.signal)) {
        const result = this.#take(event)
        if (result !== undefined) return result
      }
      throw new Error('the daemon ended the operation without a result')
    } catch (error) {
      if (!this.#detached) throw error
      this.#sayDetached()
      return undefined
    } finally {
      this.#ended.abort()
      output.endProgress()
    }
  }

  #take(event: Event): OperationResult | undefined {
    const { output } = this.#context
    switch (event.type) {
      case 'operation':
        this.#id = event.id
        output.object(event)
        if (event.attached && this.#options.attach !== true)
          output.note('it is running already; following it')
        if (this.#wanted === 'cancel') this.#cancel()
        return undefined
      case 'progress':
        if (!output.json) output.progress(event)
        else if (!output.quiet) output.object(event)
        return undefined
      case 'notice':
        if (output.json) output.object(event)
        else if (event.level === 'warn') output.warn(event.message)
        else output.note(event.message)
        return undefined
      case 'adopted':
        this.#options.onAdopted?.(event)
        return undefined
      case 'seeded':
      case 'pulled':
      case 'verified':
      case 'adoption':
      case 'mirrored':
      case 'imported':
        return event
    }
  }

  #interrupted(times: number): void {
    if (this.#options.detach) this.#detach()
    else if (times === 1 && isInteractive()) this.#ask()
    else this.#cancel()
  }

  /** Without an answer, as at the end of input, nothing is lost by leaving it. */
  #ask(): void {
    const { output } = this.#context
    output.ask('stop it, or leave it running in the daemon? [s]top, [l]eave:')
    let answer = ''
    const prompt = createInterface({ input: process.stdin, terminal: false })
    prompt.once('line', line => {
      answer = line.trim().toLowerCase()
      prompt.close()
    })
    prompt.once('close', () => {
      if (this.#ended.signal.aborted) return
      if (answer === '') output.aside('\n')
      if (answer.startsWith('s')) this.#cancel()
      else this.#detach()
    })
    // An open prompt would keep the command alive.
    this.#ended.signal.addEventListener('abort', () => prompt.close(), { once: true })
  }

  #detach(): void {
    this.#detached = true
    this.#leave.abort()
  }

  /** The operation then ends with an error, which ends us. */
  #cancel(): void {
    if (this.#id === undefined) {
      this.#wanted = 'cancel'
      return
    }
    const { output, interrupts } = this.#context
    output.note('stopping')
    this.#client.cancel(this.#id, AbortSignal.timeout(cancelTimeoutMs)).catch((error: unknown) => {
      output.warn(`the daemon does not answer: ${messageOf(error)}`)
      interrupts.abort()
      this.#leave.abort(interrupts.signal.reason)
    })
  }

  #sayDetached(): void {
    const { output } = this.#context
    const id = this.#id ?? ''
    output.note(
      `it goes on in the daemon; to follow it: commonweight attach ${shortId(id)}`.trimEnd(),
    )
    output.object({ type: 'detached', id })
    this.#context.exitCode = exitCodes.interrupted
  }
}

function isInteractive(): boolean {
  return process.stdin.isTTY && process.stderr.isTTY
}
