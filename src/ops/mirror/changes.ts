/** What became of a repository between two commits, file by file. Pure. */

import type { Changes } from '../../api/contract.ts'
import { toHex } from '../../core/bytes.ts'
import type { HubFile } from '../../hub/answers.ts'
import type { ManifestFile } from '../../manifest/manifest.ts'

/** Told by name; the rest is counted. */
const pathsMax = 100

export type KnownFile = Pick<ManifestFile, 'path' | 'size' | 'sha256' | 'gitOid'>

/** `wanted` are those of the new commit that are mirrored, `before` what was mirrored of the old one. */
export function changesBetween(
  since: string,
  before: readonly KnownFile[],
  wanted: readonly HubFile[],
): Changes {
  const old = new Map(before.map(file => [file.path, file]))
  const paths: Changes['paths'][number][] = []
  const counts = { added: 0, changed: 0, removed: 0, unchanged: 0 }
  const note = (path: string, what: 'added' | 'changed' | 'removed'): void => {
    counts[what] += 1
    if (paths.length < pathsMax) paths.push({ path, what })
  }
  for (const file of wanted) {
    const known = old.get(file.path)
    old.delete(file.path)
    if (known === undefined) note(file.path, 'added')
    else if (isSame(known, file)) counts.unchanged += 1
    else note(file.path, 'changed')
  }
  for (const path of old.keys()) note(path, 'removed')
  return { since, ...counts, paths }
}

function isSame(known: KnownFile, file: HubFile): boolean {
  if (file.sha256 !== undefined) return toHex(known.sha256) === file.sha256
  // Of a partial mirror's small files git's name is not known: a change of equal size is told as none.
  return known.gitOid === undefined ? known.size === file.size : known.gitOid === file.gitOid
}
