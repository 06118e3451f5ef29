/**
 * Where a model comes from: the commit of a hub's repository, and what git calls each of its files.
 * Only an import of the whole commit has it, so that two importers of one commit make one manifest:
 * docs/spec/manifest.md section 5.
 */

import { viewOf } from '../core/bytes.ts'
import { InvalidInputError } from '../core/errors.ts'

export const sourceTypes = ['model', 'dataset', 'space'] as const
export type SourceType = (typeof sourceTypes)[number]

export interface ManifestSource {
  /** Host name of the hub, whoever the bytes were fetched from: `huggingface.co`. */
  readonly hub: string
  /** `ORG/NAME` or `NAME`, as the hub spells it. */
  readonly repo: string
  readonly type: SourceType
  /** 40 lower-case hex digits. */
  readonly commit: string
}

/** What git says of a file; in manifests with a source each file has both. */
export interface GitFacts {
  /** SHA-1 of the git blob, 40 lower-case hex digits: of the file, or of its LFS pointer. */
  readonly gitOid?: string
  /** Whether the blob is a pointer of Git LFS. */
  readonly lfs?: boolean
}

/** Bytes of a SHA-1. */
export const gitOidBytes = 20
/** As long as a DNS name may be. */
export const hubNameBytesMax = 253
/** Two names of at most 96 characters, which is what the hubs allow, and the slash. */
export const repoNameBytesMax = 2 * 96 + 1

const gitOidPattern = /^[0-9a-f]{40}$/
const hubPattern =
  /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*$/
const repoSegmentPattern = /^[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?$/
const emptyBlobOid = 'e69de29bb2d1d6434b8b29ae775ad8c2e48c5391'

/** True for 40 lower-case hex digits. */
export function isGitOid(text: string): boolean {
  return gitOidPattern.test(text)
}

/** True for `ORG/NAME` and `NAME` as hubs allow them. */
export function isRepoName(text: string): boolean {
  const segments = text.split('/')
  return (
    segments.length <= 2 &&
    segments.every(segment => repoSegmentPattern.test(segment) && !/--|\.\.|\.git$/.test(segment))
  )
}

/** Throws InvalidInputError with the reason. */
export function checkSource(source: ManifestSource): void {
  const { hub, repo, type, commit } = source
  if (hub.length > hubNameBytesMax || !hubPattern.test(hub)) {
    throw new InvalidInputError(`not the host name of a hub: ${JSON.stringify(hub.slice(0, 80))}`)
  }
  if (!isRepoName(repo)) {
    throw new InvalidInputError(`not a repository: ${JSON.stringify(repo.slice(0, 200))}`)
  }
  if (!sourceTypes.includes(type)) {
    throw new InvalidInputError(
      `a source of the type ${JSON.stringify(type)}; this version knows ${sourceTypes.join(', ')}`,
    )
  }
  if (!isGitOid(commit)) {
    throw new InvalidInputError(`not a commit: ${JSON.stringify(commit.slice(0, 80))}`)
  }
}

interface GitFile extends GitFacts {
  readonly path: string
  readonly size: number
  readonly sha256: Uint8Array
}

/** With a source every file has its git facts, without none has. Throws InvalidInputError. */
export function checkGitFacts(files: readonly GitFile[], source: ManifestSource | undefined): void {
  const oids = new Map<string, string>()
  for (const file of files) {
    const refuse = (reason: string): InvalidInputError =>
      new InvalidInputError(`${JSON.stringify(file.path)} ${reason}`)
    const { gitOid, lfs } = file
    if (source === undefined) {
      if (gitOid === undefined && lfs === undefined) continue
      throw refuse('has a name in git, but the model has no source')
    }
    if (gitOid === undefined || lfs === undefined) throw refuse('has no name in git')
    if (!isGitOid(gitOid)) throw refuse('has a gitOid that is not 40 lower-case hex digits')
    if (lfs) continue
    if (file.size === 0 && gitOid !== emptyBlobOid) throw refuse('is empty, but not for git')
    const key = viewOf(file.sha256).toString('latin1')
    const known = oids.get(key) ?? gitOid
    if (known !== gitOid) throw refuse('has the bytes of another file, but not its name in git')
    oids.set(key, gitOid)
  }
}
