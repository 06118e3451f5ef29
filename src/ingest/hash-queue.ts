/**
 * Hands files to the hash threads: small ones in batches to one thread, a large one to a pair. Knows
 * who waits for what, so that an abort is felt at once and a dead thread fails its own files only.
 */

import type { Worker } from 'node:worker_threads'
import { digestBytes } from '../core/digest.ts'
import type { FileStamp } from '../core/file-stamp.ts'
import { lengthOf, type Range } from '../core/ranges.ts'
import { receiveError } from '../core/sent-error.ts'
import { type FilesJob, type FilesReply, type Reply, unpackStamp } from './hash-jobs.ts'
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
  /** Undefined when the file is one chunk, or empty. */
  readonly lengths: Uint32Array | undefined
  /** 32 bytes per chunk that the file holds whole. */
  readonly digests: Uint8Array
}

export type Seen = ({ readonly kind: 'small' } & Digests) | Planned

/** A file too large for one thread, and how it is cut. */
export interface Planned {
  readonly kind: 'large'
  readonly stamp: FileStamp
  readonly lengths: Uint32Array
}

/** Somebody who waits for files. */
interface Waiter {
  readonly reject: (reason: unknown) => void
  onBytes: (bytes: number) => void
  /** Tells the threads that have the files; nothing to do before. */
  stop: () => void
}

export interface FileToRead {
  readonly place: string
  /** Chunk lengths to use; the SHA-256 alone is wanted when undefined. */
  readonly lengths: Uint32Array | undefined
}

/** A large file to be read. */
interface Read extends Waiter {
  readonly file: FileToRead
  readonly resolve: (digests: Digests) => void
}

/** Files to be looked at, any number. */
export type FilesToSee = Pick<FilesJob, 'places' | 'lengths' | 'seenBefore'>

interface Look extends Waiter {
  readonly files: FilesToSee
  readonly sinceMs: number
  /** Those that no thread has. */
  readonly left: Range[]
  /** How many have no answer yet. */
  missing: number
  /** One shared cell: 1 when nobody waits any more. */
  readonly stopped: Int32Array
  readonly onSeen: (index: number, seen: Seen) => void
  readonly resolve: () => void
}

/** What is left to do with an answer once its threads have their next files: they would wait for that. */
type Take = () => void

/** Files per message: 10 ms of work when they are tiny; batchMs sees to larger ones. */
const batchMax = 1024
/** Fewer are not worth a share of their own. */
const batchMin = 64

/**
 * A thread costs 50 ms of CPU before it hashes anything, in which one that runs takes 4,000 tiny files: more
 * are started only for small files that are not done after this time.
 */
const growAfterMs = 150

export class HashQueue {
  readonly #threads: readonly HashThread[]
  /** Those that were never started come first, and are taken last. */
  readonly #idle: HashThread[]
  readonly #looks = new Set<Look>()
  readonly #reads = new Set<Read>()
  /** Who waits for what the threads are at, and the promise of its end, which never rejects. */
  readonly #running = new Set<{ readonly waiter: Waiter; readonly done: Promise<void> }>()
  /** Rings to use again, kept while anything runs: 16 MiB each. */
  readonly #rings: RingMemory[] = []
  /** Threads with small files: they are back within batchMs, those with a large one when it is done. */
  #looking = 0
  #closed: Error | undefined

  constructor(threads: number, start: () => Worker) {
    this.#threads = Array.from({ length: threads }, () => new HashThread(start))
    this.#idle = [...this.#threads]
  }

  /** One thread: what more would be good for shows once there is work. */
  warm(): void {
    if (this.#closed === undefined) this.#idle.at(-1)?.warm()
  }

  /** Hashes small files and plans large ones; calls back for each, in any order. */
  look(
    files: FilesToSee,
    options: HashOptions,
    onSeen: (index: number, seen: Seen) => void,
  ): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const count = files.places.length
    if (count === 0) resolve()
    const look: Look = {
      files,
      sinceMs: performance.now(),
      left: [[0, count]],
      missing: count,
      stopped: sharedCell(),
      onSeen,
      resolve,
      reject,
      onBytes: options.onBytes ?? ignore,
      stop() {
        look.left.length = 0
        Atomics.store(look.stopped, 0, 1)
      },
    }
    return this.#enqueue(this.#looks, look, { promise, signal: options.signal })
  }

  /** Hashes a file of any size. */
  read(file: FileToRead, options: HashOptions): Promise<Digests> {
    const { promise, resolve, reject } = Promise.withResolvers<Digests>()
    const read: Read = { file, resolve, reject, onBytes: options.onBytes ?? ignore, stop: ignore }
    return this.#enqueue(this.#reads, read, { promise, signal: options.signal })
  }

  /** Fails whoever waits, lets the threads close their files, ends them. */
  async close(): Promise<void> {
    const reason = (this.#closed ??= new DOMException('the hash threads were ended', 'AbortError'))
    const running = [...this.#running]
    const waiters = [...this.#looks, ...this.#reads, ...running.map(({ waiter }) => waiter)]
    this.#looks.clear()
    this.#reads.clear()
    for (const waiter of waiters) giveUp(waiter, reason)
    await Promise.all(running.map(({ done }) => done))
    await Promise.all(this.#threads.map(thread => thread.end()))
  }

  async #enqueue<W extends Waiter, T>(
    queue: Set<W>,
    waiter: W,
    { promise, signal }: { promise: Promise<T>; signal: AbortSignal | undefined },
  ): Promise<T> {
    signal?.throwIfAborted()
    if (this.#closed !== undefined) throw this.#closed
    const onAbort = (): void => {
      queue.delete(waiter)
      giveUp(waiter, signal?.reason)
    }
    signal?.addEventListener('abort', onAbort)
    queue.add(waiter)
    this.#dispatch()
    try {
      return await promise
    } finally {
      signal?.removeEventListener('abort', onAbort)
    }
  }

  /** Large files first: they need two threads idle at once, which small ones would never leave. */
  #dispatch(): void {
    for (const read of this.#reads) {
      const needed = read.file.lengths === undefined ? 1 : 2
      if (this.#idle.length < needed) break
      this.#reads.delete(read)
      this.#start(read, needed, threads => this.#runRead(read, threads))
    }
    for (const look of this.#looks) {
      while (look.left.length > 0 && this.#mayTake(look)) {
        const batch = takeBatch(look.left, this.#threads.length)
        this.#start(look, 1, ([thread]) => this.#runLook(look, batch, thread as HashThread))
      }
      if (look.left.length === 0) this.#looks.delete(look)
    }
    if (this.#running.size === 0) this.#rings.length = 0
  }

  /** Whether an idle thread runs already, or is worth its start. */
  #mayTake(look: Look): boolean {
    const thread = this.#idle.at(-1)
    if (thread === undefined) return false
    if (thread.isStarted || this.#looking === 0) return true
    return performance.now() - look.sinceMs > growAfterMs
  }

  #start(
    waiter: Waiter,
    threadCount: number,
    run: (threads: readonly HashThread[]) => Promise<Take>,
  ): void {
    const threads = this.#idle.splice(-threadCount)
    const finish = async (): Promise<void> => {
      let take: Take = ignore
      try {
        take = await run(threads)
      } catch (error) {
        giveUp(waiter, error)
      }
      this.#running.delete(running)
      this.#idle.push(...threads)
      this.#dispatch()
      try {
        take()
      } catch (error) {
        giveUp(waiter, error)
      }
    }
    const running = { waiter, done: finish() }
    this.#running.add(running)
  }

  async #runLook(look: Look, [from, to]: Range, thread: HashThread): Promise<Take> {
    const { stopped } = look
    const places = look.files.places.slice(from, to)
    const job: FilesJob = { kind: 'files', ...look.files, places, stopped }
    this.#looking += 1
    const answer = thread.run(job, ignore).finally(() => (this.#looking -= 1))
    const [reply] = await allOrStop([answer], ignore)
    if (reply?.kind === 'stopped') return ignore
    const files = expectKind(reply, 'files')
    const next = from + files.taken
    if (next < to && Atomics.load(stopped, 0) === 0) {
      look.left.push([next, to])
      this.#looks.add(look)
    }
    return () => takeSeen(look, from, files)
  }

  async #runRead(read: Read, [reader, digester]: readonly HashThread[]): Promise<Take> {
    const { place, lengths } = read.file
    const stopped = sharedCell()
    using ring = lengths === undefined ? undefined : this.#borrowRing(read)
    read.stop = () => {
      Atomics.store(stopped, 0, 1)
      if (ring !== undefined) stopRing(ring.memory)
    }
    let bytesTold = 0
    const onBytes = (bytes: number): void => {
      bytesTold += bytes
      read.onBytes(bytes)
    }
    const ends: (Promise<Reply> | undefined)[] = [
      reader?.run({ kind: 'read', place, ring: ring?.memory, stopped }, onBytes),
    ]
    if (lengths !== undefined && ring !== undefined) {
      ends.push(digester?.run({ kind: 'digest', place, lengths, ring: ring.memory }, ignore))
    }
    const [whole, digest] = await allOrStop(ends, read.stop)
    const { stamp, sha256 } = expectKind(whole, 'read')
    if (stamp.size > bytesTold) read.onBytes(stamp.size - bytesTold)
    read.resolve({
      stamp,
      sha256,
      lengths,
      digests: digest === undefined ? new Uint8Array(0) : expectKind(digest, 'digest').digests,
    })
    return ignore
  }

  #borrowRing(read: Read): Disposable & { readonly memory: RingMemory } {
    const memory = this.#rings.pop() ?? allocateRing()
    return {
      memory,
      [Symbol.dispose]: () => {
        // Whoever gives this read up from now on must not stop the next one with the ring.
        read.stop = ignore
        resetRing(memory)
        this.#rings.push(memory)
      },
    }
  }
}

function takeSeen(look: Look, from: number, files: FilesReply): void {
  let bytes = 0
  for (let index = 0; index < files.taken; index += 1) {
    const seen = seenOf(files, index)
    if (seen.kind === 'small') bytes += seen.stamp.size
    look.onSeen(from + index, seen)
  }
  if (bytes > 0) look.onBytes(bytes)
  look.missing -= files.taken
  if (look.missing === 0) look.resolve()
}

/** A share for one of the threads. */
function takeBatch(left: Range[], threads: number): Range {
  const share = Math.ceil(lengthOf(left) / threads)
  const count = Math.min(Math.max(share, batchMin), batchMax)
  const [from, to] = left.pop() as Range
  const end = Math.min(from + count, to)
  if (end < to) left.push([end, to])
  return [from, end]
}

function seenOf({ sha256s, stamps, others }: FilesReply, index: number): Seen {
  const other = others.get(index)
  if (other?.kind === 'failed') throw receiveError(other.error, 'a hash thread')
  const stamp = unpackStamp(stamps, index)
  if (other?.kind === 'large') return { kind: 'large', stamp, lengths: other.lengths }
  const sha256 = sha256s.subarray(index * digestBytes, (index + 1) * digestBytes)
  const chunks = other?.chunks ?? { lengths: undefined, digests: sha256 }
  return { kind: 'small', stamp, sha256, ...chunks }
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
        if (reply?.kind === 'failed') throw receiveError(reply.error, 'a hash thread')
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

/** An aborted signal of the threads: one cell, zero. */
function sharedCell(): Int32Array {
  return new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT))
}

function ignore(): void {
  // Nobody wants to know.
}
