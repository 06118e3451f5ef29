/**
 * The only place where received bytes become a VerifiedBlock. Everything that stores or serves takes
 * a VerifiedBlock, so unverified bytes cannot get past the type checker.
 */

import type { Brand } from '../core/brand.ts'
import { equalBytes, toHex } from '../core/bytes.ts'
import { type CID, digestOf } from '../core/cid.ts'
import { sha256 } from '../core/digest.ts'
import { IntegrityError } from '../core/errors.ts'

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
