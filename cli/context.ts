/** What a verb gets to work with: output, the home, the daemon, Ctrl-C. Made when used: help needs none. */

import { resolve } from 'node:path'
import type { Command } from 'commander'
import type { Client } from '../src/api/client.ts'
import { defaultHome, type HomePaths, homePaths } from '../src/api/home.ts'
import { type Clock, systemClock } from '../src/core/clock.ts'
import { InvalidInputError } from '../src/core/errors.ts'
import { Interrupts } from './interrupts.ts'
import type { Output } from './output.ts'

export interface GlobalFlags {
  readonly home: string | undefined
  readonly json: boolean
  readonly quiet: boolean
  readonly color: boolean
}

export interface ContextDeps {
  readonly flags: () => GlobalFlags
  readonly output: (flags: GlobalFlags) => Output
  readonly defineVerb: (command: Command) => Promise<void>
  readonly cwd: string
}

export class Context implements Disposable {
  readonly #deps: ContextDeps
  #output: Output | undefined
  #interrupts: Interrupts | undefined
  readonly clock: Clock = systemClock
  /** What the command ends with unless it throws. */
  exitCode = 0

  constructor(deps: ContextDeps) {
    this.#deps = deps
  }

  get flags(): GlobalFlags {
    return this.#deps.flags()
  }

  get output(): Output {
    this.#output ??= this.#deps.output(this.flags)
    return this.#output
  }

  get paths(): HomePaths {
    const { home = defaultHome() } = this.flags
    if (home === '') throw new InvalidInputError('--home needs a folder')
    return homePaths(this.resolve(home))
  }

  get interrupts(): Interrupts {
    this.#interrupts ??= new Interrupts(process)
    return this.#interrupts
  }

  /** Aborts when the user interrupts and the verb does not handle that itself. */
  get signal(): AbortSignal {
    return this.interrupts.signal
  }

  /** A path as the user meant it: relative to where they stand. */
  resolve(path: string): string {
    // An unset variable in a script would otherwise mean the current folder.
    if (path === '')
      throw new InvalidInputError('a path is empty', { hint: 'write . for this folder' })
    return resolve(this.#deps.cwd, path)
  }

  /** Gives a verb's command its arguments, flags and help; for verbs about verbs. */
  defineVerb(command: Command): Promise<void> {
    return this.#deps.defineVerb(command)
  }

  /** The daemon of this home; starts one in the background when none runs, and says so. */
  async client(): Promise<Client> {
    const running = await this.runningClient()
    if (running !== undefined) return running
    const { paths, output } = this
    const { startDaemon } = await import('./daemon-process.ts')
    output.note(`starting a daemon on ${paths.home} (commonweight stop ends it)`)
    return startDaemon(paths, {
      clock: this.clock,
      signal: this.signal,
      running: () => this.runningClient(),
    })
  }

  /** The daemon of this home if one runs. Loaded here: help has no time for zod. */
  async runningClient(): Promise<Client | undefined> {
    const { openClient } = await import('../src/api/client.ts')
    const client = openClient(this.paths)
    return (await client.isRunning(this.signal)) ? client : undefined
  }

  [Symbol.dispose](): void {
    this.#interrupts?.[Symbol.dispose]()
  }
}
