/**
 * The certificate of a lane: an ephemeral P-256 key, and in an extension the word of the libp2p key
 * that the two belong together (docs/spec/lane.md; the TLS specification of libp2p). TLS proves that
 * the other side has the ephemeral key, the extension whose it is.
 */

import {
  createPublicKey,
  generateKeyPair,
  randomBytes,
  sign,
  verify,
  X509Certificate,
} from 'node:crypto'
import { promisify } from 'node:util'
import type { PrivateKey } from '@libp2p/interface'
import { base58btc } from 'multiformats/bases/base58'
import { equalBytes } from '../core/bytes.ts'
import { InvalidInputError, messageOf, ProtocolError } from '../core/errors.ts'
import { day, KiB } from '../core/units.ts'
import {
  contextTag,
  der,
  derContent,
  derElements,
  type DerElement,
  derInside,
  derTags,
} from './der.ts'

/** What TLS needs to prove who we are, as PEM: can be handed to other threads. */
export interface LaneIdentity {
  readonly key: string
  readonly cert: string
}

/** Ours have 360 bytes; those of other programs have names and extensions that we do not look at. */
export const certificateBytesMax = 4 * KiB

const { sequence, set, integer, bitString, octetString, boolean, utf8, utcTime, generalizedTime } =
  derTags

/** 1.3.6.1.4.1.53594.1.1: libp2p's. */
const extensionOid = Buffer.from('060a2b0601040183a25a0101', 'hex')
/** 1.2.840.10045.4.3.2: ECDSA with SHA-256. */
const ecdsaWithSha256 = der(sequence, Buffer.from('06082a8648ce3d040302', 'hex'))
/** 2.5.4.3 */
const commonName = Buffer.from('0603550403', 'hex')
const signaturePrefix = Buffer.from('libp2p-tls-handshake:')

/** Clocks differ; the certificate itself lives only as long as the process, whatever it says. */
const validBeforeMs = day
const validAfterMs = 100 * 365 * day
/** Until then dates are written with two digits of the year (RFC 5280). */
const utcYearEnd = 2050

/** A libp2p public key in protobuf: type 1 (Ed25519), and 32 bytes. */
const protobufPrefix = Buffer.from('08011220', 'hex')
const protobufBytes = protobufPrefix.length + 32
/** The peer id of a key so short is a multihash that holds the key itself: code 0, and the length. */
const identityPrefix = Buffer.from([0x00, protobufBytes])
/** SubjectPublicKeyInfo of an Ed25519 key is this and the key. */
const ed25519SpkiPrefix = Buffer.from('302a300506032b6570032100', 'hex')

const newKeyPair = promisify(generateKeyPair)

/** A fresh key and its certificate, for as long as this process runs. */
export async function makeLaneIdentity(
  hostKey: PrivateKey,
  nowMs = Date.now(),
): Promise<LaneIdentity> {
  if (hostKey.type !== 'Ed25519') {
    throw new InvalidInputError(`lanes need an Ed25519 key, and this one is ${hostKey.type}`)
  }
  const { publicKey, privateKey } = await newKeyPair('ec', { namedCurve: 'P-256' })
  const spki = publicKey.export({ type: 'spki', format: 'der' })
  const host = Buffer.concat([protobufPrefix, hostKey.publicKey.raw])
  const signature = await hostKey.sign(Buffer.concat([signaturePrefix, spki]))
  const body = tbsCertificate(spki, { host, signature, nowMs })
  const whole = der(
    sequence,
    body,
    ecdsaWithSha256,
    der(bitString, noUnusedBits, sign('sha256', body, privateKey)),
  )
  return {
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    cert: new X509Certificate(whole).toString(),
  }
}

const noUnusedBits = Buffer.from([0])

function tbsCertificate(
  spki: Uint8Array,
  { host, signature, nowMs }: { host: Uint8Array; signature: Uint8Array; nowMs: number },
): Uint8Array {
  const name = der(
    sequence,
    der(set, der(sequence, commonName, der(utf8, Buffer.from('commonweight')))),
  )
  const proof = der(sequence, der(octetString, host), der(octetString, signature))
  const extension = der(
    sequence,
    extensionOid,
    der(boolean, Buffer.from([0xff])),
    der(octetString, proof),
  )
  return der(
    sequence,
    der(contextTag(0), der(integer, Buffer.from([2]))),
    der(integer, serialNumber()),
    ecdsaWithSha256,
    name,
    der(sequence, time(nowMs - validBeforeMs), time(nowMs + validAfterMs)),
    name,
    spki,
    der(contextTag(3), der(sequence, extension)),
  )
}

/** Positive, and without leading zeros: one encoding. */
function serialNumber(): Uint8Array {
  const bytes = randomBytes(8)
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40
  return bytes
}

function time(ms: number): Uint8Array {
  const date = new Date(ms)
  const text = `${date.toISOString().replaceAll(/[-:T]|\.\d+/gu, '')}`
  return date.getUTCFullYear() < utcYearEnd
    ? der(utcTime, Buffer.from(text.slice(2)))
    : der(generalizedTime, Buffer.from(text))
}

/**
 * The peer, as text, whose certificate this is; throws ProtocolError when the certificate does not
 * prove it. That its sender has the certificate's key is for TLS to prove.
 */
export function peerOfCertificate(raw: Uint8Array, nowMs: number): string {
  if (raw.length > certificateBytesMax) throw refused(`${raw.length} bytes`)
  const { spki, extensions } = partsOf(raw)
  checkCertificate(raw, nowMs)
  const host = hostOf(extensions, spki)
  return base58btc.baseEncode(Buffer.concat([identityPrefix, host]))
}

/** What has to be right of any certificate; OpenSSL's errors are the sender's fault. */
function checkCertificate(raw: Uint8Array, nowMs: number): void {
  try {
    const certificate = new X509Certificate(raw)
    const { publicKey, validFromDate, validToDate } = certificate
    // Verifying costs what the key's kind costs, so the sender must not be free to choose.
    const { asymmetricKeyType, asymmetricKeyDetails } = publicKey
    if (asymmetricKeyType !== 'ec' || asymmetricKeyDetails?.namedCurve !== 'prime256v1') {
      throw refused('its key is not on the curve P-256')
    }
    if (!(validFromDate.getTime() <= nowMs)) throw refused('it is not valid yet')
    if (!(validToDate.getTime() >= nowMs)) throw refused('it has expired')
    if (!certificate.verify(publicKey)) throw refused('it is not signed by its own key')
  } catch (error) {
    throw error instanceof ProtocolError ? error : refused(messageOf(error), error)
  }
}

function partsOf(raw: Uint8Array): { spki: Uint8Array; extensions: DerElement[] } {
  const [certificate, ...rest] = derElements(raw)
  if (rest.length > 0) throw refused('bytes follow it')
  const [body] = derInside(certificate, sequence)
  const fields = derInside(body, sequence)
  // Version, serial number, algorithm, issuer, validity, subject, key; then what is optional.
  const key = fields[6]
  const optional = fields.find(({ tag }) => tag === contextTag(3))
  derContent(key, sequence)
  const [list] = derInside(optional, contextTag(3))
  return { spki: key?.whole ?? nothing, extensions: derInside(list, sequence) }
}

const nothing = new Uint8Array(0)

/** The libp2p public key, in protobuf, that vouches for the certificate's key. */
function hostOf(extensions: readonly DerElement[], spki: Uint8Array): Uint8Array {
  const proofs = extensions.flatMap(extension => {
    const [oid, ...rest] = derInside(extension, sequence)
    const value = rest.at(-1)
    if (oid !== undefined && equalBytes(oid.whole, extensionOid)) return [value]
    // What is critical must be understood.
    if (rest.some(({ tag }) => tag === boolean)) throw refused('it has another critical extension')
    return []
  })
  if (proofs.length !== 1) throw refused(`${proofs.length} extensions name a peer`)
  const [proof, ...beyond] = derElements(derContent(proofs[0], octetString))
  const [host, signature, ...more] = derInside(proof, sequence)
  if (beyond.length + more.length > 0) throw refused('its extension holds too much')
  const key = derContent(host, octetString)
  if (key.length !== protobufBytes || !equalBytes(key.subarray(0, 4), protobufPrefix)) {
    throw refused('the key of its peer is not an Ed25519 key')
  }
  if (!isVouchedFor(spki, key, derContent(signature, octetString))) {
    throw refused('the key of its peer did not sign it')
  }
  return key
}

function isVouchedFor(spki: Uint8Array, host: Uint8Array, signature: Uint8Array): boolean {
  const hostKey = createPublicKey({
    key: Buffer.concat([ed25519SpkiPrefix, host.subarray(protobufPrefix.length)]),
    format: 'der',
    type: 'spki',
  })
  return verify(null, Buffer.concat([signaturePrefix, spki]), hostKey, signature)
}

function refused(why: string, cause?: unknown): ProtocolError {
  return new ProtocolError(`the certificate is refused: ${why}`, { cause })
}
