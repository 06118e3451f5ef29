/**
 * The URL of a web seed as people write it, and the URLs of the files behind it
 * (docs/spec/web-seeds.md, section 2). What can be refused without asking anybody is refused here.
 */

import { InvalidInputError } from '../../core/errors.ts'
import { isLinkLocal, linkLocalPlace, literalOf, type Zone, zoneOf } from './address-guard.ts'

/** Longer ones are cut by servers and proxies, too. */
export const urlCharactersMax = 2048

export interface WebSeedRules {
  /** Hosts of this machine and its network may be asked. */
  readonly allowPrivate: boolean
}

export interface WebSeedUrl {
  /** The URL without its query, which may be a signature: shown, and what blame is kept by. */
  readonly id: string
  readonly url: URL
  /** tree: files lie below it. file: it is the only file of a model. */
  readonly kind: 'tree' | 'file'
}

/** Throws InvalidInputError that says what a web seed looks like. */
export function parseWebSeed(text: string, rules: WebSeedRules): WebSeedUrl {
  const url = text.length <= urlCharactersMax && URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined) {
    throw new InvalidInputError(`not a URL: ${JSON.stringify(text.slice(0, 100))}`, {
      hint: `a web seed is an https:// URL of at most ${urlCharactersMax} characters`,
    })
  }
  const id = `${url.origin}${url.pathname}`
  const fault = faultOf(url)
  if (fault !== undefined) throw new InvalidInputError(`the web seed ${id} ${fault}`)
  const literal = literalOf(url)
  if (literal !== undefined && isLinkLocal(literal)) {
    throw new InvalidInputError(`the web seed ${id} is ${linkLocalPlace}`)
  }
  if (literal !== undefined && !rules.allowPrivate && zoneOf(literal) === 'private') {
    throw new InvalidInputError(`the web seed ${id} is a private address`, { hint: privateHint })
  }
  // For a name that is found out when it is looked up.
  const mayBePrivate =
    rules.allowPrivate && (literal === undefined || zoneOf(literal) === 'private')
  if (url.protocol === 'http:' && !mayBePrivate) {
    throw new InvalidInputError(`the web seed ${id} is not https`, {
      hint: 'http is for private addresses only, and for those if webseed.allow_private is set',
    })
  }
  return { id, url, kind: url.pathname.endsWith('/') ? 'tree' : 'file' }
}

const privateHint = 'set webseed.allow_private to let hosts of your own network be asked'

function faultOf(url: URL): string | undefined {
  if (url.protocol !== 'https:' && url.protocol !== 'http:') return 'is not https'
  if (url.username !== '' || url.password !== '') return 'has a user name or password in it'
  if (url.hash !== '') return 'has a fragment'
  if (url.search === '') return undefined
  if (url.pathname.endsWith('/')) return 'has a query behind a folder'
  // A link must not be able to push the buttons of a service inside.
  const literal = literalOf(url)
  return literal !== undefined && zoneOf(literal) === 'private' ? queryInside : undefined
}

const queryInside = 'has a query and is a private address'

export interface WebSeedFault {
  /** What follows the name of a host, or of a web seed. */
  readonly fault: string
  readonly hint?: string
}

/** What cannot be seen in the text of a URL: where its host is. */
export function faultOfZone(
  { protocol, search }: URL,
  zone: Zone,
  mayBePrivate: boolean,
): WebSeedFault | undefined {
  if (zone === 'private' && !mayBePrivate) {
    return { fault: 'leads to a private address', hint: privateHint }
  }
  if (zone === 'public' && protocol === 'http:') {
    return { fault: 'is public and asked for by http', hint: 'write https://' }
  }
  return zone === 'private' && search !== '' ? { fault: queryInside } : undefined
}

/** The path of a manifest, segment by segment as RFC 3986 writes it; parsePath has accepted it. */
export function urlOfFile({ url, kind }: WebSeedUrl, path: string): URL {
  if (kind === 'file') return url
  return new URL(`${url.href}${path.split('/').map(encodeSegment).join('/')}`)
}

/** A `+` is a space to some servers, and the marks that encodeURIComponent leaves are not safe in all. */
function encodeSegment(segment: string): string {
  return encodeURIComponent(segment).replaceAll(
    /[!'()*]/gu,
    mark => `%${mark.charCodeAt(0).toString(16).toUpperCase()}`,
  )
}
