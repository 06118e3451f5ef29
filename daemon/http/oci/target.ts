/** What a URL under /v2/ asks for: docs/spec/oci.md section 2. */

export type RegistryTarget =
  | { readonly kind: 'none' }
  | { readonly kind: 'root' }
  | { readonly kind: 'tags'; readonly names: Names }
  | { readonly kind: 'manifest'; readonly names: Names; readonly reference: string }
  | { readonly kind: 'blob'; readonly names: Names; readonly digest: string }

/** How the name can be read: the first that is known is meant. */
export type Names = readonly { readonly name: string }[]

/** A type such as `datasets`, a namespace and a name. */
const nameSegmentsMax = 3
const nameSegment = /^[\w\-.]{1,96}$/u
/** Ollama writes `sha256-` in file names, and some of its friends in URLs too. */
const digestPattern = /^sha256[:-]([0-9a-f]{64})$/u

export function isRegistryPath(url: string): boolean {
  return /^\/v2(?:[/?]|$)/u.test(url)
}

/** Undefined when it is none of a registry's: a repository of a hub may begin with `v2` too. */
export function parseRegistryTarget(url: string): RegistryTarget | undefined {
  if (!isRegistryPath(url)) return undefined
  const [path = ''] = url.split('?', 1)
  const segments = path.split('/').slice(2).map(decodeSegment)
  if (segments.at(-1) === '') segments.pop()
  if (segments.length === 0) return { kind: 'root' }
  return repositoryTarget(segments) ?? (isOfHub(segments) ? undefined : { kind: 'none' })
}

function repositoryTarget(segments: readonly string[]): RegistryTarget | undefined {
  const [verb, last = ''] = segments.slice(-2)
  const names = readNames(segments.slice(0, -2))
  if (names === undefined) return undefined
  if (verb === 'tags' && last === 'list') return { kind: 'tags', names }
  if (verb === 'manifests') return { kind: 'manifest', names, reference: last }
  if (verb === 'blobs') return { kind: 'blob', names, digest: last }
  return undefined
}

/** Clients put `library/` before a name that has no namespace. */
function readNames(segments: readonly string[]): Names | undefined {
  if (segments.length === 0 || segments.length > nameSegmentsMax) return undefined
  if (!segments.every(segment => nameSegment.test(segment))) return undefined
  const name = segments.join('/')
  const isPrefixed = segments.length === 2 && segments[0] === 'library'
  return isPrefixed ? [{ name }, { name: segments[1] ?? '' }] : [{ name }]
}

function isOfHub(segments: readonly string[]): boolean {
  return segments.slice(0, 2).some(segment => segment === 'resolve' || segment === 'raw')
}

/** What is not percent-encoded UTF-8 is no name and no digest either. */
function decodeSegment(segment: string): string {
  try {
    return decodeURIComponent(segment)
  } catch {
    return segment
  }
}

/** The 64 digits of a digest; undefined when it is a tag or not understood. */
export function parseDigest(text: string): string | undefined {
  return digestPattern.exec(text)?.[1]
}
