/**
 * Where one file on disk is cut: its format says where tensors start, cw-chunk-1 does the rest.
 * Reads are synchronous, as the threads that hash are made to wait: never on the main thread.
 */

import { readSync } from 'node:fs'
import type { ByteSource } from '../core/bytes.ts'
import { planChunks } from '../dag/chunking.ts'
import { tensorStarts } from '../formats/detect.ts'

/** The chunk lengths of a file, in order. */
export async function planFile(source: ByteSource): Promise<Uint32Array> {
  return planChunks(source.size, await tensorStarts(source))
}

/** An open file as a source of `size` bytes; a read that comes out short rejects. */
export function descriptorSource(fd: number, size: number): ByteSource {
  return {
    size,
    // Async for its errors: they reject, as ByteSource promises.
    async readAt(offset, length) {
      if (offset < 0 || length < 0 || offset + length > size) {
        throw new RangeError(`no bytes ${offset}+${length} of ${size}`)
      }
      const bytes = Buffer.allocUnsafe(length)
      const got = readFully(fd, bytes, offset)
      if (got < length) throw new RangeError(`the file ends after ${offset + got} bytes`)
      return bytes
    },
  }
}

/** Fills `bytes` from `offset` and returns how many there were: fewer only at the end of the file. */
export function readFully(fd: number, bytes: Uint8Array, offset: number): number {
  let got = 0
  while (got < bytes.length) {
    const read = readSync(fd, bytes, got, bytes.length - got, offset + got)
    if (read === 0) break
    got += read
  }
  return got
}
