/** Whole files enter the index, many in one transaction. */

import { isAbsolute } from 'node:path'
import { codecs } from '../core/cid.ts'
import { InvalidInputError } from '../core/errors.ts'
import { chunkBytesMax } from '../core/limits.ts'
import type { ChunkIndex } from './chunk-index.ts'
import type { Change } from './holdings.ts'
import type { NewFile } from './new-file.ts'

export interface IndexingDeps {
  readonly index: ChunkIndex
  /** What was read at the place before says nothing of it any more. */
  readonly forgetReads: (place: string) => void
}

/** Says what that changes of what is held. */
export function indexFiles(
  { index, forgetReads }: IndexingDeps,
  files: readonly NewFile[],
  change: Change,
): void {
  for (const file of files) requireWhole(file)
  for (const { content } of index.filesAt(files.map(({ place }) => place))) {
    change.note(content.root)
  }
  index.transaction(() => {
    for (const file of files) {
      const made = index.makeContent(file, file.stamp.size)
      if (made === undefined) change.note(file.root)
      else change.noteMade(made)
      const content = made ?? index.putContent(file.root, file.table, file.sha256)
      index.putFile(file.place, content, file.stamp)
      index.indexChunks(content, file)
    }
  })
  for (const { place } of files) forgetReads(place)
}

function requireWhole(file: NewFile): void {
  const { place, stamp, root } = file
  if (!isAbsolute(place)) throw new InvalidInputError(`not an absolute path: ${place}`)
  // The table of one chunk follows from the root, and is not looked at.
  const size = root.code === codecs.raw ? Math.min(stamp.size, chunkBytesMax) : file.table.size
  if (stamp.size !== size) {
    throw new InvalidInputError(`${place}: ${stamp.size} bytes, but chunks of ${size}`)
  }
}
