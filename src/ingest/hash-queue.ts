/**
 * Hands files to the hash threads: small ones in batches to one thread, a large one to a pair. Knows
 * who waits for what, so that an abort is felt at once and a dead thread fails its own files only.
 */

import type { Worker } from 'node:worker_threads'
import { digestBytes } from '../core/digest.ts'
import type { FileStamp } from '../core/file-stamp.ts'
import { receiveError } from './file-errors.ts'
import type { FileItem, FileReply, Reply } from './hash-jobs.ts'
import { HashThread } from './hash-thread.ts'
import { allocateRing, resetRing, type RingMemory, stopRing } from './ring.ts'

export interface HashOptions {
  readonly signal?: AbortSignal
  /** Bytes hashed since the last call, about every 50 ms; together they are the file's size. */
  readonly onBytes?: (bytes: number) => void
}

/** What was computed of one file. */
export interface Digests {
  readonly stamp: FileStamp
  readonly sha256: Uint8Array
  readonly lengths: Uint32Array
  /** 32 bytes per chunk that the file holds whole. */
  readonly digests: Uint8Array
}

export type Seen =
  | ({ readonly kind: 'small' } & Digests)
  | { readonly kind: 'large'; readonly stamp: FileStamp; readonly lengths: Uint32Array }

/** Somebody who waits for a file. */
interface Waiter {
  reject: PromiseWithResolvers<unknown>['reject']
  onBytes: (bytes: number) => void
  /** Tells the threads that have the file; nothing to do before. */
  stop: () => void
}

interface Wait<T> extends Waiter, PromiseWithResolvers<T> {
  readonly item: FileItem
}

/**
 * Files per message: enough that the message costs little beside them (10 µs for a file of 4 KiB).
 * Fewer when few are waiting, so that every thread gets some.
 */
const batchMax = 64

export class HashQueue {
  readonly #threads: readonly HashThread[]
  readonly #idle: HashThread[]
  readonly #looks = new Set<Wait<Seen>>()
  readonly #reads = new Set<Wait<Digests>>()
  /** Who waits for what the threads are at, and the promise of its end, which never rejects. */
  readonly #running = new Map<readonly Waiter[], Promise<void>>()
  /** Rings to use again, kept while anything runs: 16 MiB each. */
  readonly #rings: RingMemory[] = []
  #closed: Error | undefined

  constructor(threads: number, start: () => Worker) {
    this.#threads = Array.from({ length: threads }, () => new HashThread(start))
    this.#idle = [...this.#threads]
  }

  /** Hashes the file if it is small, else plans it. */
  look(item: FileItem, options: HashOptions): Promise<Seen> {
    return this.#enqueue(this.#looks, item, options)
  }

  /** Hashes a file of any size: by `item.lengths`, or its SHA-256 alone when they are undefined. */
  read(item: FileItem, options: HashOptions): Promise<Digests> {
    return this.#enqueue(this.#reads, item, options)
  }

  /** Fails whoever waits, lets the threads close their files, ends them. */
  async close(): Promise<void> {
    const reason = (this.#closed ??= new DOMException('the hash threads were ended', 'AbortError'))
    for (const waiter of [...this.#looks, ...this.#reads]) giveUp(waiter, reason)
    for (const waiters of this.#running.keys()) for (const waiter of waiters) giveUp(waiter, reason)
    this.#looks.clear()
    this.#reads.clear()
    await Promise.all(this.#running.values())
    await Promise.all(this.#threads.map(thread => thread.end()))
  }

  async #enqueue<T>(queue: Set<Wait<T>>, item: FileItem, options: HashOptions): Promise<T> {
    const { signal, onBytes = ignore } = options
    signal?.throwIfAborted()
    if (this.#closed !== undefined) throw this.#closed
    const wait: Wait<T> = { ...Promise.withResolvers<T>(), item, onBytes, stop: ignore }
    const onAbort = (): void => {
      queue.delete(wait)
      giveUp(wait, signal?.reason)
    }
    signal?.addEventListener('abort', onAbort)
    queue.add(wait)
    // Not at once: callers of the same turn share a batch.
    queueMicrotask(() => this.#dispatch())
    try {
      return await wait.promise
    } finally {
      signal?.removeEventListener('abort', onAbort)
    }
  }

  /** Large files first: they need two threads idle at once, which small ones would never leave. */
  #dispatch(): void {
    for (const wait of this.#reads) {
      const needed = wait.item.lengths === undefined ? 1 : 2
      if (this.#idle.length < needed) break
      this.#reads.delete(wait)
      this.#start([wait], needed, threads => this.#runRead(wait, threads))
    }
    while (this.#looks.size > 0 && this.#idle.length > 0) {
      const share = Math.ceil(this.#looks.size / this.#threads.length)
      const batch = [...this.#looks.values().take(Math.min(share, batchMax))]
      for (const wait of batch) this.#looks.delete(wait)
      this.#start(batch, 1, ([thread]) => runLooks(batch, thread as HashThread))
    }
    if (this.#running.size === 0) this.#rings.length = 0
  }

  #start(
    waiters: readonly Waiter[],
    threadCount: number,
    run: (threads: readonly HashThread[]) => Promise<void>,
  ): void {
    const threads = this.#idle.splice(-threadCount)
    const finish = async (): Promise<void> => {
      try {
        await run(threads)
      } catch (error) {
        for (const waiter of waiters) waiter.reject(error)
      }
      this.#running.delete(waiters)
      this.#idle.push(...threads)
      this.#dispatch()
    }
    this.#running.set(waiters, finish())
  }

  async #runRead(wait: Wait<Digests>, [reader, digester]: readonly HashThread[]): Promise<void> {
    const { place, lengths } = wait.item
    const stopped = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT))
    using ring = lengths === undefined ? undefined : this.#borrowRing()
    wait.stop = () => {
      Atomics.store(stopped, 0, 1)
      if (ring !== undefined) stopRing(ring.memory)
    }
    let bytesTold = 0
    const onBytes = (bytes: number): void => {
      bytesTold += bytes
      wait.onBytes(bytes)
    }
    const ends: (Promise<Reply> | undefined)[] = [
      reader?.run({ kind: 'read', place, ring: ring?.memory, stopped }, onBytes),
    ]
    if (lengths !== undefined && ring !== undefined) {
      ends.push(digester?.run({ kind: 'digest', lengths, ring: ring.memory }, ignore))
    }
    const [read, digest] = await allOrStop(ends, wait.stop)
    const { stamp, sha256 } = expectKind(read, 'read')
    wait.onBytes(stamp.size - bytesTold)
    wait.resolve({
      stamp,
      sha256,
      lengths: lengths ?? new Uint32Array(0),
      digests: digest === undefined ? new Uint8Array(0) : expectKind(digest, 'digest').digests,
    })
  }

  #borrowRing(): Disposable & { readonly memory: RingMemory } {
    const memory = this.#rings.pop() ?? allocateRing()
    return {
      memory,
      [Symbol.dispose]: () => {
        resetRing(memory)
        this.#rings.push(memory)
      },
    }
  }
}

async function runLooks(batch: readonly Wait<Seen>[], thread: HashThread): Promise<void> {
  const cells = new SharedArrayBuffer(batch.length * Int32Array.BYTES_PER_ELEMENT)
  const stopped = new Int32Array(cells)
  for (const [index, wait] of batch.entries()) {
    wait.stop = () => void Atomics.store(stopped, index, 1)
  }
  const items = batch.map(wait => wait.item)
  const reply = await thread.run({ kind: 'files', items, stopped }, ignore)
  if (reply.kind === 'failed') throw receiveError(reply.error)
  const { items: files, sha256s } = expectKind(reply, 'files')
  for (const [index, wait] of batch.entries()) {
    const digest = sha256s.subarray(index * digestBytes, (index + 1) * digestBytes)
    settleLook(wait, files[index] as FileReply, digest)
  }
}

function settleLook(wait: Wait<Seen>, reply: FileReply, sha256: Uint8Array): void {
  switch (reply.kind) {
    case 'small': {
      const { stamp, chunks } = reply
      const oneChunk = { lengths: Uint32Array.of(stamp.size), digests: sha256 }
      wait.onBytes(stamp.size)
      wait.resolve({ kind: 'small', stamp, sha256, ...(chunks ?? oneChunk) })
      return
    }
    case 'large':
      wait.resolve(reply)
      return
    case 'failed':
      wait.reject(receiveError(reply.error))
      return
    case 'stopped':
    // Whoever stopped it has rejected already.
  }
}

/** Both ends of a file: when one fails the other is stopped, and the failure is what is thrown. */
async function allOrStop(
  ends: readonly (Promise<Reply> | undefined)[],
  stop: () => void,
): Promise<(Reply | undefined)[]> {
  const results = await Promise.allSettled(
    ends.map(async end => {
      try {
        const reply = await end
        if (reply?.kind === 'failed') throw receiveError(reply.error)
        return reply
      } catch (error) {
        stop()
        throw error
      }
    }),
  )
  const failed = results.find(result => result.status === 'rejected')
  if (failed !== undefined) throw failed.reason
  return results.map(result => (result.status === 'fulfilled' ? result.value : undefined))
}

function expectKind<K extends Reply['kind']>(
  reply: Reply | undefined,
  kind: K,
): Extract<Reply, { kind: K }> {
  if (reply?.kind !== kind) throw new Error(`a hash thread answered ${reply?.kind}, not ${kind}`)
  return reply as Extract<Reply, { kind: K }>
}

function giveUp(waiter: Waiter, reason: unknown): void {
  waiter.reject(reason)
  waiter.onBytes = ignore
  waiter.stop()
}

function ignore(): void {
  // Nobody wants to know.
}
