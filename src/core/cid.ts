/**
 * Our CIDs: version 1, sha2-256, with codec raw (chunks), dag-pb (file DAG nodes) or dag-cbor
 * (manifests). Anything else is refused at the border: js kad-dht servers cannot serve other hashes.
 */

import { base32 } from 'multiformats/bases/base32'
import { CID } from 'multiformats/cid'
import * as Digest from 'multiformats/hashes/digest'
import { digestBytes } from './digest.ts'
import { InvalidInputError, messageOf } from './errors.ts'

export { CID } from 'multiformats/cid'

export const codecs = { raw: 0x55, dagPb: 0x70, dagCbor: 0x71 } as const
export type Codec = (typeof codecs)[keyof typeof codecs]

const sha256Code = 0x12
const knownCodecs: ReadonlySet<number> = new Set(Object.values(codecs))

/** Binary length of each of our CIDs: version, codec, hash code, hash length, 32 digest bytes. */
export const cidBytes = 4 + digestBytes

/** The CID of a block with this codec and SHA-256 digest (32 bytes). */
export function makeCid(codec: Codec, digest: Uint8Array): CID {
  return CID.createV1(codec, Digest.create(sha256Code, digest))
}

/** The CID of a chunk, or the DHT key of a whole file's SHA-256. */
export function rawCid(digest: Uint8Array): CID {
  return makeCid(codecs.raw, digest)
}

/** The 32 digest bytes inside one of our CIDs. */
export function digestOf(cid: CID): Uint8Array {
  return cid.multihash.digest
}

/** What toString gives, for many CIDs that are told once: that one remembers each text. */
export function cidText(cid: CID): string {
  return base32.encode(cid.bytes)
}

/** Parses the text form; throws InvalidInputError for anything but one of our CIDs. */
export function parseCid(text: string): CID {
  try {
    return ours(CID.parse(text))
  } catch (error) {
    // What the parser says of bad text helps nobody; what we say of a CID that is none of ours does.
    const reason = error instanceof ForeignCid ? ` of ours (${error.message})` : ''
    throw new InvalidInputError(`not a CID${reason}: ${text.slice(0, 100)}`, {
      cause: error,
      hint: 'a CID looks like bafy… or bafk…; copy it whole',
    })
  }
}

/** Parses the binary form (exactly 36 bytes); throws InvalidInputError. */
export function decodeCid(bytes: Uint8Array): CID {
  try {
    return ours(CID.decode(bytes))
  } catch (error) {
    throw new InvalidInputError(`not a CID: ${messageOf(error)}`, { cause: error })
  }
}

/** True when both name the same bytes the same way. */
export function sameCid(a: CID, b: CID): boolean {
  return a.code === b.code && Buffer.compare(digestOf(a), digestOf(b)) === 0
}

/** A CID, but of a kind that is not used here. */
class ForeignCid extends Error {}

function ours(cid: CID): CID {
  if (cid.version !== 1) throw new ForeignCid('it is version 0; only version 1 is used')
  if (!knownCodecs.has(cid.code)) throw new ForeignCid('its codec is not raw, dag-pb or dag-cbor')
  if (cid.multihash.code !== sha256Code || cid.multihash.size !== digestBytes) {
    throw new ForeignCid('its hash is not sha2-256')
  }
  return cid
}
