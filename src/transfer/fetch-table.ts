/**
 * Chunk tables: which chunks a file has. A table for a root proves itself, since it builds that root.
 * One for a whole file's SHA-256 does not, until all chunks are here and the whole is hashed.
 */

import { type CID, codecs } from '../core/cid.ts'
import { InvalidInputError, IntegrityError, messageOf } from '../core/errors.ts'
import { ChunkTable } from '../dag/chunk-table.ts'
import { rootOf } from '../dag/unixfs.ts'
import { verifyTable } from '../dag/verify.ts'
import { askSources } from './ask-sources.ts'
import type { DownloadDeps, DownloadOptions, FetchedTable } from './request.ts'
import type { Source } from './source.ts'

/**
 * The table of a file of unknown size, by its root or by the raw CID of its whole SHA-256.
 * NotFoundError when nobody has it.
 */
export async function fetchFileTable(
  deps: Pick<DownloadDeps, 'finder' | 'clock' | 'log'> & {
    readonly store: Pick<DownloadDeps['store'], 'chunkTable'>
  },
  key: CID,
  options: Pick<DownloadOptions, 'signal' | 'peers' | 'patienceMs' | 'onNotice' | 'onUnreached'>,
): Promise<FetchedTable> {
  const known = deps.store.chunkTable(key)
  if (known !== undefined) return { root: rootOf(known), table: known, blame: undefined }
  const question = {
    what: `the file ${key.toString()}`,
    keys: [key],
    ask: async (source: Source, signal: AbortSignal): Promise<FetchedTable> => {
      const bytes = await source.fetchTable(key, undefined, { signal })
      return readTable(key, bytes, source)
    },
  }
  return askSources(deps, question, options)
}

/** Throws IntegrityError when it cannot be the table of this file. */
function readTable(key: CID, bytes: Uint8Array, source: Source): FetchedTable {
  const table = parseTable(key, bytes)
  if (key.code === codecs.raw && table.count > 1) {
    return { root: rootOf(table), table, blame: reason => source.ban(reason) }
  }
  return { root: key, table: verifyTable(key, table.size, bytes), blame: undefined }
}

function parseTable(key: CID, bytes: Uint8Array): ChunkTable {
  try {
    return new ChunkTable(bytes)
  } catch (error) {
    if (!(error instanceof InvalidInputError)) throw error
    throw new IntegrityError(`the chunk table of ${key.toString()}: ${messageOf(error)}`, {
      cause: error,
    })
  }
}
