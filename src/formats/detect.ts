/** Which weight format a file is in, as far as chunking needs to know: where its tensors start. */

import { type ByteSource, viewOf } from '../core/bytes.ts'
import { InvalidInputError } from '../core/errors.ts'
import { ggufMagic, ggufStarts } from './gguf.ts'
import { safetensorsStarts } from './safetensors.ts'

/**
 * The starts of cw-chunk-1 for planChunks: sorted, unique, the first 0. A file that no parser
 * accepts is kept all the same, as plain bytes: [0]. Rejects only when reading fails.
 */
export async function tensorStarts(source: ByteSource): Promise<readonly number[]> {
  try {
    return (await isGguf(source)) ? await ggufStarts(source) : await safetensorsStarts(source)
  } catch (error) {
    // The parsers stay inside the source, so only the content can be at fault here.
    if (error instanceof InvalidInputError) return [0]
    throw error
  }
}

/**
 * Whether no parser can accept a file of `size` bytes that starts with `start` (8 bytes, or all): told
 * without an error made, of which 10,000 small files would make 10,000.
 */
export function isPlain(size: number, start: Uint8Array): boolean {
  if (size < 8) return true
  const view = viewOf(start)
  const first = view.readUInt32LE(0)
  return first !== ggufMagic && first + view.readUInt32LE(4) * 2 ** 32 > size - 8
}

/** A file with this magic is never tried as safetensors, whose header would have 1.2 GB. */
async function isGguf(source: ByteSource): Promise<boolean> {
  if (source.size < 4) return false
  return viewOf(await source.readAt(0, 4)).readUInt32LE(0) === ggufMagic
}
