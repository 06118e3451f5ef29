/**
 * The only place where received bytes become a VerifiedBlock. Everything that stores or serves takes
 * a VerifiedBlock, so unverified bytes cannot get past the type checker.
 */

import type { Brand } from '../core/brand.ts'
import { equalBytes, toHex } from '../core/bytes.ts'
import { type CID, digestOf, sameCid } from '../core/cid.ts'
import { sha256 } from '../core/digest.ts'
import { IntegrityError, messageOf } from '../core/errors.ts'
import { ChunkTable } from './chunk-table.ts'
import { rootOf } from './unixfs.ts'

/** Bytes that were hashed and found to be what their digest says. */
export type VerifiedBlock = Brand<
  { readonly digest: Uint8Array; readonly bytes: Uint8Array },
  'VerifiedBlock'
>

/** Checks bytes against a 32-byte SHA-256; throws IntegrityError. */
export function verifyDigest(digest: Uint8Array, bytes: Uint8Array): VerifiedBlock {
  const actual = sha256(bytes)
  if (!equalBytes(actual, digest)) {
    throw new IntegrityError(
      `${bytes.length} bytes: expected SHA-256 ${toHex(digest)}, got ${toHex(actual)}`,
    )
  }
  return { digest, bytes } as VerifiedBlock
}

/** Checks bytes against a CID; throws IntegrityError. */
export function verifyBlock(cid: CID, bytes: Uint8Array): VerifiedBlock {
  return verifyDigest(digestOf(cid), bytes)
}

/**
 * Checks the chunk table that somebody sent for a file of `size` bytes by building the DAG over it;
 * throws IntegrityError when that has another root. A table is then as good as the root itself.
 */
export function verifyTable(root: CID, size: number, bytes: Uint8Array): ChunkTable {
  const table = tableFrom(root, bytes)
  if (table.size !== size) {
    throw new IntegrityError(
      `the chunk table of ${root.toString()} covers ${table.size} bytes, not ${size}`,
    )
  }
  const actual = rootOf(table)
  if (!sameCid(actual, root)) {
    throw new IntegrityError(
      `the chunk table of ${root.toString()} makes the root ${actual.toString()}`,
    )
  }
  return table
}

function tableFrom(root: CID, bytes: Uint8Array): ChunkTable {
  try {
    return new ChunkTable(bytes)
  } catch (error) {
    throw new IntegrityError(`the chunk table of ${root.toString()}: ${messageOf(error)}`, {
      cause: error,
    })
  }
}
