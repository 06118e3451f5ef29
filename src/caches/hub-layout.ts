/**
 * Where a hub cache has a model: what a pull writes there, so that offline tools load it. The rule is
 * docs/spec/store.md section 4.
 */

import { toHex } from '../core/bytes.ts'
import type { CID } from '../core/cid.ts'
import { InvalidInputError } from '../core/errors.ts'
import { commitOf } from '../manifest/git-commit.ts'
import type { Manifest } from '../manifest/manifest.ts'
import { isRepoName, type SourceType } from '../manifest/source.ts'
import type { TreeFile } from './hub-tree.ts'

export interface HubLayout {
  /** `models--ORG--NAME` */
  readonly repoFolder: string
  /** 40 hex digits. */
  readonly commit: string
  /** Of the whole manifest, by path. */
  readonly tree: ReadonlyMap<string, TreeFile>
}

/** Throws InvalidInputError for a model that has no name which a hub's client could ask for. */
export function hubLayout(
  { files, source }: Manifest,
  about: { readonly cid: CID; readonly name: string | undefined },
): HubLayout {
  if (source === undefined) {
    const { id, entries } = commitOf(files, about.cid.toString())
    const tree = files.map(({ path, size, sha256 }) => {
      const gitOid = entries.get(path)?.oid as string
      return [path, { size, gitOid, sha256: toHex(sha256) }] as const
    })
    return { repoFolder: repoFolderOf(about.name), commit: id, tree: new Map(tree) }
  }
  const tree = files.map(({ path, size, sha256, gitOid, lfs }) => {
    const inLfs = lfs === true ? toHex(sha256) : undefined
    return [path, { size, gitOid: gitOid as string, sha256: inLfs }] as const
  })
  const repoFolder = folderOf(source.type, source.repo)
  return { repoFolder, commit: source.commit, tree: new Map(tree) }
}

/** What clients call the blob of a file. */
export function etagOf({ gitOid, sha256 }: TreeFile): string {
  return sha256 ?? gitOid
}

function repoFolderOf(name: string | undefined): string {
  const [, kind = 'model', repo] = /^(?:(dataset|space)s\/)?(.+)$/.exec(name ?? '') ?? []
  if (repo !== undefined && isRepoName(repo)) return folderOf(kind as SourceType, repo)
  const shown = name === undefined ? 'a model without a name' : `the name ${name}`
  throw new InvalidInputError(`${shown} has no place in a hub cache`, {
    hint: 'give it one that clients of a hub know, as in commonweight name ORG/MODEL REF, and pull that',
  })
}

function folderOf(type: SourceType, repo: string): string {
  return `${type}s--${repo.replaceAll('/', '--')}`
}
