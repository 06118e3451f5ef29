/** A model as the Hub shows it: JSON of its info, its tree and its refs. */

import type { SourceView } from '../../../src/api/contract.ts'
import type { NamedModel } from '../../../src/node.ts'
import type { GitCommit, GitEntry, GitFile, GitFolder } from '../../../src/manifest/git-commit.ts'

export interface Repository {
  readonly model: NamedModel
  readonly commit: GitCommit
  /** What the hub that it came from says beside that; read anew, for it may change. */
  readonly about: () => SourceView | null
  /** The hub's Xet hashes, by path. */
  readonly xetHashes: () => ReadonlyMap<string, string>
}

const branch = 'main'
const branchRef = `refs/heads/${branch}`

/** Whether a revision names the one commit that a model has: by itself, as `main`, or as its hub does. */
export function isRevision({ about, commit }: Repository, text: string): boolean {
  if ([branch, branchRef, 'HEAD', commit.id].includes(text)) return true
  return refsAt(about(), commit).some(ref =>
    [ref, `refs/heads/${ref}`, `refs/tags/${ref}`].includes(text),
  )
}

/** The hub's other names of this commit, branches and tags alike. */
function refsAt(about: SourceView | null, commit: GitCommit): string[] {
  return Object.entries(about?.refs ?? {})
    .filter(([name, target]) => target === commit.id && name !== branch)
    .map(([name]) => name)
}

/** The id without the type before it: `org/model` of `datasets/org/model`. */
function idOf({ name }: NamedModel): string {
  return name.replace(/^(?:datasets|spaces|kernels)\//u, '')
}

export function infoBody(repository: Repository, { blobs }: { blobs: boolean }): object {
  const { about, commit, model } = repository
  const files = [...commit.entries.values()].filter(entry => entry.kind === 'file')
  return {
    ...summaryBody(model),
    ...cardBody(about()),
    sha: commit.id,
    usedStorage: commit.bytes,
    siblings: files.map(file => ({ rfilename: file.path, ...(blobs ? blobBody(file) : {}) })),
  }
}

/** What a hub says of the model; nothing about one that never was on a hub. */
function cardBody(about: SourceView | null): object {
  if (about === null) return {}
  const { cardData, gated, lastModified, tags } = about
  return {
    gated: gated ?? false,
    tags,
    ...(lastModified === null ? {} : { lastModified, createdAt: lastModified }),
    ...(isCard(cardData) ? { cardData, ...pick(cardData, ['library_name', 'pipeline_tag']) } : {}),
  }
}

function isCard(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Texts only: clients trust what they know by name. */
function pick(card: Readonly<Record<string, unknown>>, names: readonly string[]): object {
  return Object.fromEntries(
    names.map(name => [name, card[name]]).filter(([, value]) => typeof value === 'string'),
  )
}

/** What a list of models shows of each; its commit would need its manifest. */
export function summaryBody(model: NamedModel): object {
  const id = idOf(model)
  return {
    _id: Buffer.from(model.manifest.multihash.digest.subarray(0, 12)).toString('hex'),
    id,
    modelId: id,
    ...(id.includes('/') ? { author: id.split('/', 1)[0] } : {}),
    // Of what is only bound to a name nobody knows when that was.
    ...(model.addedAtMs === undefined ? {} : datesOf(model.addedAtMs)),
    private: false,
    gated: false,
    disabled: false,
    downloads: 0,
    likes: 0,
    tags: [],
  }
}

function datesOf(ms: number): { lastModified: string; createdAt: string } {
  const date = new Date(ms).toISOString()
  return { lastModified: date, createdAt: date }
}

function blobBody({ isLfs, oid, pointerSize, sha256, size }: GitFile): object {
  return { size, blobId: oid, ...(isLfs ? { lfs: { sha256, size, pointerSize } } : {}) }
}

export function entryBody(entry: GitEntry): object {
  const { oid, path } = entry
  if (entry.kind === 'folder') return { type: 'directory', oid, size: 0, path }
  const { isLfs, pointerSize, sha256, size } = entry
  const lfs = isLfs ? { lfs: { oid: sha256, size, pointerSize } } : {}
  return { type: 'file', oid, size, path, ...lfs }
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

export function refsBody({ about, commit }: Repository): object {
  const targetCommit = commit.id
  const branches = [{ name: branch, ref: branchRef, targetCommit }]
  // Which of them are branches is not kept: a tag is what does not move.
  const tags = refsAt(about(), commit).map(name => ({
    name,
    ref: `refs/tags/${name}`,
    targetCommit,
  }))
  return { branches, converts: [], tags, pullRequests: [] }
}

export function commitsBody({ about, commit, model }: Repository): object {
  const title = `the manifest ${model.manifest.toString()}`
  const authors = [{ user: 'commonweight' }]
  // Clients need one: a commit that was made up has git's zero, and so has one of which no date is known.
  const date = about()?.lastModified ?? new Date(0).toISOString()
  return [{ id: commit.id, title, message: '', authors, date }]
}
