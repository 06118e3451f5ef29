import { CID } from 'multiformats/cid'
import * as Digest from 'multiformats/hashes/digest'
import { sha256 } from '@noble/hashes/sha2.js'
import { expect, test } from 'vitest'
import {
  cidBytes,
  cidText,
  codecs,
  decodeCid,
  digestOf,
  makeCid,
  parseCid,
  rawCid,
  sameCid,
} from '../../../src/core/cid.ts'
import { InvalidInputError } from '../../../src/core/errors.ts'

const digest = sha256(Buffer.from('weights'))

test.for(Object.entries(codecs))(
  'a %s CID is read back from its text and its bytes',
  ([, codec]) => {
    const cid = makeCid(codec, digest)
    expect(cid.bytes).toHaveLength(cidBytes)
    expect(sameCid(parseCid(cid.toString()), cid)).toBe(true)
    expect(sameCid(decodeCid(cid.bytes), cid)).toBe(true)
    expect(Buffer.from(digestOf(cid)).equals(digest)).toBe(true)
  },
)

test.for(Object.values(codecs))('codec %i has one text, however it is asked for', codec => {
  const cid = makeCid(codec, digest)
  expect(cidText(cid)).toBe(cid.toString())
})

test('equal digests under two codecs are not the same', () => {
  expect(sameCid(rawCid(digest), makeCid(codecs.dagPb, digest))).toBe(false)
  expect(sameCid(rawCid(digest), rawCid(sha256(digest)))).toBe(false)
})

const foreign = [
  ['version 0', CID.createV0(Digest.create(0x12, digest))],
  ['another codec', CID.createV1(0x51, Digest.create(0x12, digest))],
  ['another hash', CID.createV1(0x55, Digest.create(0x1e, digest))],
  ['a digest cut short', CID.createV1(0x55, Digest.create(0x12, digest.subarray(0, 20)))],
  ['an identity digest', CID.createV1(0x55, Digest.create(0, digest))],
] as const

test.for(foreign)('refuses %s as text and as bytes', ([, cid]) => {
  expect(() => parseCid(cid.toString())).toThrow(InvalidInputError)
  expect(() => decodeCid(cid.bytes)).toThrow(InvalidInputError)
})

test.for(['', 'bafy', 'not a cid', 'Qm'.repeat(400)])('refuses the text %j with a hint', text => {
  expect(() => parseCid(text)).toThrow(expect.objectContaining({ hint: expect.any(String) }))
})

test('refuses bytes after the CID and bytes missing', () => {
  const { bytes } = rawCid(digest)
  expect(() => decodeCid(Buffer.concat([bytes, Buffer.of(0)]))).toThrow(InvalidInputError)
  expect(() => decodeCid(bytes.subarray(0, -1))).toThrow(InvalidInputError)
  expect(() => decodeCid(new Uint8Array(0))).toThrow(InvalidInputError)
})
