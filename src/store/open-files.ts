/**
 * Files kept open for reading: opening costs more than reading a chunk from the page cache. Bounded;
 * the one used longest ago is closed first, and never while it is being read.
 */

import { constants } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'

/** A shell's usual limit is 1024 descriptors, and sockets need most of them. */
export const openFilesMax = 128

interface OpenFile {
  readonly handle: Promise<FileHandle>
  users: number
  /** No longer in the list: closed by its last user. */
  forgotten: boolean
}

// O_NONBLOCK: a named pipe that took a file's place must not hang the reader.
const flags = constants.O_RDONLY | constants.O_NONBLOCK

export class OpenFiles implements AsyncDisposable {
  /** Least recently used first. */
  readonly #files = new Map<string, OpenFile>()

  /** Opens the file unless it is open, and keeps it open while `work` runs. */
  async use<T>(path: string, work: (handle: FileHandle) => Promise<T>): Promise<T> {
    const file = this.#files.get(path) ?? { handle: open(path, flags), users: 0, forgotten: false }
    this.#files.delete(path)
    this.#files.set(path, file)
    file.users += 1
    try {
      this.#closeIdle()
      return await work(await file.handle)
    } finally {
      file.users -= 1
      const handle = await file.handle.catch(() => undefined)
      if (handle === undefined && this.#files.get(path) === file) this.#files.delete(path)
      if (file.users === 0 && file.forgotten) await handle?.close()
      // More may have been read at once than are kept.
      this.#closeIdle()
    }
  }

  /** The next use opens the path anew. */
  forget(path: string): void {
    const file = this.#files.get(path)
    if (file !== undefined) this.#close(path, file)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const files = [...this.#files.values()]
    this.#files.clear()
    await Promise.all(files.map(async file => (await file.handle.catch(() => undefined))?.close()))
  }

  #closeIdle(): void {
    for (const [path, file] of this.#files) {
      if (this.#files.size <= openFilesMax) return
      if (file.users === 0) this.#close(path, file)
    }
  }

  #close(path: string, file: OpenFile): void {
    this.#files.delete(path)
    file.forgotten = true
    // A failed open has nothing to close, and its user was told.
    if (file.users === 0) void file.handle.then(handle => handle.close()).catch(() => undefined)
  }
}
