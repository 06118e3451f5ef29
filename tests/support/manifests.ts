/** Files of manifests for tests: consistent by default, any field replaceable. */

import { codecs, makeCid, rawCid } from '../../src/core/cid.ts'
import { sha256 } from '../../src/core/digest.ts'
import type { ManifestFile } from '../../src/manifest/manifest.ts'

/** A file of one chunk, with bytes that differ by path. */
export function smallFile(path: string, size = 1000): ManifestFile {
  const digest = Uint8Array.from(sha256(Buffer.from(path)))
  return { path, size, sha256: digest, root: rawCid(digest) }
}

/** A file of several chunks. */
export function largeFile(path: string, size = 10_000_000): ManifestFile {
  const digest = Uint8Array.from(sha256(Buffer.from(path)))
  return { path, size, sha256: digest, root: makeCid(codecs.dagPb, sha256(digest)) }
}

export function emptyFileAt(path: string): ManifestFile {
  const digest = Uint8Array.from(sha256(new Uint8Array(0)))
  return { path, size: 0, sha256: digest, root: rawCid(digest) }
}
