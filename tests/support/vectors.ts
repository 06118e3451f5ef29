/** The golden vectors of tests/vectors, and the files that chunking.json describes by their parts. */

import { sha256 } from '@noble/hashes/sha2.js'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

export type Part =
  | { readonly base64: string }
  | { readonly filler: string; readonly length: number }
  | { readonly repeat: string; readonly length: number }

export interface ChunkingCase {
  readonly name: string
  readonly parts: readonly Part[]
  readonly size: number
  readonly sha256: string
  readonly starts: readonly number[]
  readonly chunks: readonly (readonly [offset: number, length: number])[]
  readonly root: string
  readonly nodes: readonly string[]
}

export interface DagCase {
  readonly name: string
  readonly leaves: { readonly zeros: number } | { readonly uneven: number }
  readonly leafCount: number
  readonly size: number
  readonly root: string
  readonly rootTsize: number
  readonly nodeCount: number
  readonly levels: number
  readonly nodesSha256: string
  readonly firstNode: { readonly cid: string; readonly bytes: number }
  readonly lastNode: { readonly cid: string; readonly bytes: number }
}

export function readVectors<T>(name: string): T {
  const path = join(import.meta.dirname, '../vectors', name)
  return JSON.parse(readFileSync(path, 'utf8')) as T
}

export const chunkingCases = readVectors<{ cases: ChunkingCase[] }>('chunking.json').cases
export const dagCases = readVectors<{ cases: DagCase[] }>('dag.json').cases

/** The whole content of a case's file. */
export function contentOf(parts: readonly Part[]): Buffer {
  return Buffer.concat(parts.map(partBytes))
}

function partBytes(part: Part): Buffer {
  if ('base64' in part) return Buffer.from(part.base64, 'base64')
  if ('repeat' in part) return Buffer.alloc(part.length, part.repeat)
  return fillerBytes(part.filler, part.length)
}

const fillers = new Map<string, Buffer>()

/** SHA-256 of `seed:0`, `seed:1` … one after the other, cut to `length`; the longest is kept. */
function fillerBytes(seed: string, length: number): Buffer {
  const known = fillers.get(seed)
  if (known !== undefined && known.length >= length) return known.subarray(0, length)
  const digests = Array.from({ length: Math.ceil(length / 32) }, (_, index) =>
    sha256(Buffer.from(`${seed}:${index}`)),
  )
  const filler = Buffer.concat(digests, length)
  fillers.set(seed, filler)
  return filler
}
