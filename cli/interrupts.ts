/** Ctrl-C and SIGTERM: the verb that is running may decide what they mean; else the command is aborted. */

export type InterruptHandler = (times: number) => void

/** Where signals come from: the process, or an emitter in tests. */
export interface SignalSource {
  on(name: 'SIGINT' | 'SIGTERM', listener: () => void): unknown
  off(name: 'SIGINT' | 'SIGTERM', listener: () => void): unknown
}

export class Interrupts implements Disposable {
  readonly #source: SignalSource
  readonly #abort = new AbortController()
  readonly #listener = (): void => this.#interrupt()
  #handler: InterruptHandler | undefined
  #times = 0

  constructor(source: SignalSource) {
    this.#source = source
    source.on('SIGINT', this.#listener)
    source.on('SIGTERM', this.#listener)
  }

  /** Aborts when the user interrupts and nothing handles it. */
  get signal(): AbortSignal {
    return this.#abort.signal
  }

  /** Until disposed, `handler` is called instead, with how often the user has interrupted by then. */
  handle(handler: InterruptHandler): Disposable {
    this.#handler = handler
    this.#times = 0
    return {
      [Symbol.dispose]: () => {
        this.#handler = undefined
      },
    }
  }

  /** Ends the command as if nothing had handled the interruption. */
  abort(): void {
    this.#abort.abort(new DOMException('interrupted', 'AbortError'))
  }

  [Symbol.dispose](): void {
    this.#source.off('SIGINT', this.#listener)
    this.#source.off('SIGTERM', this.#listener)
  }

  #interrupt(): void {
    this.#times += 1
    if (this.#handler === undefined) this.abort()
    else this.#handler(this.#times)
  }
}
