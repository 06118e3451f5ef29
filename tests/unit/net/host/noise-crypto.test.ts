import { randomBytes } from 'node:crypto'
import { pureJsCrypto } from '@chainsafe/libp2p-noise'
import { Uint8ArrayList } from 'uint8arraylist'
import { expect, test } from 'vitest'
import { openNoiseCrypto } from '../../../../src/net/host/noise-crypto.ts'

const ours = openNoiseCrypto()
const key = Uint8Array.from(randomBytes(32))
const nonce = Uint8Array.from(randomBytes(12))

/** Noise brings its own copy of Uint8ArrayList, whose type is another. */
type Sealed = ReturnType<typeof ours.chaCha20Poly1305Encrypt>

function flat(bytes: Uint8Array | Sealed): string {
  return Buffer.from(bytes.subarray()).toString('hex')
}

function listOf(...parts: Uint8Array[]): Sealed {
  return new Uint8ArrayList(...parts) as unknown as Sealed
}

test.for([0, 1, 15, 16, 17, 1024, 65_519])('agrees with @noble on %i bytes, both ways', length => {
  const text = Uint8Array.from(randomBytes(length))
  for (const ad of [new Uint8Array(), Uint8Array.from(randomBytes(32))]) {
    const sealed = ours.chaCha20Poly1305Encrypt(text, nonce, ad, key)
    const theirs = pureJsCrypto.chaCha20Poly1305Encrypt(text, nonce, ad, key)
    expect(flat(sealed)).toBe(flat(theirs))
    expect(flat(ours.chaCha20Poly1305Decrypt(theirs, nonce, ad, key))).toBe(flat(text))
    expect(flat(pureJsCrypto.chaCha20Poly1305Decrypt(sealed, nonce, ad, key))).toBe(flat(text))
  }
})

test('takes messages that arrive in parts', () => {
  const text = Uint8Array.from(randomBytes(1000))
  const parts = listOf(text.subarray(0, 300), text.subarray(300))
  const ad = new Uint8Array()
  const sealed = ours.chaCha20Poly1305Encrypt(parts, nonce, ad, key).subarray()
  expect(flat(sealed)).toBe(flat(ours.chaCha20Poly1305Encrypt(text, nonce, ad, key)))
  const pieces = listOf(sealed.subarray(0, 500), sealed.subarray(500, 1010), sealed.subarray(1010))
  expect(flat(ours.chaCha20Poly1305Decrypt(pieces, nonce, ad, key))).toBe(flat(text))
})

test('refuses a message with one bit changed, another key, nonce or associated data', () => {
  const text = Uint8Array.from(randomBytes(100))
  const ad = Uint8Array.from(randomBytes(8))
  const sealed = ours.chaCha20Poly1305Encrypt(text, nonce, ad, key).subarray()
  for (const at of [0, 50, sealed.length - 1]) {
    const changed = Uint8Array.from(sealed)
    changed[at] = (changed[at] ?? 0) ^ 1
    expect(() => ours.chaCha20Poly1305Decrypt(changed, nonce, ad, key)).toThrow(
      /auth|tag|state|bytes|plaintextLength/iu,
    )
  }
  const other = Uint8Array.from(randomBytes(32))
  expect(() => ours.chaCha20Poly1305Decrypt(sealed, nonce, ad, other)).toThrow(
    /auth|tag|state|bytes|plaintextLength/iu,
  )
  expect(() => ours.chaCha20Poly1305Decrypt(sealed, other.subarray(0, 12), ad, key)).toThrow(
    /auth|tag|state|bytes|plaintextLength/iu,
  )
  expect(() => ours.chaCha20Poly1305Decrypt(sealed, nonce, new Uint8Array(), key)).toThrow(
    /auth|tag|state|bytes|plaintextLength/iu,
  )
  expect(() => ours.chaCha20Poly1305Decrypt(sealed.subarray(0, 10), nonce, ad, key)).toThrow(
    /auth|tag|state|bytes|plaintextLength/iu,
  )
})

test('keys are told apart even when used in turns', () => {
  const keys = [1, 2, 3].map(() => Uint8Array.from(randomBytes(32)))
  const text = Uint8Array.from(randomBytes(64))
  const ad = new Uint8Array()
  for (let turn = 0; turn < 2; turn += 1) {
    for (const each of keys) {
      const sealed = ours.chaCha20Poly1305Encrypt(text, nonce, ad, each)
      expect(flat(sealed)).toBe(flat(pureJsCrypto.chaCha20Poly1305Encrypt(text, nonce, ad, each)))
    }
  }
})
