/** Certificates as lanes use them, and ones that are wrong in a way that a test chooses. */

import { generateKeyPairSync, type KeyObject, sign, X509Certificate } from 'node:crypto'
import { generateKeyPair } from '@libp2p/crypto/keys'
import type { PrivateKey } from '@libp2p/interface'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { type LaneIdentity, makeLaneIdentity } from '../../src/bulk/certificate.ts'
import { contextTag, der, derTags } from '../../src/bulk/der.ts'

export interface TestPeer {
  readonly key: PrivateKey
  /** As text. */
  readonly id: string
  readonly identity: LaneIdentity
}

export async function makePeer(): Promise<TestPeer> {
  const key = await generateKeyPair('Ed25519')
  return { key, id: peerIdFromPrivateKey(key).toString(), identity: await makeLaneIdentity(key) }
}

/** The DER of a certificate in PEM. */
export function rawOf({ cert }: Pick<LaneIdentity, 'cert'>): Uint8Array {
  return new X509Certificate(cert).raw
}

export const { bitString, boolean, integer, octetString, sequence, set, utcTime, utf8 } = derTags
const oid = (hex: string): Uint8Array => der(derTags.oid, Buffer.from(hex, 'hex'))
export const libp2pOid = oid('2b0601040183a25a0101')
const ecdsaWithSha256 = der(sequence, oid('2a8648ce3d040302'))

export interface Forgery {
  readonly host: PrivateKey
  /** What the host key signs; the honest prefix when left out. */
  readonly prefix?: string
  /** The key that the host vouches for; the certificate's own when left out. */
  readonly vouched?: KeyObject
  /** Who signs the certificate; itself when left out. */
  readonly signer?: KeyObject
  readonly curve?: string
  /** YYMMDDHHMMSSZ */
  readonly notBefore?: string
  readonly notAfter?: string
  /** Given the honest one. */
  readonly extensions?: (honest: Uint8Array) => Uint8Array[]
  /** Given the public key in protobuf and its signature. */
  readonly proof?: (host: Uint8Array, signature: Uint8Array) => Uint8Array
}

/** An extension, as DER. */
export function extension(id: Uint8Array, value: Uint8Array, isCritical = true): Uint8Array {
  const critical = isCritical ? [der(boolean, Buffer.from([0xff]))] : []
  return der(sequence, id, ...critical, der(octetString, value))
}

export async function forge(forgery: Forgery): Promise<LaneIdentity> {
  const { host, prefix = 'libp2p-tls-handshake:', curve = 'P-256' } = forgery
  const pair = generateKeyPairSync('ec', { namedCurve: curve })
  const spki = pair.publicKey.export({ type: 'spki', format: 'der' })
  const vouched = forgery.vouched?.export({ type: 'spki', format: 'der' }) ?? spki
  const signature = await host.sign(Buffer.concat([Buffer.from(prefix), vouched]))
  const hostKey = Buffer.concat([Buffer.from('08011220', 'hex'), host.publicKey.raw])
  const proof =
    forgery.proof?.(hostKey, signature) ??
    der(sequence, der(octetString, hostKey), der(octetString, signature))
  const honest = extension(libp2pOid, proof)
  const extensions = forgery.extensions?.(honest) ?? [honest]
  const name = der(sequence, der(set, der(sequence, oid('550403'), der(utf8, Buffer.from('test')))))
  const body = der(
    sequence,
    der(contextTag(0), der(integer, Buffer.from([2]))),
    der(integer, Buffer.from([0x17])),
    ecdsaWithSha256,
    name,
    der(
      sequence,
      der(utcTime, Buffer.from(forgery.notBefore ?? '200101000000Z')),
      der(utcTime, Buffer.from(forgery.notAfter ?? '491231235959Z')),
    ),
    name,
    spki,
    ...(extensions.length === 0 ? [] : [der(contextTag(3), der(sequence, ...extensions))]),
  )
  const signed = sign('sha256', body, forgery.signer ?? pair.privateKey)
  const whole = der(sequence, body, ecdsaWithSha256, der(bitString, Buffer.from([0]), signed))
  return {
    key: pair.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    cert: new X509Certificate(whole).toString(),
  }
}
