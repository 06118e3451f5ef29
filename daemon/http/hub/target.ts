/**
 * What a URL of the Hub API asks for. Raw paths are split before they are decoded, because revisions
 * and folders arrive both as one segment with %2F and as several: docs/spec/hub-gateway.md section 2.
 */

import { InvalidInputError } from '../../../src/core/errors.ts'

/** Segments of a path: 32 of a file's, and those before it. */
const segmentsMax = 48
/** A revision such as `refs/heads/main` that came as several segments. */
const revisionSegmentsMax = 4

const repoVerbs = [
  'auth-check',
  'commits',
  'discussions',
  'paths-info',
  'refs',
  'revision',
  'tree',
  'xet-read-token',
] as const
const fileVerbs = ['resolve', 'raw'] as const
type Verb = 'cas' | 'info' | (typeof repoVerbs)[number] | (typeof fileVerbs)[number]

/** One way to read the URL: `gpt2/refs` is a repository, or the refs of `gpt2`. */
export interface RepoTarget {
  /** What the gateway knows it by: the id, after the type unless that is a model. */
  readonly name: string
  readonly verb: Verb
  /** Decoded segments after the verb: revision and path. */
  readonly rest: readonly string[]
}

export type Target =
  | { readonly kind: 'agent-harnesses' | 'none' | 'telemetry' | 'whoami' }
  | { readonly kind: 'list'; readonly type: string }
  /** The first one whose repository is known is meant. */
  | { readonly kind: 'repo'; readonly readings: readonly RepoTarget[] }

const types = ['models', 'datasets', 'spaces', 'kernels'] as const

/** Throws InvalidInputError for what is not a path. */
export function parseTarget(url: string): Target {
  const [path = ''] = url.split('?', 1)
  const raw = path.split('/').slice(1)
  if (raw.at(-1) === '') raw.pop()
  if (raw.length > segmentsMax) throw new InvalidInputError('a path of too many segments')
  const segments = raw.map(decodeSegment)
  if (segments[0] === 'api') return apiTarget(segments.slice(1))
  return casTarget(segments) ?? fileTarget(segments)
}

function decodeSegment(segment: string): string {
  try {
    return decodeURIComponent(segment)
  } catch (error) {
    throw new InvalidInputError('a path that is not percent-encoded UTF-8', { cause: error })
  }
}

function apiTarget([first = '', ...rest]: readonly string[]): Target {
  if (first === 'agent-harnesses' && rest.length === 0) return { kind: 'agent-harnesses' }
  if (first === 'telemetry') return { kind: 'telemetry' }
  if (first === 'whoami-v2' && rest.length === 0) return { kind: 'whoami' }
  if (first === 'resolve-cache') return cachedTarget(rest)
  if (!isType(first)) return { kind: 'none' }
  if (rest.length === 0) return { kind: 'list', type: first }
  const readings = [2, 1].flatMap((count): RepoTarget[] => {
    const [verb, ...after] = rest.slice(count)
    if (rest.length < count) return []
    const name = nameOf(first, rest.slice(0, count))
    if (verb === undefined) return [{ name, verb: 'info', rest: [] }]
    const known = repoVerbs.find(each => each === verb)
    return known === undefined ? [] : [{ name, verb: known, rest: after }]
  })
  return { kind: 'repo', readings }
}

/** `resolve-cache/models/ns/name/COMMIT/path`: where the Hub sends who asks for a small file. */
function cachedTarget([type = '', ...rest]: readonly string[]): Target {
  if (!isType(type)) return { kind: 'none' }
  const readings = [2, 1]
    .filter(count => rest.length > count + 1)
    .map(count => ({
      name: nameOf(type, rest.slice(0, count)),
      verb: 'resolve' as const,
      rest: rest.slice(count),
    }))
  return { kind: 'repo', readings }
}

/** `cas/models/ns/name/…`: what Xet's clients ask, of the URL that they were given with a token. */
function casTarget([first = '', type = '', ...rest]: readonly string[]): Target | undefined {
  if (first !== 'cas' || !isType(type)) return undefined
  const readings = [2, 1]
    .filter(count => /^(?:v1|v2|xorbs)$/u.test(rest[count] ?? ''))
    .map(count => ({
      name: nameOf(type, rest.slice(0, count)),
      verb: 'cas' as const,
      rest: rest.slice(count),
    }))
  return readings.length === 0 ? undefined : { kind: 'repo', readings }
}

/** `ns/name/resolve/REVISION/path`; a repository that is not a model has its type before it. */
function fileTarget(segments: readonly string[]): Target {
  const first = segments[0] ?? ''
  const isTyped = first !== 'models' && isType(first)
  const type = isTyped ? first : 'models'
  const rest = isTyped ? segments.slice(1) : segments
  const readings = [2, 1].flatMap(count => {
    const verb = fileVerbs.find(each => each === rest[count])
    if (verb === undefined) return []
    return [{ name: nameOf(type, rest.slice(0, count)), verb, rest: rest.slice(count + 1) }]
  })
  return readings.length === 0 ? { kind: 'none' } : { kind: 'repo', readings }
}

function isType(text: string): boolean {
  return (types as readonly string[]).includes(text)
}

function nameOf(type: string, id: readonly string[]): string {
  return [...(type === 'models' ? [] : [type]), ...id].join('/')
}

/** Splits what follows a verb into the longest revision that is known, and a path. */
export function splitRevision(
  rest: readonly string[],
  isRevision: (text: string) => boolean,
): { readonly revision: string; readonly path: string } | undefined {
  for (let count = Math.min(revisionSegmentsMax, rest.length); count > 0; count -= 1) {
    const revision = rest.slice(0, count).join('/')
    if (isRevision(revision)) return { revision, path: rest.slice(count).join('/') }
  }
  return undefined
}
