/**
 * The header of a GGUF file: key-values, then one info a tensor. The rules here decide chunk
 * boundaries and so CIDs: docs/spec/chunking.md, to the letter. Tensor sizes are not looked at: they
 * need a table of types that grows every few months, and a new type must not change a CID.
 */

import type { ByteSource } from '../core/bytes.ts'
import { HeaderCursor } from './header-cursor.ts'
import { headerBytesMax, malformed, type NamedTensor, startsFrom, tensorsMax } from './tensors.ts'

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
  return startsFrom(Float64Array.from((await readTensors(source, false)).offsets))
}

/** The tensors, each up to where the next begins; throws as ggufStarts does. */
export async function ggufTensors(source: ByteSource): Promise<NamedTensor[]> {
  const { names, offsets } = await readTensors(source, true)
  const starts = Array.from(offsets.keys()).toSorted(
    (a, b) => (offsets[a] ?? 0) - (offsets[b] ?? 0),
  )
  return starts.flatMap((tensor, index) => {
    const next = starts[index + 1]
    const start = offsets[tensor] ?? 0
    const end = next === undefined ? source.size : (offsets[next] ?? 0)
    return start < end ? [{ name: names[tensor] ?? '', start, end }] : []
  })
}

interface Tensors {
  /** None unless they were wanted. */
  readonly names: readonly string[]
  /** In the file. */
  readonly offsets: Float64Array
}

async function readTensors(source: ByteSource, wantsNames: boolean): Promise<Tensors> {
  const cursor = new HeaderCursor(source, headerBytesMax)
  const { keyValues, tensors } = await readCounts(cursor)
  const alignment = await readAlignment(cursor, keyValues)
  const { names, offsets } = await readOffsets(cursor, tensors, wantsNames)
  const dataStart = Math.ceil(cursor.at / alignment) * alignment
  if (dataStart > source.size) throw malformed('the tensors start after the end')
  for (const [index, offset] of offsets.entries()) {
    if (dataStart + offset >= source.size) throw malformed(`tensor ${index} starts after the end`)
    offsets[index] = dataStart + offset
  }
  return { names, offsets }
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
async function readOffsets(
  cursor: HeaderCursor,
  tensors: number,
  wantsNames: boolean,
): Promise<Tensors> {
  const names: string[] = []
  const offsets: number[] = []
  for (let index = 0; index < tensors; index += 1) {
    if (wantsNames) names.push(await readName(cursor))
    else await cursor.skipStrings(1)
    if (!cursor.has(4)) await cursor.load(4)
    const dimensions = cursor.u32()
    if (dimensions > dimensionsMax) throw malformed(`a tensor of ${dimensions} dimensions`)
    const typeBytes = 4
    cursor.skip(dimensions * 8 + typeBytes)
    if (!cursor.has(8)) await cursor.load(8)
    offsets.push(cursor.u64())
  }
  return { names, offsets: Float64Array.from(offsets) }
}

/** The format says 64 bytes at most; some writers take more. */
const nameBytesMax = 1024

async function readName(cursor: HeaderCursor): Promise<string> {
  if (!cursor.has(8)) await cursor.load(8)
  const length = cursor.u64()
  if (length > nameBytesMax) throw malformed(`a tensor name of ${length} bytes`)
  if (!cursor.has(length)) await cursor.load(length)
  return cursor.bytes(length).toString('utf8')
}

function isPowerOfTwo(value: number): boolean {
  return value > 0 && (value & (value - 1)) === 0
}
