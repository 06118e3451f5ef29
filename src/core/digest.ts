/**
 * SHA-256. The only file that chooses an implementation: node:crypto, because it is ten times
 * @noble/hashes on machines with SHA extensions (1.3 GB/s against 0.14 GB/s a core).
 */

import { createHash, hash } from 'node:crypto'

export const digestBytes = 32

/** The 32-byte SHA-256 of `bytes`. */
export function sha256(bytes: Uint8Array): Uint8Array {
  return hash('sha256', bytes, 'buffer')
}

export interface Hasher {
  update(bytes: Uint8Array): void
  /** 32 bytes; the hasher is used up. */
  digest(): Uint8Array
}

/** A streaming SHA-256. */
export function createSha256(): Hasher {
  const state = createHash('sha256')
  return {
    update(bytes) {
      state.update(bytes)
    },
    digest: () => state.digest(),
  }
}
