/**
 * What the objects of a git repository say: pointers of Git LFS, and trees, whose oid binds the names and
 * bytes of all files below them: docs/spec/mirroring.md, section 4.
 */

import { viewOf } from '../core/bytes.ts'
import { gitOid } from '../core/git.ts'
import { comparePaths } from '../manifest/paths.ts'

export interface LfsPointer {
  /** 64 lower-case digits. */
  readonly sha256: string
  readonly size: number
}

/** Longer ones are files: the specification says so. */
export const pointerBytesMax = 1024

/** Undefined for what is no pointer. Lines that are not asked for are allowed. */
export function parsePointer(bytes: Uint8Array): LfsPointer | undefined {
  if (bytes.length >= pointerBytesMax) return undefined
  const text = viewOf(bytes).toString('latin1')
  const found =
    /^version https:\/\/git-lfs\.github\.com\/spec\/v1\n(?:[^\n]*\n)*?oid sha256:([0-9a-f]{64})\nsize (\d{1,15})\n/u
  const [, sha256, size] = found.exec(text) ?? []
  return sha256 === undefined ? undefined : { sha256, size: Number(size) }
}

export interface TreeFile {
  readonly path: string
  /** `100644`, `100755`, `120000`. */
  readonly mode: string
  readonly oid: string
}

/** The oid of the tree with these files, folders included; at most 32 deep, as paths of models are. */
export function treeOid(files: readonly TreeFile[]): string {
  const top = new Map<string, TreeFile[] | TreeFile>()
  for (const file of files) {
    const slash = file.path.indexOf('/')
    if (slash === -1) {
      top.set(file.path, file)
      continue
    }
    const name = file.path.slice(0, slash)
    const inside = { ...file, path: file.path.slice(slash + 1) }
    const known = top.get(name)
    if (Array.isArray(known)) known.push(inside)
    else top.set(name, [inside])
  }
  // Git sorts by bytes, and a folder as if its name ended in a slash.
  const entries = [...top].map(([name, entry]) => {
    const isFolder = Array.isArray(entry)
    return {
      key: isFolder ? `${name}/` : name,
      head: `${isFolder ? '40000' : entry.mode} ${name}\0`,
      oid: isFolder ? treeOid(entry) : entry.oid,
    }
  })
  entries.sort((a, b) => comparePaths(a.key, b.key))
  const records = entries.flatMap(({ head, oid }) => [Buffer.from(head), Buffer.from(oid, 'hex')])
  return gitOid('tree', Buffer.concat(records))
}

/** The tree that a commit object names; undefined when it is none. */
export function treeOfCommit(commit: Uint8Array): string | undefined {
  return /^tree ([0-9a-f]{40})\n/u.exec(viewOf(commit.subarray(0, 64)).toString('latin1'))?.[1]
}
