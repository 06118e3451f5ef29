/** The config blob of Ollama's manifests, worked out from the GGUF: docs/spec/oci.md section 5. */

import type { ByteSource } from '../../../src/core/bytes.ts'
import { type GgufValue, ggufValues } from '../../../src/formats/gguf-values.ts'

const keys = {
  family: 'general.architecture',
  size: 'general.size_label',
  file: 'general.file_type',
}

/** By `general.file_type`, as llama.cpp numbers them: what is not here is `unknown`, for ever. */
const fileTypes: Readonly<Record<number, string>> = {
  0: 'F32',
  1: 'F16',
  2: 'Q4_0',
  3: 'Q4_1',
  7: 'Q8_0',
  8: 'Q5_0',
  9: 'Q5_1',
  10: 'Q2_K',
  11: 'Q3_K_S',
  12: 'Q3_K_M',
  13: 'Q3_K_L',
  14: 'Q4_K_S',
  15: 'Q4_K_M',
  16: 'Q5_K_S',
  17: 'Q5_K_M',
  18: 'Q6_K',
  19: 'IQ2_XXS',
  20: 'IQ2_XS',
  21: 'Q2_K_S',
  22: 'IQ3_XS',
  23: 'IQ3_XXS',
  24: 'IQ1_S',
  25: 'IQ4_NL',
  26: 'IQ3_S',
  27: 'IQ3_M',
  28: 'IQ2_S',
  29: 'IQ2_M',
  30: 'IQ4_XS',
  31: 'IQ1_M',
  32: 'BF16',
  36: 'TQ1_0',
  37: 'TQ2_0',
  38: 'MXFP4_MOE',
}
/** Added by llama.cpp when it worked the type out from the tensors. */
const guessed = 1024

/** Reads the header; throws InvalidInputError when this is no GGUF. */
export async function ollamaConfig(source: ByteSource): Promise<string> {
  return configText(await ggufValues(source, Object.values(keys)))
}

/** Exactly these bytes: their digest is in the manifest, which is to be the same on every node. */
function configText(values: ReadonlyMap<string, GgufValue>): string {
  const family = textOf(values.get(keys.family))
  const type = values.get(keys.file)
  const fileType = typeof type === 'number' ? fileTypes[type % guessed] : undefined
  return JSON.stringify({
    model_format: 'gguf',
    model_family: family,
    model_families: [family],
    model_type: textOf(values.get(keys.size)),
    file_type: fileType ?? 'unknown',
    os: 'linux',
    architecture: 'amd64',
    rootfs: { type: 'layers', diff_ids: [] },
  })
}

function textOf(value: GgufValue | undefined): string {
  return typeof value === 'string' && value !== '' ? value : 'unknown'
}
