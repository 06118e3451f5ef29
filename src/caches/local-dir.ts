/**
 * A folder that `hf download --local-dir` filled: plain files, and in `.cache/huggingface` what was fetched.
 * It does not say which repository it was, but which commit, and what each file was then:
 *
 *   .cache/huggingface/download/PATH.metadata    commit, etag and time, a line each
 *   .cache/huggingface/trees/COMMIT.json         what the commit has
 */

import { realpath, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { CommonweightError } from '../core/errors.ts'
import { second } from '../core/units.ts'
import { readError } from '../ingest/file-errors.ts'
import { findFiles, type FoundFile } from '../ingest/folder.ts'
import { isGitOid } from '../manifest/source.ts'
import { readSmall } from './enclosure.ts'
import {
  type CacheKind,
  type FoundEntry,
  looksAtOnce,
  partRemark,
  type ReadOptions,
} from './found.ts'
import { readTree } from './hub-tree.ts'

const bookkeeping = join('.cache', 'huggingface')
/** Three lines of 64 characters at most. */
const metadataBytesMax = 1024
/** A file that was written later than its metadata, by more than clocks of file systems differ, was changed. */
const laterMs = second

export async function isLocalDir(folder: string): Promise<boolean> {
  return stat(join(folder, bookkeeping)).then(
    stats => stats.isDirectory(),
    () => false,
  )
}

/** One model: what lies there, with what was known of it when it was fetched. */
export async function readLocalDir(folder: string, options: ReadOptions = {}): Promise<FoundEntry> {
  const found = await readFolderModel(folder, { cache: 'hf', name: undefined }, options)
  if (found.kind === 'refused') return found
  try {
    const fetched = await fetchedFiles(folder, found.files)
    const commit = mostOften(fetched.map(file => file.commit))
    if (commit === undefined) return found
    const tree = await readTree(join(folder, bookkeeping, 'trees', `${commit}.json`))
    // The etag alone says little: some mirrors of the hub have etags of their own.
    const claims = fetched.flatMap(({ path, commit: of }) => {
      const claim = of === commit ? tree?.get(path) : undefined
      return claim === undefined ? [] : [[path, claim] as const]
    })
    const here = found.files.filter(({ path }) => tree?.has(path) === true).length
    const missing = tree === undefined ? 0 : tree.size - here
    return {
      ...found,
      commit,
      claims: new Map(claims),
      isPart: missing > 0,
      remark: partRemark(here, missing),
    }
  } catch (error) {
    if (!(error instanceof CommonweightError)) throw error
    const { cache, title, name } = found
    return { kind: 'refused', cache, title, name, folder, reason: error.message }
  }
}

interface FetchedFile {
  readonly path: string
  readonly commit: string
}

/** Of those that are as they were fetched. */
async function fetchedFiles(folder: string, files: readonly FoundFile[]): Promise<FetchedFile[]> {
  const fetched: FetchedFile[] = []
  for (let start = 0; start < files.length; start += looksAtOnce) {
    const slice = files.slice(start, start + looksAtOnce)
    const looks = slice.map(file => fetchedFile(folder, file))
    fetched.push(...(await Promise.all(looks)).filter(file => file !== undefined))
  }
  return fetched
}

async function fetchedFile(
  folder: string,
  { path, stamp }: FoundFile,
): Promise<FetchedFile | undefined> {
  const place = join(folder, bookkeeping, 'download', `${path}.metadata`)
  const [commit = '', , time] = ((await readSmall(place, metadataBytesMax)) ?? '').split('\n')
  const isUnchanged = Number(stamp.mtimeNs / 1_000_000n) - laterMs <= Number(time) * second
  return isGitOid(commit) && isUnchanged ? { path, commit } : undefined
}

function mostOften(commits: readonly string[]): string | undefined {
  const groups = [...Map.groupBy(commits, commit => commit).entries()]
  return groups.toSorted(([, a], [, b]) => b.length - a.length)[0]?.[0]
}

/** One model: all files of a folder, but for what belongs to no model. */
export async function readFolderModel(
  folder: string,
  { cache, name }: { readonly cache: CacheKind; readonly name: string | undefined },
  { signal }: ReadOptions = {},
): Promise<FoundEntry> {
  const about = { cache, title: name ?? folder, name, folder }
  try {
    const files = await realPlaces(
      await findFiles([folder], signal === undefined ? {} : { signal }),
    )
    const rest = { commit: undefined, whole: undefined, isPart: false, remark: undefined }
    return { kind: 'model', ...about, family: folder, files, claims: new Map(), ...rest }
  } catch (error) {
    if (!(error instanceof CommonweightError)) throw error
    return { kind: 'refused', ...about, reason: error.message }
  }
}

/** A link inside the folder is followed once, here. */
async function realPlaces(files: readonly FoundFile[]): Promise<FoundFile[]> {
  const real: FoundFile[] = []
  for (let start = 0; start < files.length; start += looksAtOnce) {
    const slice = files.slice(start, start + looksAtOnce)
    const looks = slice.map(async file => ({ ...file, place: await realPlace(file.place) }))
    real.push(...(await Promise.all(looks)))
  }
  return real
}

async function realPlace(place: string): Promise<string> {
  try {
    return await realpath(place)
  } catch (error) {
    throw readError(place, error)
  }
}
