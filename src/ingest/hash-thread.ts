/** The main thread's end of one hash thread: started at its first job, one job at a time. */

import { extname } from 'node:path'
import { Worker } from 'node:worker_threads'
import type { BytesMessage, Job, Reply } from './hash-jobs.ts'

/** The entry has this file's extension: .ts from a clone, .js from dist. */
const entry = new URL(`./hash-worker${extname(import.meta.filename)}`, import.meta.url)

export function startWorker(): Worker {
  // The options that the program was started with are for its own entry, and some refuse another.
  return new Worker(entry, { name: 'commonweight-hash', execArgv: [] })
}

interface Running {
  readonly settled: PromiseWithResolvers<Reply>
  readonly onBytes: (bytes: number) => void
}

export class HashThread {
  readonly #start: () => Worker
  #worker: Worker | undefined
  #running: Running | undefined

  constructor(start: () => Worker) {
    this.#start = start
  }

  get isStarted(): boolean {
    return this.#worker !== undefined
  }

  warm(): void {
    if (this.#worker !== undefined) return
    this.#worker = this.#open()
    this.#worker.unref()
  }

  /** Rejects only when the thread itself dies; what failed in it is in the reply. */
  run(job: Job, onBytes: (bytes: number) => void): Promise<Reply> {
    const running = { settled: Promise.withResolvers<Reply>(), onBytes }
    this.#worker ??= this.#open()
    this.#running = running
    // Referenced only while it works: an idle pool keeps no process alive.
    this.#worker.ref()
    this.#worker.postMessage(job)
    return running.settled.promise
  }

  async end(): Promise<void> {
    await this.#worker?.terminate()
  }

  #open(): Worker {
    const worker = this.#start()
    worker.on('message', (message: Reply | BytesMessage) => {
      if (message.kind === 'bytes') this.#running?.onBytes(message.bytes)
      else this.#settle(running => running.settled.resolve(message))
    })
    worker.on('error', error => this.#fail(worker, error))
    worker.on('messageerror', error => this.#fail(worker, error))
    worker.on('exit', code => this.#fail(worker, new Error(`a hash thread ended (code ${code})`)))
    return worker
  }

  #settle(settle: (running: Running) => void): void {
    const running = this.#running
    this.#running = undefined
    this.#worker?.unref()
    if (running !== undefined) settle(running)
  }

  /** The next job gets a new thread. */
  #fail(worker: Worker, error: unknown): void {
    if (this.#worker !== worker) return
    this.#worker = undefined
    this.#settle(running => running.settled.reject(error))
  }
}
