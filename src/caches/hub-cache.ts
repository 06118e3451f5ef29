/**
 * The cache of huggingface_hub, in every layout that it and its relatives (hf-hub, llama.cpp,
 * @huggingface/hub) have written: snapshots of links to blobs, blobs that are links into a store that
 * all repositories share, and snapshots of real files where links are not to be had.
 *
 *   models--ORG--NAME/refs/main                 a commit
 *   models--ORG--NAME/snapshots/COMMIT/PATH     -> ../../blobs/ETAG, or the file itself
 *   models--ORG--NAME/blobs/ETAG                the file, or -> ../../blobs/xx/HASH
 *   models--ORG--NAME/trees/COMMIT.json         what the commit has
 */

import { stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { mapLimit } from '../core/async.ts'
import { CommonweightError, InvalidInputError, LimitError } from '../core/errors.ts'
import { shown } from '../ingest/file-errors.ts'
import type { FoundFile } from '../ingest/folder.ts'
import { isIgnoredFile } from '../ingest/ignore-rules.ts'
import { manifestFilesMax } from '../manifest/manifest.ts'
import { segmentsMax } from '../manifest/paths.ts'
import { isGitOid, isRepoName, type SourceType } from '../manifest/source.ts'
import { Enclosure, entriesOf, readSmall } from './enclosure.ts'
import { type FoundEntry, looksAtOnce, partRemark, type ReadOptions } from './found.ts'
import { readTree, type TreeFile } from './hub-tree.ts'
import { isNameable } from './nameable.ts'

/** Repositories looked at together: the four threads of Node's pool, kept busy. */
const reposAtOnce = 4
/** A commit and a newline, and room for what somebody may have put there by hand. */
const refBytesMax = 256

const repoFolder = /^(model|dataset|space|kernel)s--(.+)$/
const blobName = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/

interface Repo {
  readonly cache: Enclosure
  readonly folder: string
  /** `ORG/NAME` */
  readonly repo: string
  readonly type: SourceType | undefined
  /** With the type before it, when that is not a model. */
  readonly name: string
}

/** Nothing when there is no such folder. Throws StorageError when it cannot be read. */
export async function readHubCache(
  folder: string,
  { signal }: ReadOptions = {},
): Promise<FoundEntry[]> {
  const cache = await Enclosure.open(folder)
  if (cache === undefined) return []
  const repos = (await entriesOf(cache.root)).flatMap(({ name }) => repoAt(cache, name) ?? [])
  const found: FoundEntry[] = []
  for await (const entries of mapLimit(repos, reposAtOnce, readRepo, signal)) found.push(...entries)
  return found
}

function repoAt(cache: Enclosure, folderName: string): Repo | undefined {
  const [, kind, rest] = repoFolder.exec(folderName) ?? []
  // A name has no `--` in it, so that this is how it was made.
  const repo = rest?.replaceAll('--', '/')
  if (kind === undefined || repo === undefined || !isRepoName(repo)) return undefined
  return {
    cache,
    folder: join(cache.root, folderName),
    repo,
    type: kind === 'kernel' ? undefined : (kind as SourceType),
    name: kind === 'model' ? repo : `${kind}s/${repo}`,
  }
}

async function readRepo(repo: Repo, signal: AbortSignal): Promise<FoundEntry[]> {
  const { cache, folder, name } = repo
  try {
    if ((await cache.resolve(folder)) === undefined) return []
    const entries = await entriesOf(join(folder, 'snapshots'))
    const commits = entries
      .filter(entry => entry.isDirectory() && isGitOid(entry.name))
      .map(entry => entry.name)
    if (commits.length === 0) return []
    const main = await mainOf(folder, commits)
    const found: FoundEntry[] = []
    for (const commit of commits) {
      signal.throwIfAborted()
      const entry = await readSnapshot(repo, commit, commit === main)
      if (entry !== undefined) found.push(entry)
    }
    return found
  } catch (error) {
    return [{ kind: 'refused', cache: 'hf', title: name, name, folder, reason: reasonOf(error) }]
  }
}

/** What is wrong with it; errors that are not of our making go on. */
function reasonOf(error: unknown): string {
  if (error instanceof CommonweightError) return error.message
  throw error
}

/** The commit that has the name: that of `main`, or the one that was fetched last. */
async function mainOf(folder: string, commits: readonly string[]): Promise<string | undefined> {
  const main = (await readSmall(join(folder, 'refs', 'main'), refBytesMax))?.trim()
  if (main !== undefined && commits.includes(main)) return main
  const dated = await Promise.all(
    commits.map(async commit => {
      const stats = await stat(join(folder, 'snapshots', commit)).catch(() => undefined)
      return { commit, mtimeMs: stats?.mtimeMs ?? 0 }
    }),
  )
  return dated.toSorted((a, b) => b.mtimeMs - a.mtimeMs)[0]?.commit
}

async function readSnapshot(
  repo: Repo,
  commit: string,
  isMain: boolean,
): Promise<FoundEntry | undefined> {
  const folder = join(repo.folder, 'snapshots', commit)
  const about = {
    cache: 'hf',
    title: repo.name,
    name: isMain ? repo.name : undefined,
    folder,
  } as const
  try {
    const walk = new SnapshotWalk(repo)
    await walk.run(folder)
    const tree = await readTree(join(repo.folder, 'trees', `${commit}.json`))
    const files = tree === undefined ? walk.files : walk.files.filter(({ path }) => tree.has(path))
    if (files.length === 0) return undefined
    const missing = tree === undefined ? walk.gone : missingOf(tree, files)
    const isWhole = tree !== undefined && missing === 0
    return {
      kind: 'model',
      ...about,
      family: repo.folder,
      files,
      claims: tree ?? new Map(),
      commit,
      whole: isWhole ? { commit, repo: repo.repo, type: repo.type } : undefined,
      isPart: missing > 0,
      remark: remarkOf(files.length, missing, walk.unnameable),
    }
  } catch (error) {
    return { kind: 'refused', ...about, reason: reasonOf(error) }
  }
}

/** How many of the commit's files are not here. Throws InvalidInputError for one of another size. */
function missingOf(tree: ReadonlyMap<string, TreeFile>, files: readonly FoundFile[]): number {
  for (const { path, size, place } of files) {
    const wanted = tree.get(path)?.size
    if (wanted === size || wanted === undefined) continue
    throw new InvalidInputError(`${shown(place)} has ${size} bytes, not the ${wanted} of ${path}`)
  }
  return tree.size - files.length
}

function remarkOf(
  here: number,
  missing: number,
  unnameable: readonly string[],
): string | undefined {
  const [first] = unnameable
  if (first !== undefined) {
    return `left out: ${unnameable.length} with names that no model may have, as ${shown(first)}`
  }
  return partRemark(here, missing)
}

class SnapshotWalk {
  readonly files: FoundFile[] = []
  /** Links to blobs that are not there. */
  gone = 0
  readonly unnameable: string[] = []
  readonly #repo: Repo

  constructor(repo: Repo) {
    this.#repo = repo
  }

  async run(folder: string, prefix = '', depth = 1): Promise<void> {
    if (depth > segmentsMax) throw new LimitError(`${shown(folder)} lies too deep`)
    const entries = (await entriesOf(folder)).filter(({ name }) => !isIgnoredFile(name))
    for (let start = 0; start < entries.length; start += looksAtOnce) {
      const slice = entries.slice(start, start + looksAtOnce)
      const looks = slice.map(async entry => {
        const path = `${prefix}${entry.name}`
        const place = join(folder, entry.name)
        if (!entry.isDirectory()) await this.#add(path, place, entry.isSymbolicLink())
        return entry.isDirectory() ? { path, place } : undefined
      })
      for (const inner of await Promise.all(looks)) {
        if (inner !== undefined) await this.run(inner.place, `${inner.path}/`, depth + 1)
      }
    }
  }

  async #add(path: string, place: string, isLink: boolean): Promise<void> {
    if (!isNameable(path)) {
      this.unnameable.push(path)
      return
    }
    const { cache } = this.#repo
    const file = await cache.file(path, place)
    if (file === undefined || (isLink && !this.#isBlob(file.place))) {
      this.gone += 1
      return
    }
    this.files.push(file)
    if (this.files.length > manifestFilesMax) {
      throw new LimitError(`${shown(dirname(place))} has more than ${manifestFilesMax} files`)
    }
  }

  /** In the repository's blobs, or in those that all share; not a download that goes on. */
  #isBlob(real: string): boolean {
    const { cache, folder } = this.#repo
    const above = dirname(real)
    const isIn = above === join(folder, 'blobs') || dirname(above) === join(cache.root, 'blobs')
    return isIn && blobName.test(basename(real))
  }
}
