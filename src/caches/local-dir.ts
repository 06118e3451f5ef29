/**
 * A folder that `hf download --local-dir` filled: plain files, and `.cache/huggingface` with what was
 * fetched. It does not say which repository it was.
 */

import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { CommonweightError } from '../core/errors.ts'
import { findFiles } from '../ingest/folder.ts'
import type { CacheKind, FoundEntry, ReadOptions } from './found.ts'

const bookkeeping = join('.cache', 'huggingface')

export async function isLocalDir(folder: string): Promise<boolean> {
  return stat(join(folder, bookkeeping)).then(
    stats => stats.isDirectory(),
    () => false,
  )
}

/** One model: all files of a folder, but for what belongs to no model. */
export async function readFolderModel(
  folder: string,
  about: { readonly cache: CacheKind; readonly name: string | undefined },
  { signal }: ReadOptions = {},
): Promise<FoundEntry> {
  try {
    const files = await findFiles([folder], signal === undefined ? {} : { signal })
    const rest = { claims: new Map(), whole: undefined, isPart: false, remark: undefined }
    return { kind: 'model', ...about, folder, family: folder, files, ...rest }
  } catch (error) {
    if (!(error instanceof CommonweightError)) throw error
    return { kind: 'refused', ...about, folder, reason: error.message }
  }
}
