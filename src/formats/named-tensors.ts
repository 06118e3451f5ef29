/**
 * Tensors by their names, for comparing two files of weights. Unlike the starts that chunks are cut at this
 * decides nothing that must be the same everywhere: what it says is a guess, which a hash confirms.
 */

import { type ByteSource, viewOf } from '../core/bytes.ts'
import { InvalidInputError } from '../core/errors.ts'
import { ggufMagic, ggufTensors } from './gguf.ts'
import { safetensorsTensors } from './safetensors.ts'
import type { NamedTensor } from './tensors.ts'

export type { NamedTensor } from './tensors.ts'

/** None for a file that no parser accepts. Rejects only when reading fails. */
export async function namedTensors(source: ByteSource): Promise<NamedTensor[]> {
  try {
    if (source.size < 8) return []
    const magic = viewOf(await source.readAt(0, 4)).readUInt32LE(0)
    return magic === ggufMagic ? await ggufTensors(source) : await safetensorsTensors(source)
  } catch (error) {
    if (error instanceof InvalidInputError) return []
    throw error
  }
}
