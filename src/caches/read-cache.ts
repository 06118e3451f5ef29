/** A cache of any kind, by its folder. */

import { join } from 'node:path'
import { NotFoundError } from '../core/errors.ts'
import { shown } from '../ingest/file-errors.ts'
import { Enclosure } from './enclosure.ts'
import type { CacheFolder, FoundEntry, ReadOptions } from './found.ts'
import { readHubCache } from './hub-cache.ts'
import { isLocalDir, readLocalDir } from './local-dir.ts'
import { readModelFolders } from './model-folders.ts'
import { readOllama } from './ollama.ts'

export interface ReadCache {
  /** Without links on the way. */
  readonly folder: string
  readonly entries: readonly FoundEntry[]
}

/** Throws NotFoundError when there is no such folder. */
export async function readCache(
  { kind, folder }: CacheFolder,
  options: ReadOptions = {},
): Promise<ReadCache> {
  const cache = await Enclosure.open(folder)
  if (cache === undefined) {
    throw new NotFoundError(`no cache at ${shown(folder)}`, { hint: 'check the path' })
  }
  const { root } = cache
  return { folder: root, entries: await readEntries({ kind, folder: root }, options) }
}

async function readEntries(
  { kind, folder: root }: CacheFolder,
  options: ReadOptions,
): Promise<FoundEntry[]> {
  switch (kind) {
    case 'hf':
      if (await isLocalDir(root)) return [await readLocalDir(root, options)]
      // Either the cache itself or what HF_HOME names, with the cache in it.
      return [
        ...(await readHubCache(root, options)),
        ...(await readHubCache(join(root, 'hub'), options)),
      ]
    case 'ollama':
      return readOllama(root, options)
    case 'lm-studio':
      return readModelFolders(root, options)
  }
}
