/**
 * Reads chunks back: the file's stamp is compared after every read, the bytes are hashed unless they
 * were lately, and what does not match is withdrawn and read from another copy.
 *
 * Invariants:
 * 1. Bytes are given out only if, after they were read, the path still had the stamp under which the
 *    file was indexed: an edit before or during the read is seen.
 * 2. Bytes that were not hashed lately (see Holdings.wasSeen) are hashed before they are given out, so
 *    that rot that keeps the stamp is not served either, or not for long.
 * 3. Being out of descriptors or memory withdraws nothing.
 */

import type { FileHandle } from 'node:fs/promises'
import { stat } from 'node:fs/promises'
import { equalBytes, viewOf } from '../core/bytes.ts'
import type { CID } from '../core/cid.ts'
import { sha256 } from '../core/digest.ts'
import { IntegrityError, NotFoundError, systemCode } from '../core/errors.ts'
import { type FileStamp, sameStamp, stampOf } from '../core/file-stamp.ts'
import type { ChunkRef, ChunkTable } from '../dag/chunk-table.ts'
import type { Cache } from './cache.ts'
import type { ChunkIndex, Content } from './chunk-index.ts'
import { asStorageError } from './files.ts'
import { type Copy, hasChunk, type Holdings } from './holdings.ts'
import type { OpenFiles } from './open-files.ts'
import { Scratch } from './scratch.ts'
import type { IoOptions, ReadOptions, Span } from './store.ts'

export interface ChunkReaderDeps {
  readonly index: ChunkIndex
  readonly holdings: Holdings
  readonly files: OpenFiles
  readonly cache: Pick<Cache, 'noteRead' | 'noteServed'>
}

/** What one try at one copy gave. */
type Outcome = { readonly bytes: Uint8Array } | { readonly reason: string }

/** Bytes of one copy that are read at once. */
interface Run extends Span {
  /** Chunks in it that were not hashed lately. */
  readonly unseen: readonly number[]
}

/** One copy of the wanted chunk, in the file where it was asked for or in another one. */
interface Spot {
  readonly content: Content
  readonly copy: Copy
  readonly index: number
  readonly ref: ChunkRef
}

export class ChunkReader {
  readonly #deps: ChunkReaderDeps
  readonly #scratch = new Scratch()

  constructor(deps: ChunkReaderDeps) {
    this.#deps = deps
  }

  async read(root: CID, chunk: number, options: ReadOptions = {}): Promise<Uint8Array> {
    const { holdings } = this.#deps
    const content = holdings.contentOf(root)
    const isChunk = Number.isInteger(chunk) && chunk >= 0 && chunk < (content?.chunks ?? 0)
    if (content === undefined || !isChunk || !holdings.isServed(content.root))
      throw notHeld(root, chunk)
    this.#deps.cache.noteServed(content)
    return this.#read(content, chunk, options)
  }

  /** See Store.readSpan. One read and one look at the stamp; by the chunk when that is not enough. */
  async readSpan(
    root: CID,
    { offset, end }: Span,
    into: Uint8Array,
    options: IoOptions = {},
  ): Promise<Uint8Array> {
    const { index, holdings } = this.#deps
    const content = holdings.contentOf(root)
    if (content === undefined || offset < 0 || offset >= end || end > content.size) {
      throw notHeld(root, 0)
    }
    this.#deps.cache.noteRead(content)
    const table = index.tableOf(content)
    const span = { offset, end: Math.min(end, offset + into.length) }
    const first = table.at(offset)
    for (const copy of holdings.copiesOf(content)) {
      const run = this.#runOf(copy, table, { first, span })
      if (run === undefined) continue
      const bytes = await this.#readAt(copy, run, into)
      if (bytes !== undefined && this.#isAsIndexed({ copy, content }, run, bytes)) return bytes
    }
    return this.#readPart(content, { chunk: first, span }, { ...options, into })
  }

  /**
   * What to read of this copy at once: the span as far as its chunks are there, and as far as those that
   * are yet to be hashed fit in as a whole.
   */
  #runOf(
    copy: Copy,
    table: ChunkTable,
    { first, span }: { first: number; span: Span },
  ): Run | undefined {
    const { holdings } = this.#deps
    let next = first
    const unseen: number[] = []
    for (; next < table.count && table.offset(next) < span.end; next += 1) {
      if (!hasChunk(copy, next)) break
      if (holdings.wasSeen(copy.path, next)) continue
      const fits = table.offset(next) >= span.offset && table.offset(next + 1) <= span.end
      if (!fits) break
      unseen.push(next)
    }
    if (next === first) return undefined
    return { offset: span.offset, end: Math.min(span.end, table.offset(next)), unseen }
  }

  /** A part of a chunk that is to be hashed first, or of which there is no copy that can be trusted. */
  async #readPart(
    content: Content,
    { chunk, span }: { chunk: number; span: Span },
    { into, ...options }: IoOptions & { into: Uint8Array },
  ): Promise<Uint8Array> {
    const ref = this.#deps.index.tableOf(content).ref(chunk)
    return this.#scratch.use(async whole => {
      const bytes = await this.#read(content, chunk, { ...options, into: whole })
      const from = span.offset - ref.offset
      const part = bytes.subarray(from, Math.min(span.end - ref.offset, bytes.length))
      into.set(part)
      return into.subarray(0, part.length)
    })
  }

  /** Undefined when the file is not as it was indexed, or cannot be read: chunk by chunk tells why. */
  async #readAt(
    copy: Copy,
    { offset, end }: Span,
    into: Uint8Array,
  ): Promise<Uint8Array | undefined> {
    const { path } = copy
    const length = end - offset
    try {
      const { bytes, stamp, isSame } = await this.#deps.files.use(path, handle =>
        readWithStamp(handle, path, { offset, length, into }),
      )
      // A partial file changes all the time, and is ours alone.
      const isStamped = copy.kind === 'partial' || sameStamp(stamp, copy.file.stamp)
      return isSame && isStamped && bytes.length === length ? bytes : undefined
    } catch (error) {
      if (systemCode(error) === undefined) throw error
      return undefined
    }
  }

  /** Hashes what was not hashed lately. */
  #isAsIndexed(
    { copy, content }: { copy: Copy; content: Content },
    { offset, unseen }: Run,
    bytes: Uint8Array,
  ): boolean {
    const { index, holdings } = this.#deps
    const table = index.tableOf(content)
    for (const chunk of unseen) {
      const part = bytes.subarray(table.offset(chunk) - offset, table.offset(chunk + 1) - offset)
      if (!equalBytes(sha256(part), table.digest(chunk))) return false
      holdings.noteSeen(copy, content, chunk)
    }
    return true
  }

  async #read(content: Content, chunk: number, options: ReadOptions): Promise<Uint8Array> {
    const { root } = content
    const failures: string[] = []
    // Twice, because a copy can move while it is read: a partial that is being published.
    for (let pass = 0; pass < 2; pass += 1) {
      for (const spot of this.#spots(content, chunk)) {
        options.signal?.throwIfAborted()
        // One at a time: a second copy is read only when the first one failed.
        const outcome = await this.#try(spot, { into: options.into, isLast: pass > 0 })
        if ('bytes' in outcome) return outcome.bytes
        failures.push(outcome.reason)
      }
    }
    if (failures.length === 0) throw notHeld(root, chunk)
    throw new IntegrityError(`chunk ${chunk} of ${root.toString()}: ${failures.join('; ')}`, {
      hint: 'the damaged chunks are no longer offered: verify the model to see which they are',
    })
  }

  /** The copies of the file itself, then other files that contain the same chunk. */
  *#spots(content: Content, index: number): Generator<Spot> {
    const { index: database, holdings } = this.#deps
    const ref = database.tableOf(content).ref(index)
    for (const copy of holdings.copiesOf(content)) {
      if (hasChunk(copy, index)) yield { content, copy, index, ref }
    }
    for (const other of database.positionsOf(ref.digest)) {
      if (other.content.id === content.id && other.index === index) continue
      const otherRef = database.tableOf(other.content).ref(other.index)
      for (const copy of holdings.copiesOf(other.content)) {
        if (hasChunk(copy, other.index)) yield { ...other, copy, ref: otherRef }
      }
    }
  }

  /** `isLast`: what is not there now was not merely moved. */
  async #try(
    spot: Spot,
    { into, isLast }: { into: Uint8Array | undefined; isLast: boolean },
  ): Promise<Outcome> {
    const { copy, ref } = spot
    const wanted = { ...ref, into }
    const { path } = copy
    const { files } = this.#deps
    try {
      let read = await files.use(path, handle => readWithStamp(handle, path, wanted))
      if (!read.isSame) {
        // Another file lies at the path than the one kept open: the path is what counts.
        files.forget(path)
        read = await files.use(path, handle => readWithStamp(handle, path, wanted))
      }
      return this.#judge(spot, read)
    } catch (error) {
      return this.#unreadable(spot, error, isLast)
    }
  }

  #judge({ copy, content, index, ref }: Spot, { bytes, stamp, isSame }: ChunkRead): Outcome {
    const { holdings } = this.#deps
    if (copy.kind === 'file' && !(isSame && sameStamp(stamp, copy.file.stamp))) {
      holdings.noteStamp(copy.file, isSame ? stamp : undefined)
      return { reason: `${copy.path} was changed` }
    }
    if (!holdings.wasSeen(copy.path, index)) {
      if (bytes.length !== ref.length || !equalBytes(sha256(bytes), ref.digest)) {
        holdings.noteDamage(copy, content, [index])
        return { reason: `${copy.path} does not match at ${ref.offset}` }
      }
      holdings.noteSeen(copy, content, index)
    }
    return { bytes }
  }

  #unreadable(spot: Spot, error: unknown, isLast: boolean): Outcome {
    const { files, holdings } = this.#deps
    const { copy, content, index } = spot
    const code = systemCode(error)
    if (code === undefined || busyCodes.has(code)) {
      throw asStorageError(`reading ${copy.path}`, error)
    }
    files.forget(copy.path)
    // Being published: the next pass finds it at its place.
    const isMoved = code === 'ENOENT' && copy.kind === 'partial' && !isLast
    if (isMoved) return { reason: `${copy.path} was moved` }
    // A sector that cannot be read is one bad chunk; a file that cannot be opened is none of ours now.
    if (code === 'EIO' || copy.kind === 'partial') holdings.noteDamage(copy, content, [index])
    else holdings.noteStamp(copy.file, undefined)
    return { reason: `${copy.path}: ${code}` }
  }
}

/** The machine's state, not the file's. */
const busyCodes: ReadonlySet<string> = new Set(['EMFILE', 'ENFILE', 'ENOMEM', 'EINTR', 'EAGAIN'])

function notHeld(root: CID, chunk: number): NotFoundError {
  return new NotFoundError(`chunk ${chunk} of ${root.toString()} is not held here`)
}

interface ChunkRead {
  /** Shorter than the chunk at the end of a file that was cut. */
  readonly bytes: Uint8Array
  /** Of what lies at the path. */
  readonly stamp: FileStamp
  /** What lies at the path is a regular file, and the one that was read. */
  readonly isSame: boolean
}

/** Reads first and looks after, so that the look covers the read. */
async function readWithStamp(
  handle: FileHandle,
  path: string,
  { offset, length, into }: Pick<ChunkRef, 'length' | 'offset'> & Pick<ReadOptions, 'into'>,
): Promise<ChunkRead> {
  // Not from Buffer's shared pool: the caller may keep a chunk, or transfer it to a thread.
  const buffer =
    into === undefined ? Buffer.allocUnsafeSlow(length) : viewOf(into.subarray(0, length))
  const bytes = buffer.subarray(0, await readFull(handle, buffer, offset))
  const stats = await stat(path, { bigint: true })
  const stamp = stampOf(stats)
  const opened = await inodeOf(handle)
  return { bytes, stamp, isSame: stats.isFile() && opened === stamp.ino }
}

/** How much was read: less than the buffer only at the end of the file. */
export async function readFull(
  handle: FileHandle,
  buffer: Buffer,
  offset: number,
): Promise<number> {
  let filled = 0
  while (filled < buffer.length) {
    const rest = buffer.length - filled
    const { bytesRead } = await handle.read(buffer, filled, rest, offset + filled)
    if (bytesRead === 0) break
    filled += bytesRead
  }
  return filled
}

const inodes = new WeakMap<FileHandle, bigint>()

/** An open file keeps its inode: asked once. */
async function inodeOf(handle: FileHandle): Promise<bigint> {
  const known = inodes.get(handle)
  if (known !== undefined) return known
  const { ino } = await handle.stat({ bigint: true })
  inodes.set(handle, ino)
  return ino
}
