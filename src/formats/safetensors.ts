/**
 * The header of a safetensors file: a length, then JSON that names each tensor and its bytes. The
 * rules here decide chunk boundaries and so CIDs: docs/spec/chunking.md, to the letter.
 */

import { type ByteSource, viewOf } from '../core/bytes.ts'
import { MiB } from '../core/units.ts'
import { JsonScanner } from './json-scanner.ts'
import { headerBytesMax, malformed, type NamedTensor, startsFrom, tensorsMax } from './tensors.ts'

const lengthBytes = 8
const metadataKey = '__metadata__'

/** Where the tensors start, with 0 in front; throws InvalidInputError when this is no safetensors. */
export async function safetensorsStarts(source: ByteSource): Promise<number[]> {
  const { header, dataStart } = await readHeader(source)
  const { begins, ends } = nonEmptyRanges(tensorRanges(header))
  checkTiling(begins, ends, source.size - dataStart)
  return startsFrom(begins.map(begin => dataStart + begin))
}

/** The tensors that are not empty; throws as safetensorsStarts does. */
export async function safetensorsTensors(source: ByteSource): Promise<NamedTensor[]> {
  const { header, dataStart } = await readHeader(source)
  const { names, begins, ends } = tensorRanges(header)
  nonEmptyRanges({ names, begins, ends })
  return names.flatMap((name, slot) => {
    const start = dataStart + (begins[slot] ?? 0)
    const end = dataStart + (ends[slot] ?? 0)
    return start < end && end <= source.size ? [{ name, start, end }] : []
  })
}

interface Header {
  readonly header: Uint8Array
  readonly dataStart: number
}

async function readHeader(source: ByteSource): Promise<Header> {
  if (source.size < lengthBytes) throw malformed('shorter than the length of a header')
  const prefix = viewOf(await source.readAt(0, lengthBytes))
  const headerBytes = prefix.readUInt32LE(0) + prefix.readUInt32LE(4) * 2 ** 32
  if (headerBytes > headerBytesMax) throw malformed(`a header of ${headerBytes} bytes`)
  const dataStart = lengthBytes + headerBytes
  if (dataStart > source.size) throw malformed('the header ends after the file')
  const header = await source.readAt(lengthBytes, headerBytes)
  checkUtf8(header)
  return { header, dataStart }
}

/** In pieces: no string of the whole header is ever made. */
function checkUtf8(header: Uint8Array): void {
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
  try {
    for (let at = 0; at < header.length; at += MiB) {
      decoder.decode(header.subarray(at, at + MiB), { stream: true })
    }
    decoder.decode()
  } catch (error) {
    throw malformed(`not UTF-8 (${String(error)})`)
  }
}

interface Ranges {
  readonly begins: Float64Array
  readonly ends: Float64Array
}

/** The data_offsets of every entry but __metadata__; NaN for an entry that has none. */
interface Entries {
  readonly names: readonly string[]
  readonly begins: number[]
  readonly ends: number[]
}

function tensorRanges(header: Uint8Array): Entries {
  const scanner = new JsonScanner(header)
  // A repeated key replaces the value it had, as in JSON.parse: so each key keeps its slot.
  const slots = new Map<string, number>()
  const begins: number[] = []
  const ends: number[] = []
  scanner.object(key => {
    let slot = slots.get(key)
    if (slot === undefined) {
      slot = slots.size
      if (slot === tensorsMax) throw malformed(`more than ${tensorsMax} entries`)
      slots.set(key, slot)
    }
    const [begin, end] = key === metadataKey ? skipMetadata(scanner) : entryRange(scanner)
    begins[slot] = begin
    ends[slot] = end
  })
  scanner.end()
  return { names: [...slots.keys()], begins, ends }
}

type Offsets = readonly [begin: number, end: number]
const noOffsets: Offsets = [NaN, NaN]

/** Of any shape; counted as an entry that covers nothing. */
function skipMetadata(scanner: JsonScanner): Offsets {
  scanner.skip()
  return [0, 0]
}

function entryRange(scanner: JsonScanner): Offsets {
  if (!scanner.atObject) {
    scanner.skip()
    return noOffsets
  }
  let offsets = noOffsets
  scanner.member('data_offsets', () => {
    offsets = readOffsets(scanner)
  })
  return offsets
}

function readOffsets(scanner: JsonScanner): Offsets {
  if (!scanner.atArray) {
    scanner.skip()
    return noOffsets
  }
  let begin = NaN
  let end = NaN
  let count = 0
  scanner.array(() => {
    const value = readNumber(scanner)
    if (count === 0) begin = value
    else end = value
    count += 1
  })
  return count === 2 ? [begin, end] : noOffsets
}

function readNumber(scanner: JsonScanner): number {
  if (scanner.atNumber) return scanner.number()
  scanner.skip()
  return NaN
}

/** Checks each range for itself and drops the empty ones. */
function nonEmptyRanges({ begins, ends }: Entries): Ranges {
  const kept: [number[], number[]] = [[], []]
  for (const [slot, begin] of begins.entries()) {
    const end = ends[slot] ?? NaN
    const isRange = Number.isSafeInteger(begin) && Number.isSafeInteger(end)
    if (!isRange || begin < 0 || begin > end) throw malformed('an entry without a range of bytes')
    if (begin === end) continue
    kept[0].push(begin)
    kept[1].push(end)
  }
  return { begins: Float64Array.from(kept[0]), ends: Float64Array.from(kept[1]) }
}

/**
 * Throws unless the ranges cover [0, size) without hole or overlap. They may be sorted apart: when
 * the sorted begins are 0 and all ends but the last, the last begin can only belong to the last end,
 * so the one before only to the end before, and so on.
 */
function checkTiling(begins: Float64Array, ends: Float64Array, size: number): void {
  const sortedBegins = begins.toSorted()
  const sortedEnds = ends.toSorted()
  let covered = 0
  for (const [index, begin] of sortedBegins.entries()) {
    const end = sortedEnds[index] ?? 0
    if (begin !== covered || end <= begin) throw malformed('tensors with holes or overlaps')
    covered = end
  }
  if (covered !== size) throw malformed(`tensors of ${covered} bytes in a file with ${size}`)
}
