/**
 * The header of a GGUF file: key-values, then one info a tensor. The rules here decide chunk
 * boundaries and so CIDs: docs/spec/chunking.md, to the letter. Tensor sizes are not looked at: they
 * need a table of types that grows every few months, and a new type must not change a CID.
 */

import type { ByteSource } from '../core/bytes.ts'
import { HeaderCursor } from './header-cursor.ts'
import { headerBytesMax, malformed, startsFrom, tensorsMax } from './tensors.ts'

export const ggufMagic = 0x46554747
const versions: readonly number[] = [2, 3]

const dimensionsMax = 4
const alignmentKey = Buffer.from('general.alignment')
const defaultAlignment = 32

export const ggufTypes = { u32: 4, string: 8, array: 9 } as const
/** Bytes of a value by its type; undefined for strings and arrays. */
const scalarBytes = [1, 1, 2, 2, 4, 4, 4, 1, undefined, undefined, 8, 8, 8] as const

/** Where the tensors start, with 0 in front; throws InvalidInputError when this is no GGUF. */
export async function ggufStarts(source: ByteSource): Promise<number[]> {
  const cursor = new HeaderCursor(source, headerBytesMax)
  const { keyValues, tensors } = await readCounts(cursor)
  const alignment = await readAlignment(cursor, keyValues)
  const offsets = await readOffsets(cursor, tensors)
  const dataStart = Math.ceil(cursor.at / alignment) * alignment
  if (dataStart > source.size) throw malformed('the tensors start after the end')
  for (const [index, offset] of offsets.entries()) {
    if (dataStart + offset >= source.size) throw malformed(`tensor ${index} starts after the end`)
    offsets[index] = dataStart + offset
  }
  return startsFrom(offsets)
}

/** What every GGUF begins with. */
export async function readCounts(
  cursor: HeaderCursor,
): Promise<{ readonly tensors: number; readonly keyValues: number }> {
  await cursor.load(24)
  if (cursor.u32() !== ggufMagic) throw malformed('no GGUF magic')
  const version = cursor.u32()
  if (!versions.includes(version)) throw malformed(`GGUF version ${version}`)
  const tensors = cursor.u64()
  if (tensors > tensorsMax) throw malformed(`${tensors} tensors`)
  return { tensors, keyValues: cursor.u64() }
}

/** Reads over all key-values. */
async function readAlignment(cursor: HeaderCursor, keyValues: number): Promise<number> {
  let alignment: number | undefined
  // The count has no bound of its own: each takes at least 13 bytes of a bounded header.
  for (let index = 0; index < keyValues; index += 1) {
    const isAlignment = await skipKey(cursor)
    if (!cursor.has(4)) await cursor.load(4)
    const type = cursor.u32()
    if (!isAlignment) {
      await skipValue(cursor, type)
      continue
    }
    if (alignment !== undefined) throw malformed('general.alignment is given twice')
    if (type !== ggufTypes.u32) throw malformed('general.alignment is not a u32')
    if (!cursor.has(4)) await cursor.load(4)
    alignment = cursor.u32()
    if (!isPowerOfTwo(alignment)) throw malformed(`an alignment of ${alignment}`)
  }
  return alignment ?? defaultAlignment
}

/** Reads a key; true when it is general.alignment. */
async function skipKey(cursor: HeaderCursor): Promise<boolean> {
  if (!cursor.has(8)) await cursor.load(8)
  const length = cursor.u64()
  if (length !== alignmentKey.length) {
    cursor.skip(length)
    return false
  }
  if (!cursor.has(length)) await cursor.load(length)
  return cursor.bytes(length).equals(alignmentKey)
}

export async function skipValue(cursor: HeaderCursor, type: number): Promise<void> {
  if (type === ggufTypes.string) {
    await cursor.skipStrings(1)
  } else if (type === ggufTypes.array) {
    if (!cursor.has(12)) await cursor.load(12)
    const itemType = cursor.u32()
    const count = cursor.u64()
    if (itemType === ggufTypes.string) await cursor.skipStrings(count)
    else cursor.skip(count * scalarBytesOf(itemType))
  } else {
    cursor.skip(scalarBytesOf(type))
  }
}

/** Throws for arrays too: an array of arrays is allowed by no version in use. */
function scalarBytesOf(type: number): number {
  const bytes = scalarBytes[type]
  if (bytes === undefined) throw malformed(`value type ${type}`)
  return bytes
}

/** Offsets of the tensors from the start of the data. */
async function readOffsets(cursor: HeaderCursor, tensors: number): Promise<Float64Array> {
  const offsets: number[] = []
  for (let index = 0; index < tensors; index += 1) {
    await cursor.skipStrings(1)
    if (!cursor.has(4)) await cursor.load(4)
    const dimensions = cursor.u32()
    if (dimensions > dimensionsMax) throw malformed(`a tensor of ${dimensions} dimensions`)
    const typeBytes = 4
    cursor.skip(dimensions * 8 + typeBytes)
    if (!cursor.has(8)) await cursor.load(8)
    offsets.push(cursor.u64())
  }
  return Float64Array.from(offsets)
}

function isPowerOfTwo(value: number): boolean {
  return value > 0 && (value & (value - 1)) === 0
}
