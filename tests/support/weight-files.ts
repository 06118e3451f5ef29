/** Builders of small weight files, right and wrong. */

/** A safetensors file: the length, `header` as JSON or as it is, then `dataBytes` zeros. */
export function safetensorsFile(header: object | string | Uint8Array, dataBytes: number): Buffer {
  const json =
    header instanceof Uint8Array
      ? header
      : Buffer.from(typeof header === 'string' ? header : JSON.stringify(header))
  return Buffer.concat([u64(json.length), json, Buffer.alloc(dataBytes)])
}

export interface GgufParts {
  readonly version?: number
  readonly keyValues?: readonly Buffer[]
  readonly tensors?: readonly Buffer[]
  readonly dataBytes?: number
  readonly alignment?: number
}

/** A GGUF file of these key-values and tensor infos. */
export function ggufFile(parts: GgufParts): Buffer {
  const { version = 3, keyValues = [], tensors = [], dataBytes = 0, alignment = 32 } = parts
  const header = Buffer.concat([
    Buffer.from('GGUF'),
    u32(version),
    u64(tensors.length),
    u64(keyValues.length),
    ...keyValues,
    ...tensors,
  ])
  const padding = Buffer.alloc(Math.ceil(header.length / alignment) * alignment - header.length)
  return Buffer.concat([header, padding, Buffer.alloc(dataBytes)])
}

/**
 * A GGUF as llama-quantize leaves one: what it is, a vocabulary, and behind it `general.file_type`; then
 * the bytes of its one tensor.
 */
export function modelGguf(fileType: number, data: Uint8Array): Buffer {
  const words = Array.from({ length: 9000 }, (_, index) => ggufString(`word ${index}`))
  const header = ggufFile({
    keyValues: [
      keyValue('general.architecture', 8, ggufString('llama')),
      keyValue('general.size_label', 8, ggufString('1B')),
      keyValue('tokenizer.ggml.tokens', 9, Buffer.concat([u32(8), u64(words.length), ...words])),
      keyValue('general.file_type', 4, u32(fileType)),
    ],
    tensors: [tensorInfo('a', 0)],
  })
  return Buffer.concat([header, data])
}

/** A key and its value, which `value` encodes. */
export function keyValue(key: string, type: number, value: Buffer): Buffer {
  return Buffer.concat([ggufString(key), u32(type), value])
}

export function tensorInfo(name: string, offset: number | bigint, dimensions = [4]): Buffer {
  const sizes = dimensions.map(u64)
  return Buffer.concat([ggufString(name), u32(dimensions.length), ...sizes, u32(0), u64(offset)])
}

export function ggufString(text: string): Buffer {
  return Buffer.concat([u64(Buffer.byteLength(text)), Buffer.from(text)])
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}

export function u64(value: number | bigint): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt(value))
  return bytes
}
