/** What a repository of a hub is called: `hf:ORG/MODEL@REV`, and its URLs. docs/spec/mirroring.md, section 1. */

import { InvalidInputError } from '../core/errors.ts'
import { isGitOid, isRepoName, type SourceType } from '../manifest/source.ts'

export interface HubRepo {
  readonly type: SourceType
  /** `ORG/NAME` or `NAME`. */
  readonly repo: string
}

export interface HubRef extends HubRepo {
  /** A branch, a tag, `refs/pr/N` or a commit. */
  readonly revision: string
}

/** The name of the hub in manifests, and where it is. */
export const hubName = 'huggingface.co'
export const hubUrl = 'https://huggingface.co'

const prefix = 'hf:'
const mainBranch = 'main'
/** Git allows 255 and more; URLs with longer ones are refused by servers. */
const revisionCharactersMax = 200
const revisionPattern = /^[^\s\p{C}?#%\\]+$/u

const folders: Readonly<Record<SourceType, string>> = {
  model: '',
  dataset: 'datasets/',
  space: 'spaces/',
}

/** Whether a text is meant as a repository of a hub. */
export function isHubRef(text: string): boolean {
  return text.startsWith(prefix)
}

/** Throws InvalidInputError that says what one looks like. */
export function parseHubRef(text: string): HubRef {
  const bare = isHubRef(text) ? text.slice(prefix.length) : ''
  const at = bare.indexOf('@')
  const path = at === -1 ? bare : bare.slice(0, at)
  const revision = at === -1 ? mainBranch : bare.slice(at + 1)
  const type: SourceType = path.startsWith(folders.dataset)
    ? 'dataset'
    : path.startsWith(folders.space)
      ? 'space'
      : 'model'
  const repo = path.slice(folders[type].length)
  const isRevision =
    revision.length <= revisionCharactersMax &&
    revisionPattern.test(revision) &&
    !revision.split('/').some(part => part === '' || part === '.' || part === '..')
  if (isRepoName(repo) && isRevision) return { type, repo, revision }
  throw new InvalidInputError(`not a repository of a hub: ${JSON.stringify(text.slice(0, 100))}`, {
    hint: `write ${suggestion(text) ?? 'hf:ORG/MODEL, hf:ORG/MODEL@REVISION or hf:datasets/ORG/NAME'}`,
  })
}

/** For a name without the prefix, and the address of its page. */
function suggestion(text: string): string | undefined {
  const name = text.replace(/^https:\/\/(?:huggingface\.co|hf\.co)\//u, '').replace(/\/$/u, '')
  return isHubName(name) ? `${prefix}${name}` : undefined
}

/** Whether it is a repository's name as the gateway has it: `org/model`, `datasets/org/name`. */
export function isHubName(name: string): boolean {
  return isRepoName(name.replace(/^(?:datasets|spaces)\//u, ''))
}

/** As parseHubRef, of a text that names a commit. */
export function parseCommitRef(text: string): HubRef {
  const ref = parseHubRef(text)
  if (isGitOid(ref.revision)) return ref
  throw new InvalidInputError(`${text} does not name a commit`, {
    hint: 'write hf:ORG/MODEL@ and the 40 digits of the commit: a branch moves',
  })
}

export function formatHubRef({ type, repo, revision }: HubRef): string {
  return `${prefix}${repoPath({ type, repo })}${revision === mainBranch ? '' : `@${revision}`}`
}

/** `org/model`, `datasets/org/name`: as in the hub's URLs, and as the gateway names it. */
export function repoPath({ type, repo }: HubRepo): string {
  return `${folders[type]}${repo}`
}

/** Below the hub's URL. */
export function apiPath({ type, repo }: HubRepo, rest: string): string {
  return `/api/${type}s/${repo}${rest}`
}

/** The folder of a commit's files, with its last slash: a web seed too. */
export function resolvePath(repo: HubRepo, commit: string): string {
  return `/${repoPath(repo)}/resolve/${commit}/`
}

/** A path or revision in a URL: each segment on its own. */
export function encodePath(path: string): string {
  return path.split('/').map(encodeURIComponent).join('/')
}
