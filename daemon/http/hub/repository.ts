/** A model as the Hub shows it: JSON of its info, its tree and its refs. */

import type { NamedModel } from '../../../src/node.ts'
import type { GitCommit, GitEntry, GitFile, GitFolder } from '../../../src/manifest/git-commit.ts'

export interface Repository {
  readonly model: NamedModel
  readonly commit: GitCommit
}

const branch = 'main'
const branchRef = `refs/heads/${branch}`

/** Whether a revision names the one commit that a model has. */
export function isRevision({ commit }: Repository, text: string): boolean {
  return [branch, branchRef, 'HEAD', commit.id].includes(text)
}

/** The id without the type before it: `org/model` of `datasets/org/model`. */
function idOf({ name }: NamedModel): string {
  return name.replace(/^(?:datasets|spaces|kernels)\//u, '')
}

export function infoBody(repository: Repository, { blobs }: { blobs: boolean }): object {
  const { commit, model } = repository
  const files = [...commit.entries.values()].filter(entry => entry.kind === 'file')
  return {
    ...summaryBody(model),
    sha: commit.id,
    usedStorage: commit.bytes,
    siblings: files.map(file => ({ rfilename: file.path, ...(blobs ? blobBody(file) : {}) })),
  }
}

/** What a list of models shows of each; its commit would need its manifest. */
export function summaryBody(model: NamedModel): object {
  const id = idOf(model)
  const date = dateOf(model)
  return {
    _id: Buffer.from(model.manifest.multihash.digest.subarray(0, 12)).toString('hex'),
    id,
    modelId: id,
    ...(id.includes('/') ? { author: id.split('/', 1)[0] } : {}),
    lastModified: date,
    createdAt: date,
    private: false,
    gated: false,
    disabled: false,
    downloads: 0,
    likes: 0,
    tags: [],
  }
}

function blobBody({ oid, pointerSize, sha256, size }: GitFile): object {
  return { size, blobId: oid, lfs: { sha256, size, pointerSize } }
}

export function entryBody(entry: GitEntry): object {
  const { oid, path } = entry
  if (entry.kind === 'folder') return { type: 'directory', oid, size: 0, path }
  const { pointerSize, sha256, size } = entry
  return { type: 'file', oid, size, path, lfs: { oid: sha256, size, pointerSize } }
}

/** The entries below a folder, folders before what is in them; undefined when it is no folder. */
export function listTree(
  { commit }: Repository,
  path: string,
  { recursive }: { recursive: boolean },
): readonly GitEntry[] | undefined {
  const folder = path === '' ? commit.root : commit.entries.get(path)
  if (folder?.kind !== 'folder') return undefined
  return recursive ? [...below(folder)] : folder.children
}

function* below(folder: GitFolder): Generator<GitEntry> {
  for (const child of folder.children) {
    yield child
    if (child.kind === 'folder') yield* below(child)
  }
}

export function refsBody({ commit }: Repository): object {
  const branches = [{ name: branch, ref: branchRef, targetCommit: commit.id }]
  return { branches, converts: [], tags: [], pullRequests: [] }
}

export function commitsBody({ commit, model }: Repository): object {
  const title = `the manifest ${model.manifest.toString()}`
  const authors = [{ user: 'commonweight' }]
  return [{ id: commit.id, title, message: '', authors, date: dateOf(model) }]
}

function dateOf({ addedAtMs = 0 }: NamedModel): string {
  return new Date(addedAtMs).toISOString()
}
