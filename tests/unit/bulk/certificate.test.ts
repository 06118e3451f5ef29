import { generateKeyPairSync, X509Certificate } from 'node:crypto'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { generateCertificate, verifyPeerCertificate } from '@libp2p/tls/utils'
import fc from 'fast-check'
import { beforeAll, expect, test } from 'vitest'
import {
  certificateBytesMax,
  makeLaneIdentity,
  peerOfCertificate,
} from '../../../src/bulk/certificate.ts'
import { der } from '../../../src/bulk/der.ts'
import { InvalidInputError, ProtocolError } from '../../../src/core/errors.ts'
import { day } from '../../../src/core/units.ts'
import { fuzzTimeoutMs, untilTime } from '../../support/fuzz.ts'
import {
  extension,
  forge,
  type Forgery,
  libp2pOid,
  makePeer,
  octetString,
  rawOf,
  sequence,
  type TestPeer,
} from '../../support/lane-certificates.ts'

let peer: TestPeer
beforeAll(async () => {
  peer = await makePeer()
})
const now = Date.now()

test('tells whose certificate it is', () => {
  expect(peerOfCertificate(rawOf(peer.identity), now)).toBe(peer.id)
})

test('libp2p accepts ours, and we accept theirs', async () => {
  const verified = await verifyPeerCertificate(rawOf(peer.identity))
  expect(verified.toString()).toBe(peer.id)
  const theirs = await generateCertificate(peer.key)
  expect(peerOfCertificate(rawOf(theirs), now)).toBe(peer.id)
})

test('each process has a key and certificate of its own, good from a day ago for a long time', async () => {
  const other = await makeLaneIdentity(peer.key, now)
  expect(other.key).not.toBe(peer.identity.key)
  const raw = rawOf(other)
  expect(peerOfCertificate(raw, now - day + 1000)).toBe(peer.id)
  expect(peerOfCertificate(raw, now + 99 * 365 * day)).toBe(peer.id)
  expect(() => peerOfCertificate(raw, now - day - 1000)).toThrow('not valid yet')
  expect(() => peerOfCertificate(raw, now + 100 * 365 * day + 1000)).toThrow('expired')
})

test('dates before and after 2050 are both written as X.509 wants them', async () => {
  const old = new X509Certificate((await makeLaneIdentity(peer.key, Date.UTC(2026, 0, 3))).cert)
  expect(old.validFromDate.toISOString()).toBe('2026-01-02T00:00:00.000Z')
  expect(old.validToDate.getUTCFullYear()).toBe(2125)
  const late = new X509Certificate((await makeLaneIdentity(peer.key, Date.UTC(2051, 0, 3))).cert)
  expect(late.validFromDate.toISOString()).toBe('2051-01-02T00:00:00.000Z')
})

test('a host key that is not Ed25519 has no lanes', async () => {
  const key = await generateKeyPair('ECDSA')
  await expect(makeLaneIdentity(key)).rejects.toThrow(InvalidInputError)
  const { cert } = await generateCertificate(key)
  expect(() => peerOfCertificate(rawOf({ cert }), now)).toThrow('not an Ed25519 key')
})

test('ignores other extensions that are not critical', async () => {
  const other = extension(der(0x06, Buffer.from([0x55, 0x1d, 0x0e])), der(octetString), false)
  const raw = rawOf(await forge({ host: peer.key, extensions: one => [other, one] }))
  expect(peerOfCertificate(raw, now)).toBe(peer.id)
})

const stranger = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const keyUsage = der(0x06, Buffer.from([0x55, 0x1d, 0x0f]))
const forgeries: [string, Omit<Forgery, 'host'>, string][] = [
  ['without the extension', { extensions: () => [] }, 'nothing'],
  [
    'with another extension only',
    { extensions: () => [extension(keyUsage, der(0x03), false)] },
    '0 extensions',
  ],
  ['with the extension twice', { extensions: one => [one, one] }, '2 extensions'],
  [
    'with another critical extension',
    { extensions: one => [one, extension(keyUsage, der(0x03))] },
    'critical',
  ],
  ['whose key the host vouched for another', { vouched: stranger.publicKey }, 'did not sign'],
  ['whose proof was made for something else', { prefix: 'another-protocol:' }, 'did not sign'],
  ['that another key signed', { signer: stranger.privateKey }, 'not signed by its own key'],
  ['that is not valid yet', { notBefore: '480101000000Z' }, 'not valid yet'],
  ['that has expired', { notAfter: '210101000000Z' }, 'expired'],
  ['with a key on another curve', { curve: 'P-384' }, 'P-256'],
  [
    'with a proof that holds more',
    { proof: (a, b) => der(sequence, der(octetString, a), der(octetString, b), der(octetString)) },
    'too much',
  ],
  [
    'with more after the proof',
    { extensions: () => [extension(libp2pOid, Buffer.concat([der(sequence), der(sequence)]))] },
    'too much',
  ],
  ['with a proof of one field', { proof: a => der(sequence, der(octetString, a)) }, 'not DER'],
  [
    'with a host key of another kind',
    {
      proof: (a, b) =>
        der(sequence, der(octetString, Buffer.from(a).fill(0, 1, 2)), der(octetString, b)),
    },
    'Ed25519',
  ],
]

test.for(forgeries)('refuses a certificate %s', async ([, forgery, message]) => {
  const raw = rawOf(await forge({ host: peer.key, ...forgery }))
  expect(() => peerOfCertificate(raw, now)).toThrow(ProtocolError)
  expect(() => peerOfCertificate(raw, now)).toThrow(message)
})

test('refuses what is too long, cut, followed by more, or changed in any byte', () => {
  const raw = rawOf(peer.identity)
  expect(() => peerOfCertificate(Buffer.alloc(certificateBytesMax + 1), now)).toThrow('4097 bytes')
  expect(() => peerOfCertificate(Buffer.concat([raw, Buffer.from([5, 0])]), now)).toThrow('follow')
  expect(() => peerOfCertificate(new Uint8Array(0), now)).toThrow(ProtocolError)
  for (let at = 0; at < raw.length; at += 7) {
    const changed = Buffer.from(raw)
    changed[at] = (changed[at] ?? 0) ^ 0x04
    expect(() => peerOfCertificate(raw.subarray(0, at), now), `cut at ${at}`).toThrow(ProtocolError)
    expect(() => peerOfCertificate(changed, now), `changed at ${at}`).toThrow(ProtocolError)
  }
})

test('throws nothing but ProtocolError, whatever bytes come', { timeout: fuzzTimeoutMs() }, () => {
  const raw = rawOf(peer.identity)
  const mutation = fc.record({
    at: fc.nat(raw.length),
    remove: fc.nat(20),
    insert: fc.uint8Array({ maxLength: 20 }),
  })
  fc.assert(
    fc.property(fc.array(mutation, { minLength: 1, maxLength: 4 }), mutations => {
      let bytes = Buffer.from(raw)
      for (const { at, remove, insert } of mutations) {
        bytes = Buffer.concat([bytes.subarray(0, at), insert, bytes.subarray(at + remove)])
      }
      try {
        expect(peerOfCertificate(bytes, now)).toBe(peer.id)
      } catch (error) {
        if (!(error instanceof ProtocolError)) throw error
      }
    }),
    { plugins: [untilTime()], numRuns: 1e6 },
  )
})
