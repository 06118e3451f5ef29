/**
 * A new revision of a file of weights has most of its bytes from the last one, and a hub does not say which.
 * So they are guessed: tensors of the same name and length are copied from the old file, the rest is
 * fetched, and the hub's SHA-256 of the whole tells whether that was right. Where it was not, samples of
 * each tensor show which to fetch. docs/spec/mirroring.md, section 6.
 */

import { type FileHandle, open } from 'node:fs/promises'
import { mapLimit } from '../../core/async.ts'
import { Bitfield } from '../../core/bitfield.ts'
import { type ByteSource, equalBytes } from '../../core/bytes.ts'
import { CommonweightError, systemCode } from '../../core/errors.ts'
import { normalize, type Range, subtract } from '../../core/ranges.ts'
import { KiB, MiB } from '../../core/units.ts'
import { namedTensors } from '../../formats/named-tensors.ts'
import { blockBytes, type HubPartial } from './hub-partial.ts'

/** Bytes of the file as the hub has it. */
export type ReadRange = (start: number, end: number) => Promise<Buffer>

/** What is taken for right until the whole was hashed. */
export interface Guess {
  /** By blocks of the partial file. */
  readonly blocks: Bitfield
  /** The whole was wrong: less is guessed from now on, and in the end nothing. */
  doubt(): Promise<void>
}

/** Tensors of an older revision on this machine, by name and length. */
export type LocalTensors = ReadonlyMap<string, LocalTensor>

interface LocalTensor {
  readonly place: string
  readonly start: number
}

/** A tensor that the new file has and an old one, too. */
interface Match {
  readonly start: number
  readonly length: number
  readonly local: LocalTensor
}

/** Tensors of one repository that are remembered: ten times the largest mixture of experts. */
const localTensorsMax = 1_000_000
/** Looked at before anything is copied: a fine-tune differs in nearly all. */
const firstSamples = 16
/** Samples are requests, of which a hub allows some thousands in five minutes. */
const samplesMax = 2000
const samplesAtOnce = 6
const sampleBytes = 4 * KiB
const copyBytes = MiB
/** Smaller files are fetched before anything is known of them. */
export const guessedBytesMin = 4 * MiB

/** The tensors in these files; what cannot be read has none. */
export async function localTensorsOf(places: readonly string[]): Promise<LocalTensors> {
  const found = new Map<string, LocalTensor>()
  for (const place of places) {
    const tensors = await withFile(place, async file => {
      const { size } = await file.stat()
      return namedTensors(fileSource(file, size))
    })
    for (const { name, start, end } of tensors ?? []) {
      if (found.size === localTensorsMax) return found
      found.set(keyOf(name, end - start), { place, start })
    }
  }
  return found
}

function keyOf(name: string, length: number): string {
  return `${length} ${name}`
}

export interface GuessDeps {
  readonly locals: LocalTensors
  /** From the hub. */
  readonly read: ReadRange
  readonly signal: AbortSignal
}

/**
 * Copies what is likely to be right into the partial file. Undefined when that is too little, or the first
 * samples differ.
 */
export async function openGuess(deps: GuessDeps, partial: HubPartial): Promise<Guess | undefined> {
  if (deps.locals.size === 0) return undefined
  const tensors = await namedTensors(hubSource(deps, partial))
  const matches = tensors.flatMap(({ name, start, end }) => {
    const local = deps.locals.get(keyOf(name, end - start))
    return local === undefined ? [] : [{ start, length: end - start, local }]
  })
  const known = matches.reduce((sum, { length }) => sum + length, 0)
  if (known < partial.size / 2) return undefined
  const first = everyNth(matches, firstSamples)
  const wrong = await differing(deps, first)
  if (wrong.size > first.length / 2) return undefined
  const guess = new TensorGuess(deps, partial, { matches, sampled: new Set(first), wrong })
  await guess.copy()
  return guess
}

interface Sampled {
  readonly matches: readonly Match[]
  readonly sampled: Set<Match>
  readonly wrong: Set<Match>
}

class TensorGuess implements Guess {
  blocks: Bitfield
  readonly #deps: GuessDeps
  readonly #partial: HubPartial
  readonly #matches: readonly Match[]
  readonly #sampled: Set<Match>
  readonly #wrong: Set<Match>

  constructor(deps: GuessDeps, partial: HubPartial, { matches, sampled, wrong }: Sampled) {
    this.#deps = deps
    this.#partial = partial
    this.#matches = matches
    this.#sampled = sampled
    this.#wrong = wrong
    this.blocks = new Bitfield(partial.held.length)
  }

  async copy(): Promise<void> {
    const { signal } = this.#deps
    const copied: Range[] = []
    for (const match of this.#matches) {
      if (this.#wrong.has(match)) continue
      // What came from the hub is right, and not written over.
      const wanted: Range = [match.start, match.start + match.length]
      for (const range of subtract([wanted], heldRanges(this.#partial))) {
        copied.push(await copyRange(this.#partial, match, { range, signal }))
      }
    }
    this.blocks = blocksInside(normalize(copied), this.#partial)
  }

  async doubt(): Promise<void> {
    const unsampled = this.#matches.filter(match => !this.#sampled.has(match))
    const wrong =
      unsampled.length > samplesMax ? new Set<Match>() : await differing(this.#deps, unsampled)
    for (const match of unsampled) this.#sampled.add(match)
    if (wrong.size === 0) this.blocks = new Bitfield(this.#partial.held.length)
    for (const { start, length } of wrong) {
      const last = Math.floor((start + length - 1) / blockBytes)
      for (let block = Math.floor(start / blockBytes); block <= last; block += 1) {
        this.blocks.delete(block)
      }
    }
  }
}

/** Those of which a sample is not what the hub has. */
async function differing(deps: GuessDeps, matches: readonly Match[]): Promise<Set<Match>> {
  const compare = async (match: Match): Promise<{ match: Match; isSame: boolean }> => {
    const length = Math.min(sampleBytes, match.length)
    const middle = Math.floor((match.length - length) / 2)
    const { place, start } = match.local
    const local = await withFile(place, file => readFull(file, start + middle, length))
    const remote = await deps.read(match.start + middle, match.start + middle + length)
    return { match, isSame: local !== undefined && equalBytes(local, remote) }
  }
  const wrong = new Set<Match>()
  for await (const { match, isSame } of mapLimit(matches, samplesAtOnce, compare, deps.signal)) {
    if (!isSame) wrong.add(match)
  }
  return wrong
}

/** Of a tensor's bytes; returns what of the range could be copied. */
async function copyRange(
  partial: HubPartial,
  { start, local }: Match,
  { range, signal }: { readonly range: Range; readonly signal: AbortSignal },
): Promise<Range> {
  const [from, end] = range
  let at = from
  await withFile(local.place, async file => {
    while (at < end) {
      signal.throwIfAborted()
      const length = Math.min(copyBytes, end - at)
      const bytes = await readFull(file, local.start + at - start, length)
      if (bytes.length === 0) return
      await partial.write(at, bytes)
      at += bytes.length
    }
  })
  return [from, at]
}

function heldRanges({ held, size }: HubPartial): Range[] {
  return Array.from(held.runs(), ([first, end]): Range => {
    return [first * blockBytes, Math.min(size, end * blockBytes)]
  })
}

/** The blocks of which every byte was copied. */
function blocksInside(copied: readonly Range[], { size, held }: HubPartial): Bitfield {
  const blocks = new Bitfield(held.length)
  for (const [start, end] of copied) {
    const last = end === size ? held.length : Math.floor(end / blockBytes)
    for (let block = Math.ceil(start / blockBytes); block < last; block += 1) blocks.add(block)
  }
  return blocks
}

/** `count` of the items, spread over all. */
function everyNth<T>(items: readonly T[], count: number): T[] {
  const step = Math.max(1, items.length / count)
  const picked = Array.from({ length: Math.min(count, items.length) }, (_, index) => {
    return items[Math.floor(index * step)] as T
  })
  return picked
}

/** The new file's header; whole blocks of it are fetched, and kept. */
function hubSource({ read }: GuessDeps, partial: HubPartial): ByteSource {
  const { size, held } = partial
  return {
    size,
    async readAt(offset, length) {
      for (let block = Math.floor(offset / blockBytes); block * blockBytes < offset + length;) {
        const start = block * blockBytes
        const end = Math.min(size, start + blockBytes)
        if (!held.has(block)) {
          await partial.write(start, await read(start, end))
          await partial.wrote(start, end)
        }
        block += 1
      }
      return partial.read(offset, length)
    },
  }
}

function fileSource(file: FileHandle, size: number): ByteSource {
  return {
    size,
    async readAt(offset, length) {
      const bytes = await readFull(file, offset, length)
      if (bytes.length < length) throw new RangeError(`the file ends after ${offset} bytes`)
      return bytes
    },
  }
}

/** Fewer bytes only at the end of the file. */
async function readFull(file: FileHandle, offset: number, length: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(length)
  let got = 0
  while (got < length) {
    const { bytesRead } = await file.read(bytes, got, length - got, offset + got)
    if (bytesRead === 0) break
    got += bytesRead
  }
  return bytes.subarray(0, got)
}

/** Undefined when the file is gone or cannot be read: it is of no use then. */
async function withFile<T>(
  place: string,
  work: (file: FileHandle) => Promise<T>,
): Promise<T | undefined> {
  try {
    await using file = await open(place, 'r')
    return await work(file)
  } catch (error) {
    const isUnreadable = systemCode(error) !== undefined || error instanceof RangeError
    if (!isUnreadable || error instanceof CommonweightError) throw error
    return undefined
  }
}
