/** The names that git gives to bytes: SHA-1 of the object that they make. */

import { createHash, hash } from 'node:crypto'
import { viewOf } from './bytes.ts'

export type GitKind = 'blob' | 'commit' | 'tree'

/** 40 lower-case hex digits. */
export function gitOid(kind: GitKind, bytes: Uint8Array): string {
  return hash('sha1', Buffer.concat([Buffer.from(`${kind} ${bytes.length}\0`), viewOf(bytes)]))
}

/** The same for a blob that comes in pieces, `size` bytes in all. */
export async function gitBlobOid(size: number, pieces: AsyncIterable<Uint8Array>): Promise<string> {
  const state = createHash('sha1').update(`blob ${size}\0`)
  for await (const piece of pieces) state.update(piece)
  return state.digest('hex')
}
