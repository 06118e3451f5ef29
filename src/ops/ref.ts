/**
 * What a user may call a model or a file: a manifest CID, a file root CID, sha256:HEX, a cw:// link,
 * or the name of a model held here. Parsed once, at the border. The link is docs/spec/links.md.
 */

import { fromHex } from '../core/bytes.ts'
import { type CID, codecs, parseCid } from '../core/cid.ts'
import { digestBytes } from '../core/digest.ts'
import { nameHint, refHint } from '../api/schema-faults.ts'
import { InvalidInputError } from '../core/errors.ts'

export type Ref =
  | {
      readonly kind: 'manifest'
      readonly manifest: CID
      /** Multiaddrs of nodes that hold it, from a link. */
      readonly peers: readonly string[]
      /** URLs of web servers that hold the files, from a link. */
      readonly webSeeds: readonly string[]
      readonly name: string | undefined
    }
  | { readonly kind: 'file'; readonly root: CID }
  | { readonly kind: 'sha256'; readonly digest: Uint8Array }
  | { readonly kind: 'name'; readonly name: string }

export interface Link {
  readonly manifest: CID
  readonly peers: readonly string[]
  readonly webSeeds: readonly string[]
  readonly name: string | undefined
}

/** Addresses in a link we make or read: more would not fit a chat message, and each costs a dial. */
export const linkPeersMax = 8
export const linkWebSeedsMax = 8
export const nameCharactersMax = 200

const linkPrefix = 'cw://'
const digestPrefix = 'sha256:'
/** As src/hub/ref.ts reads it. */
const hubPrefix = 'hf:'
/** base32 CIDs of ours have 59 characters; something close to one is a typing error, not a name. */
const cidLike = /^(?:baf[a-z0-9]{41,}|Qm[1-9A-HJ-NP-Za-km-z]{44})$/iu
/** Letters, digits and `._-`, with `/` between the parts, as hubs name models. */
const namePattern = /^[\p{L}\p{N}][\p{L}\p{N}._-]*(?:\/[\p{L}\p{N}][\p{L}\p{N}._-]*){0,3}$/u

/** Throws InvalidInputError that says which forms there are. */
export function parseRef(text: string): Ref {
  if (text.startsWith(linkPrefix)) return { kind: 'manifest', ...parseLink(text) }
  if (text.startsWith(digestPrefix)) return { kind: 'sha256', digest: parseDigest(text) }
  if (cidLike.test(text)) {
    const cid = parseCid(text)
    return cid.code === codecs.dagCbor
      ? { kind: 'manifest', manifest: cid, peers: [], webSeeds: [], name: undefined }
      : { kind: 'file', root: cid }
  }
  return { kind: 'name', name: parseName(text, refHint) }
}

/** A model name, unchanged; throws InvalidInputError. */
export function parseName(text: string, hint: string = nameHint): string {
  if (text.startsWith(hubPrefix)) {
    throw new InvalidInputError(`${text.slice(0, 100)} is a repository of a hub`, {
      hint: `commonweight mirror ${text.slice(0, 100)} fetches it; what is here has the name ${text.slice(hubPrefix.length, 100)}`,
    })
  }
  if (!isName(text)) {
    throw new InvalidInputError(`not a model name: ${JSON.stringify(text.slice(0, 100))}`, {
      hint,
    })
  }
  return text
}

export function isName(text: string): boolean {
  return (
    text.length <= nameCharactersMax && namePattern.test(text) && text === text.normalize('NFC')
  )
}

function parseDigest(text: string): Uint8Array {
  const hex = text.slice(digestPrefix.length).toLowerCase()
  if (hex.length !== digestBytes * 2 || !/^[0-9a-f]*$/u.test(hex)) {
    throw new InvalidInputError(`not a SHA-256: ${text.slice(0, 100)}`, {
      hint: 'sha256: is followed by 64 hexadecimal digits',
    })
  }
  return fromHex(hex)
}

export function parseLink(text: string): Link {
  const [address = '', query = ''] = text.slice(linkPrefix.length).split('?', 2)
  if (address === '') {
    throw new InvalidInputError('the cw:// link names no manifest', {
      hint: 'it looks like cw://bafyrei…?peer=…: copy it whole, and quote it in a shell',
    })
  }
  const manifest = parseCid(address.replace(/\/$/u, ''))
  if (manifest.code !== codecs.dagCbor) {
    throw new InvalidInputError(`a cw:// link names a manifest, and ${address} is a file`, {
      hint: 'use the file CID alone as REF',
    })
  }
  const parameters = new URLSearchParams(query)
  const name = parameters.get('name') ?? undefined
  return {
    manifest,
    peers: parameters.getAll('peer').slice(0, linkPeersMax),
    webSeeds: parameters.getAll('ws').slice(0, linkWebSeedsMax),
    name: name === undefined ? undefined : parseName(name),
  }
}

/** The link as a person passes it on: slashes stay readable. */
export function formatLink(link: Link): string {
  const parameters = [
    ...link.peers.slice(0, linkPeersMax).map(peer => `peer=${encodeValue(peer)}`),
    ...link.webSeeds.slice(0, linkWebSeedsMax).map(url => `ws=${encodeValue(url)}`),
    ...(link.name === undefined ? [] : [`name=${encodeValue(link.name)}`]),
  ]
  const query = parameters.length === 0 ? '' : `?${parameters.join('&')}`
  return `${linkPrefix}${link.manifest.toString()}${query}`
}

function encodeValue(value: string): string {
  return encodeURIComponent(value).replaceAll('%2F', '/').replaceAll('%3A', ':')
}
