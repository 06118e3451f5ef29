/**
 * cw-chunk-1: where a file is cut. The plan depends on the file's size and on where its tensors
 * start, never on their types, so that a new dtype changes no CID. Stated in docs/spec/chunking.md;
 * any change of a constant here is a new format, cw-chunk-2.
 */

import { chunkBytesMax } from '../core/limits.ts'
import { KiB } from '../core/units.ts'

/** Segments shorter than this share a chunk with their neighbours. */
export const smallSegmentBytes = 256 * KiB

/**
 * The lengths of a file's chunks, in order: each 1 to chunkBytesMax, together `size`.
 *
 * `starts` is sorted, unique, begins with 0 and lies below `size` (an empty file has [0] and no
 * chunks); it comes from tensorStarts of formats/detect.ts.
 */
export function planChunks(size: number, starts: readonly number[]): Uint32Array {
  const lengths: number[] = []
  let run = 0
  const closeRun = (): void => {
    if (run > 0) lengths.push(run)
    run = 0
  }
  for (const [index, start] of starts.entries()) {
    const length = (starts[index + 1] ?? size) - start
    // Segment 0 is the header: kept apart, so that an edit of it changes no tensor's chunk.
    if (index > 0 && length < smallSegmentBytes) {
      if (run + length > chunkBytesMax) closeRun()
      run += length
      continue
    }
    closeRun()
    for (let cut = 0; cut < length; cut += chunkBytesMax) {
      lengths.push(Math.min(chunkBytesMax, length - cut))
    }
  }
  closeRun()
  return Uint32Array.from(lengths)
}
