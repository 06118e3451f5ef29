/**
 * The SHA-256 of files that are still being written, hashed in a thread as far as they are there from
 * their start: what is left to do at the end is what came last. Threads start with the first file.
 */

import { availableParallelism } from 'node:os'
import { extname } from 'node:path'
import { Worker } from 'node:worker_threads'
import { receiveError, type SentError } from '../core/sent-error.ts'

/** The entry has this file's extension: .ts from a clone, .js from dist. */
const entry = new URL(`./growing-worker${extname(import.meta.filename)}`, import.meta.url)

export type GrowingMessage =
  | { readonly kind: 'reach'; readonly file: number; readonly fd: number; readonly bytes: number }
  /** Answered, and after it the thread does not touch the descriptor any more. */
  | { readonly kind: 'digest' | 'forget'; readonly file: number }

export interface GrowingReply {
  readonly file: number
  /** Of the bytes reached; undefined when it was to be forgotten. */
  readonly sha256: Uint8Array | undefined
  readonly error: SentError | undefined
}

export interface GrowingHash {
  /** The first `bytes` bytes are there and will not change. */
  reach(bytes: number): void
  /** Of all bytes reached. The descriptor is free then; rejects when reading failed. */
  digest(): Promise<Uint8Array>
  /** Resolves when the descriptor is free. */
  forget(): Promise<void>
}

export interface GrowingHashes extends AsyncDisposable {
  /** Of a file open for reading, which stays open until it is free. */
  follow(fd: number): GrowingHash
}

/** Next to no garbage: V8 would let it grow to 48 MiB a thread all the same. */
const maxYoungGenerationSizeMb = 4
/** A few files that end at the same time are finished side by side. */
const threadsMax = 2

export function openGrowingHashes(): GrowingHashes {
  const threads = Array.from({ length: Math.min(threadsMax, availableParallelism()) }, openThread)
  let files = 0
  return {
    follow(fd) {
      files += 1
      const file = files
      const thread = threads[file % threads.length] as GrowingThread
      return {
        reach: bytes => thread.post({ kind: 'reach', file, fd, bytes }),
        async digest() {
          const sha256 = await thread.end(file, 'digest')
          if (sha256 === undefined) throw new Error('nothing was reached')
          return sha256
        },
        async forget() {
          await thread.end(file, 'forget').catch(() => undefined)
        },
      }
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(threads.map(thread => thread.stop()))
    },
  }
}

interface GrowingThread {
  post(message: GrowingMessage): void
  end(file: number, kind: 'digest' | 'forget'): Promise<Uint8Array | undefined>
  stop(): Promise<void>
}

function openThread(): GrowingThread {
  const waiting = new Map<number, PromiseWithResolvers<Uint8Array | undefined>>()
  let worker: Worker | undefined

  function start(): Worker {
    // The options that the program was started with are for its own entry, and some refuse another.
    const started = new Worker(entry, {
      name: 'commonweight-grow',
      execArgv: [],
      resourceLimits: { maxYoungGenerationSizeMb },
    })
    started.on('message', ({ file, sha256, error }: GrowingReply) => {
      const waiter = waiting.get(file)
      waiting.delete(file)
      if (error === undefined) waiter?.resolve(sha256)
      else waiter?.reject(receiveError(error, threadName))
    })
    started.on('error', ignore)
    started.on('exit', () => {
      worker = undefined
      for (const waiter of waiting.values()) waiter.reject(new Error(`${threadName} ended`))
      waiting.clear()
    })
    started.unref()
    return started
  }

  function post(message: GrowingMessage): void {
    worker ??= start()
    worker.postMessage(message)
  }

  return {
    post,
    end(file, kind) {
      const waiter = Promise.withResolvers<Uint8Array | undefined>()
      waiting.set(file, waiter)
      post({ kind, file })
      return waiter.promise
    },
    async stop() {
      await worker?.terminate()
    },
  }
}

function ignore(): void {
  // The exit that follows tells whoever waits, and they do without.
}

const threadName = 'the thread that hashes growing files'
