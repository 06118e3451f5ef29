/**
 * Writes at offsets of files that others opened: one write of each file at a time, since parallel ones
 * only wait for each other inside the kernel, and burn a core while they do.
 */

import { write } from 'node:fs'
import { messageOf, StorageError } from '../core/errors.ts'

export class FileWriter {
  /** By descriptor: settles, never rejects, when the last queued write is done. */
  readonly #tails = new Map<number, Promise<void>>()

  /** Resolves when all is written; StorageError, with the system's error as its cause. */
  async write(fd: number, bytes: Uint8Array, offset: number): Promise<void> {
    const before = this.#tails.get(fd)
    const written =
      before === undefined
        ? writeAll(fd, bytes, offset)
        : this.#after(before, { fd, bytes, offset })
    const tail = written.catch(() => undefined)
    this.#tails.set(fd, tail)
    try {
      await written
    } catch (error) {
      throw new StorageError(`writing: ${messageOf(error)}`, { cause: error })
    } finally {
      if (this.#tails.get(fd) === tail) this.#tails.delete(fd)
    }
  }

  /** Resolves when everything queued until now was written or failed. */
  async idle(): Promise<void> {
    await Promise.all(this.#tails.values())
  }

  async #after(
    before: Promise<void>,
    { fd, bytes, offset }: { fd: number; bytes: Uint8Array; offset: number },
  ): Promise<void> {
    await before
    await writeAll(fd, bytes, offset)
  }
}

async function writeAll(fd: number, bytes: Uint8Array, offset: number): Promise<void> {
  for (let done = 0; done < bytes.length;)
    done += await writeSome(fd, bytes.subarray(done), offset + done)
}

function writeSome(fd: number, bytes: Uint8Array, offset: number): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>()
  write(fd, bytes, 0, bytes.length, offset, (error, count) => {
    if (error === null) resolve(count)
    else reject(error)
  })
  return promise
}
