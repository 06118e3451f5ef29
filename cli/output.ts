/**
 * The only writer to stdout and stderr. The rules:
 * - What a verb was asked for goes to stdout; everything else to stderr, prefixed `commonweight:`,
 *   lower case, no full stop; a `hint:` line says what to do next.
 * - With --json stdout carries one object per line, each with `type`; a failure ends with an object
 *   of type `error`.
 * - --quiet silences progress and remarks, never results, warnings or errors.
 * - A progress bar is redrawn only on a terminal; a pipe gets a plain line every few seconds.
 * - Text from the network never reaches a terminal with control characters in it.
 */

import type * as Contract from '../src/api/contract.ts'
import { CommonweightError, isAbort, messageOf } from '../src/core/errors.ts'
import { KiB, second } from '../src/core/units.ts'
import { progressBar, progressLine } from './progress.ts'
import { type Style, styled } from './style.ts'
import { printable, withHome } from './text.ts'

/** One line of --json output. */
export type JsonLine = Readonly<Record<string, unknown>> & { readonly type: string }

/** Half of process.stdout: what tests replace. */
export interface TextStream {
  readonly isTTY?: boolean
  readonly columns?: number
  write(text: string): unknown
}

export interface OutputOptions {
  readonly stdout: TextStream
  readonly stderr: TextStream
  readonly json: boolean
  readonly quiet: boolean
  /** Colour on each stream: decided once, see `wantsColor`. */
  readonly colorOut: boolean
  readonly colorErr: boolean
  /** False where the locale cannot show block characters. */
  readonly unicode: boolean
  /** As the user gave it by flag: the commands that we name are given it too. */
  readonly home?: string | undefined
  /** Monotonic milliseconds. */
  readonly monotonic: () => number
}

/** A bar is redrawn at most so often: more flickers over slow connections. */
const barIntervalMs = 100
/** A pipe gets a line at most so often: a log of a ten-hour pull stays readable. */
const lineIntervalMs = 5 * second
/** And none when the work takes no longer than this. */
const lineDelayMs = second
const columnsDefault = 80
/** Characters written at once: a pipe takes as many, and 100,000 files need not be one string. */
const pieceLength = 64 * KiB

export class Output {
  readonly json: boolean
  readonly quiet: boolean
  readonly #options: OutputOptions
  #barShown = false
  #progressAtMs = Number.NEGATIVE_INFINITY
  #phase = ''
  #startedAtMs: number | undefined

  constructor(options: OutputOptions) {
    this.json = options.json
    this.quiet = options.quiet
    this.#options = options
  }

  /** Columns of the terminal results go to; undefined in a pipe, where nothing is shortened. */
  get columns(): number | undefined {
    const { stdout } = this.#options
    return stdout.isTTY === true ? (stdout.columns ?? columnsDefault) : undefined
  }

  /** Styles text for stdout. */
  readonly style: Style = (format, text) => styled(this.#options.colorOut, format, text)

  /** One result: the object with --json, else the text. */
  result(value: JsonLine, text: () => string): void {
    if (this.json) this.object(value)
    else this.text(text())
  }

  /** Many results, written together: a write for each took longer than to hash the file it tells of. */
  results(all: Iterable<readonly [value: JsonLine, text: () => string]>): void {
    let lines = ''
    for (const [value, text] of all) {
      lines += `${this.json ? JSON.stringify(value) : text()}\n`
      if (lines.length < pieceLength) continue
      this.text(lines)
      lines = ''
    }
    this.text(lines)
  }

  /** One line of --json output, whoever made it; nothing for people. */
  object(value: JsonLine): void {
    if (!this.json) return
    this.#clearBar()
    this.#options.stdout.write(`${JSON.stringify(value)}\n`)
  }

  /** Lines for people, or a whole generated script; ends the line when the text does not. */
  text(text: string): void {
    if (text === '') return
    this.#clearBar()
    this.#options.stdout.write(text.endsWith('\n') ? text : `${text}\n`)
  }

  /** Lines for people that are no result, as they are. */
  aside(text: string): void {
    this.#clearBar()
    this.#options.stderr.write(text)
  }

  /** A remark: what is going on, said once. Nothing with --quiet. */
  note(message: string): void {
    if (!this.quiet) this.#say(printable(this.#addressed(message)))
  }

  /** Something a person should know although the command goes on. */
  warn(message: string): void {
    const { colorErr } = this.#options
    this.#say(`${styled(colorErr, 'yellow', 'warning:')} ${printable(message)}`)
  }

  hint(message: string): void {
    this.#clearBar()
    this.#options.stderr.write(`hint: ${printable(this.#addressed(message))}\n`)
  }

  /** A question that an answer on the terminal follows. */
  ask(question: string): void {
    this.#clearBar()
    this.#options.stderr.write(`commonweight: ${question} `)
  }

  /** Ends the command's output: what went wrong, what to do, and with --json the error object. */
  error(error: unknown): void {
    const { code, message, hint: general } = describeError(error)
    const hint = general === undefined ? undefined : this.#addressed(general)
    const { colorErr } = this.#options
    this.#clearBar()
    const shown = printable(message, { keepLines: true })
    this.#options.stderr.write(`commonweight: ${styled(colorErr, 'red', shown)}\n`)
    if (hint !== undefined) this.hint(hint)
    this.object({ type: 'error', code, message, ...(hint === undefined ? {} : { hint }) })
  }

  /** Shows on stderr how far a long operation is, until `endProgress`. Nothing with --quiet. */
  progress(event: Contract.ProgressEvent): void {
    if (this.quiet) return
    const { stderr, monotonic } = this.#options
    const isTerminal = stderr.isTTY === true
    const now = monotonic()
    this.#startedAtMs ??= now
    if (!isTerminal && now - this.#startedAtMs < lineDelayMs) return
    const interval = isTerminal ? barIntervalMs : lineIntervalMs
    if (event.phase === this.#phase && now - this.#progressAtMs < interval) return
    this.#phase = event.phase
    this.#progressAtMs = now
    if (isTerminal) this.#drawBar(event)
    else stderr.write(`commonweight: ${printable(progressLine(event))}\n`)
  }

  /** Removes the bar; the next operation begins a new one. */
  endProgress(): void {
    this.#clearBar()
    this.#phase = ''
    this.#startedAtMs = undefined
    this.#progressAtMs = Number.NEGATIVE_INFINITY
  }

  #addressed(text: string): string {
    return withHome(text, this.#options.home)
  }

  #drawBar(event: Contract.ProgressEvent): void {
    const { stderr, colorErr, unicode } = this.#options
    const bar = progressBar(event, {
      columns: stderr.columns ?? columnsDefault,
      unicode,
      style: (format, text) => styled(colorErr, format, text),
    })
    stderr.write(`\r\u001B[2K${bar}`)
    this.#barShown = true
  }

  #clearBar(): void {
    if (!this.#barShown) return
    this.#options.stderr.write('\r\u001B[2K')
    this.#barShown = false
  }

  #say(text: string): void {
    this.#clearBar()
    this.#options.stderr.write(`commonweight: ${text}\n`)
  }
}

/** As in api/contract.ts, which is not imported here: it loads zod, and help has no time for that. */
const abortedCode: typeof Contract.abortedCode = 'ABORTED'
const bugCode: typeof Contract.bugCode = 'INTERNAL'

interface ErrorLines {
  readonly code: string
  readonly message: string
  readonly hint?: string
}

/** What is said about an error; one we did not throw on purpose is a bug and shows its stack. */
function describeError(error: unknown): ErrorLines {
  if (error instanceof CommonweightError) {
    const { code, hint } = error
    const message = fullMessage(error)
    return { code, message, ...(hint === undefined ? {} : { hint }) }
  }
  if (isAbort(error)) return { code: abortedCode, message: 'interrupted' }
  const stack = Error.isError(error) ? error.stack : undefined
  return {
    code: bugCode,
    message: `this is a bug: ${stack ?? messageOf(error)}`,
    hint: 'please report it with the command you ran and the lines above',
  }
}

/** Why the file system refused is in the cause: `locking /x/lock: permission denied`. */
function fullMessage({ code, message, cause }: CommonweightError): string {
  if (code !== 'STORAGE' || !Error.isError(cause)) return message
  return message.includes(cause.message) ? message : `${message}: ${cause.message}`
}
