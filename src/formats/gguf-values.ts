/**
 * A few values of a GGUF header: what a model is, as its own file says. Everything else is read over,
 * and what comes after the last of them is not read at all: the file may still be on its way.
 */

import type { ByteSource } from '../core/bytes.ts'
import { ggufTypes, readCounts, skipValue } from './gguf.ts'
import { HeaderCursor } from './header-cursor.ts'
import { headerBytesMax, malformed } from './tensors.ts'

/** A longer string is not the name of anything. */
export const ggufValueBytesMax = 1024

export type GgufValue = number | string

/**
 * Of the keys, those that the file has as a string or as a u32; the first of each counts. Throws
 * InvalidInputError when this is no GGUF.
 */
export async function ggufValues(
  source: ByteSource,
  keys: readonly string[],
): Promise<ReadonlyMap<string, GgufValue>> {
  const cursor = new HeaderCursor(source, headerBytesMax)
  const { keyValues } = await readCounts(cursor)
  const wanted = new Set(keys)
  const longest = Math.max(...keys.map(key => Buffer.byteLength(key)))
  const values = new Map<string, GgufValue>()
  for (let index = 0; index < keyValues && wanted.size > 0; index += 1) {
    const key = await readText(cursor, longest)
    if (!cursor.has(4)) await cursor.load(4)
    const type = cursor.u32()
    if (key === undefined || !wanted.delete(key)) {
      await skipValue(cursor, type)
      continue
    }
    const value = await readValue(cursor, type)
    if (value !== undefined) values.set(key, value)
  }
  return values
}

async function readValue(cursor: HeaderCursor, type: number): Promise<GgufValue | undefined> {
  if (type === ggufTypes.u32) {
    if (!cursor.has(4)) await cursor.load(4)
    return cursor.u32()
  }
  if (type !== ggufTypes.string) {
    await skipValue(cursor, type)
    return undefined
  }
  const text = await readText(cursor, ggufValueBytesMax)
  if (text === undefined) throw malformed('a name of more than a thousand bytes')
  return text
}

/** Reads over a string that is longer, and returns undefined. */
async function readText(cursor: HeaderCursor, bytesMax: number): Promise<string | undefined> {
  if (!cursor.has(8)) await cursor.load(8)
  const length = cursor.u64()
  if (length > bytesMax) {
    cursor.skip(length)
    return undefined
  }
  if (!cursor.has(length)) await cursor.load(length)
  return cursor.bytes(length).toString()
}
