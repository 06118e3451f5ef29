/**
 * What both header parsers share: the bounds of cw-chunk-1 and the form of their result. Chunking
 * needs only where tensors start; names are read for comparing two files, dtypes and shapes are skipped.
 */

import { InvalidInputError } from '../core/errors.ts'

/** The reference reader of safetensors stops here; GGUF headers of 2026 reach 16 MB. */
export const headerBytesMax = 100_000_000

/** The largest mixture of experts has 1e5 tensors; this many fit the header bytes of no sane file. */
export const tensorsMax = 2_000_000

/** The bytes of a tensor in its file. */
export interface NamedTensor {
  readonly name: string
  readonly start: number
  /** Exclusive. */
  readonly end: number
}

/** Offsets where tensors start, of any order and repeated → sorted, unique, with 0 in front. */
export function startsFrom(offsets: Float64Array): number[] {
  const starts = [0]
  let last = 0
  for (const offset of offsets.toSorted()) {
    if (offset !== last) starts.push(offset)
    last = offset
  }
  return starts
}

/** The error of a header that breaks a rule of its format; such a file is cut as plain bytes. */
export function malformed(reason: string): InvalidInputError {
  return new InvalidInputError(`not a header we can read: ${reason}`)
}
