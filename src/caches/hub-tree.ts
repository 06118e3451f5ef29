/**
 * The list of a commit's files that huggingface_hub keeps from 1.22 on, `trees/<commit>.json`: what is
 * read here, and written by what fills a hub cache.
 */

import { MiB } from '../core/units.ts'
import { comparePaths } from '../manifest/paths.ts'
import { isGitOid } from '../manifest/source.ts'
import { manifestFilesMax } from '../manifest/manifest.ts'
import { readSmallJson } from './enclosure.ts'

export interface TreeFile {
  readonly size: number
  /** Of the git blob. */
  readonly gitOid: string
  /** 64 hex digits, of a file in LFS. */
  readonly sha256: string | undefined
}

/** 100,000 files with paths of 500 bytes. */
export const treeBytesMax = 64 * MiB
const formatVersion = 1
const sha256Pattern = /^[0-9a-f]{64}$/

/** By path; undefined when there is none, or none that could be true. */
export async function readTree(place: string): Promise<ReadonlyMap<string, TreeFile> | undefined> {
  const tree = await readSmallJson(place, treeBytesMax)
  if (!isRecord(tree) || tree['format_version'] !== formatVersion) return undefined
  const listed = tree['files']
  if (!isRecord(listed)) return undefined
  const entries = Object.entries(listed)
  if (entries.length > manifestFilesMax) return undefined
  const files = new Map<string, TreeFile>()
  for (const [path, entry] of entries) {
    const file = treeFile(entry)
    if (file === undefined) return undefined
    files.set(path, file)
  }
  return files
}

function treeFile(entry: unknown): TreeFile | undefined {
  if (!isRecord(entry)) return undefined
  const { size, blob_id: gitOid, lfs_sha256: sha256 } = entry
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) return undefined
  if (typeof gitOid !== 'string' || !isGitOid(gitOid)) return undefined
  if (sha256 === undefined || sha256 === null) return { size, gitOid, sha256: undefined }
  if (typeof sha256 !== 'string' || !sha256Pattern.test(sha256)) return undefined
  return { size, gitOid, sha256 }
}

/** The bytes of such a list, as huggingface_hub writes them. */
export function formatTree(files: ReadonlyMap<string, TreeFile>): string {
  const sorted = [...files].toSorted(([a], [b]) => comparePaths(a, b))
  const listed = sorted.map(([path, { size, gitOid, sha256 }]) => {
    const lfs = sha256 === undefined ? {} : { lfs_sha256: sha256, lfs_size: size }
    return [path, { size, blob_id: gitOid, ...lfs }] as const
  })
  return JSON.stringify(
    { format_version: formatVersion, files: Object.fromEntries(listed) },
    null,
    1,
  )
}

export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
