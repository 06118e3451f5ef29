import { sha256 as nobleSha256 } from '@noble/hashes/sha2.js'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { toHex } from '../../../src/core/bytes.ts'
import { createSha256, digestBytes, sha256 } from '../../../src/core/digest.ts'

test('agrees with an independent implementation, whole and in pieces', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 6 }), pieces => {
      const whole = Buffer.concat(pieces)
      const expected = toHex(nobleSha256(whole))
      expect(toHex(sha256(whole))).toBe(expected)
      const hasher = createSha256()
      for (const piece of pieces) hasher.update(piece)
      const digest = hasher.digest()
      expect(digest).toHaveLength(digestBytes)
      expect(toHex(digest)).toBe(expected)
    }),
  )
})
