/**
 * What git calls a model and its files: docs/spec/hub-gateway.md section 4. A model of a hub's commit has
 * the names that its manifest says. For one that never was in git they follow from the manifest alone,
 * so that every node that knows the model names it by the same 40 digits, whether it holds the bytes or
 * not: each file is a Git LFS pointer.
 */

import { toHex } from '../core/bytes.ts'
import { gitOid } from '../core/git.ts'
import type { Manifest, ManifestFile, ManifestSource } from './manifest.ts'

export interface GitFile {
  readonly kind: 'file'
  readonly path: string
  /** SHA-1 of the git blob: of the file, or of its pointer. */
  readonly oid: string
  /** Whether the blob is a pointer of Git LFS. */
  readonly isLfs: boolean
  /** Of the file itself, 64 digits. */
  readonly sha256: string
  readonly size: number
  readonly pointerSize: number
  readonly file: ManifestFile
}

export interface GitFolder {
  readonly kind: 'folder'
  readonly path: string
  /** SHA-1 of the tree. */
  readonly oid: string
  /** In the order of their names. */
  readonly children: readonly GitEntry[]
}

export type GitEntry = GitFile | GitFolder

export interface GitCommit {
  /** 40 lower-case digits. */
  readonly id: string
  readonly root: GitFolder
  /** By path; the root is not among them. */
  readonly entries: ReadonlyMap<string, GitEntry>
  readonly bytes: number
}

/** `manifest` is the text of its CID. */
export function commitOf(
  files: Manifest['files'],
  manifest: string,
  source?: ManifestSource,
): GitCommit {
  const entries = new Map<string, GitEntry>()
  const top = new Folder()
  for (const file of files) {
    const entry = gitFile(file)
    entries.set(file.path, entry)
    top.add(file.path.split('/'), entry)
  }
  const root = top.seal('', entries)
  const who = 'Commonweight <commonweight@invalid> 0 +0000'
  const text = `tree ${root.oid}\nauthor ${who}\ncommitter ${who}\n\n${manifest}\n`
  const bytes = files.reduce((sum, { size }) => sum + size, 0)
  const id = source?.commit ?? gitOid('commit', Buffer.from(text))
  return { id, root, entries, bytes }
}

/** The text of a Git LFS pointer, which for a model of a hub need not be the hub's. */
export function pointerText({ sha256, size }: Pick<GitFile, 'sha256' | 'size'>): string {
  return `version https://git-lfs.github.com/spec/v1\noid sha256:${sha256}\nsize ${size}\n`
}

function gitFile(file: ManifestFile): GitFile {
  const sha256 = toHex(file.sha256)
  const { lfs: isLfs = true, path, size } = file
  const pointer = Buffer.from(pointerText({ sha256, size }))
  const oid = file.gitOid ?? gitOid('blob', pointer)
  return { kind: 'file', path, oid, isLfs, sha256, size, pointerSize: pointer.length, file }
}

/** A folder while its files are still being added. */
class Folder {
  readonly #children = new Map<string, Folder | GitFile>()

  add([name = '', ...rest]: readonly string[], file: GitFile): void {
    if (rest.length === 0) {
      this.#children.set(name, file)
      return
    }
    const known = this.#children.get(name)
    const folder = known instanceof Folder ? known : new Folder()
    if (folder !== known) this.#children.set(name, folder)
    folder.add(rest, file)
  }

  /** At most 32 deep: a manifest's paths have no more segments. */
  seal(path: string, entries: Map<string, GitEntry>): GitFolder {
    const named = [...this.#children].map(([name, child]) => {
      const childPath = path === '' ? name : `${path}/${name}`
      const entry = child instanceof Folder ? child.seal(childPath, entries) : child
      // Git sorts by bytes, and a folder as if its name ended in a slash.
      const sortKey = Buffer.from(entry.kind === 'folder' ? `${name}/` : name)
      return { name, entry, sortKey }
    })
    named.sort((a, b) => Buffer.compare(a.sortKey, b.sortKey))
    const records = named.flatMap(({ name, entry }) => [
      Buffer.from(`${entry.kind === 'folder' ? '40000' : '100644'} ${name}\0`),
      Buffer.from(entry.oid, 'hex'),
    ])
    const children = named.map(({ entry }) => entry)
    const oid = gitOid('tree', Buffer.concat(records))
    const folder: GitFolder = { kind: 'folder', path, oid, children }
    if (path !== '') entries.set(path, folder)
    return folder
  }
}
