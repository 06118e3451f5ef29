/** Weight files made to exhaust or to mislead the header parsers: research T11, T12. */

import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type ByteSource, memorySource } from '../../src/core/bytes.ts'
import { planChunks } from '../../src/dag/chunking.ts'
import { tensorStarts } from '../../src/formats/detect.ts'
import { fuzzTimeoutMs, untilTime } from '../support/fuzz.ts'
import { mutated } from '../support/mutations.ts'
import { chunkingCases, contentOf } from '../support/vectors.ts'
import {
  ggufFile,
  ggufString,
  keyValue,
  safetensorsFile,
  tensorInfo,
  u32,
  u64,
} from '../support/weight-files.ts'
import { cpuMs } from '../support/cpu-time.ts'

const headerBytes = 90_000_000

/** JSON of 90 MB: `open`, then `fill` over and over, then `close`. */
function bigHeader(open: string, fill: string, close: string): Buffer {
  const header = Buffer.alloc(headerBytes, fill)
  const whole = headerBytes - ((headerBytes - open.length - close.length) % fill.length)
  const cut = header.subarray(0, whole)
  cut.fill(fill, open.length)
  cut.write(open)
  cut.write(close, whole - close.length)
  return cut
}

const bigHeaders: readonly (readonly [string, Buffer, number])[] = [
  ['empty arrays', bigHeader('{"a":{"x":[[]', ',[]', '],"data_offsets":[0,9]}}'), 2],
  ['empty objects', bigHeader('{"a":{"x":[{}', ',{}', '],"data_offsets":[0,9]}}'), 2],
  ['one key over and over', bigHeader('{"a":0', ',"a":0', ',"a":{"data_offsets":[0,9]}}'), 2],
  ['offsets over and over', bigHeader('{"a":{"data_offsets":[0', ',1', ']}}'), 1],
  ['arrays that are never closed', bigHeader('{"a":[', '[', '['), 1],
  ['a number of 90 MB', bigHeader('{"a":{"data_offsets":[0,9', '9', ']}}'), 1],
  ['a string of escapes', bigHeader('{"a":"', '\\u0041', '"}'), 1],
  ['white space', bigHeader('{"a":{"data_offsets":[0,9]}', ' ', '}'), 2],
]

test.for(bigHeaders)('90 MB of %s: flat in memory, done in seconds', async ([, header, count]) => {
  const file = safetensorsFile(header, 9)
  const before = cpuMs()
  const heapBefore = process.memoryUsage().heapUsed
  expect(await tensorStarts(memorySource(file))).toHaveLength(count)
  expect(cpuMs() - before).toBeLessThan(30_000)
  expect(process.memoryUsage().heapUsed - heapBefore).toBeLessThan(300_000_000)
})

test('two million entries are read, one more makes a plain file', async () => {
  const entries = Array.from(
    { length: 2_000_000 },
    (_, index) => `"${index.toString(36)}":{"data_offsets":[0,0]}`,
  )
  const open = entries.with(0, '"first":{"data_offsets":[0,9]}').join(',')
  expect(await tensorStarts(memorySource(safetensorsFile(`{${open}}`, 9)))).toHaveLength(2)
  const tooMany = `{${open},"__metadata__":{}}`
  expect(await tensorStarts(memorySource(safetensorsFile(tooMany, 9)))).toEqual([0])
})

// Each was a memory error in a loader that trusted a count or an offset; here they are plain files.
test.for([
  ['a string of 2^64 - 1 bytes', [keyValue('k', 8, u64(2n ** 64n - 1n))], []],
  ['a key of 2^63 bytes', [u64(2n ** 63n)], []],
  [
    'an array whose bytes overflow 2^64',
    [keyValue('k', 9, Buffer.concat([u32(10), u64(2n ** 61n + 1n)]))],
    [],
  ],
  ['an offset that wraps around', [], [tensorInfo('a', 2n ** 64n - 64n)]],
  ['2^32 - 1 dimensions', [], [Buffer.concat([ggufString('a'), u32(2 ** 32 - 1)])]],
] satisfies [string, Buffer[], Buffer[]][])(
  'GGUF with %s is a plain file',
  async ([, keyValues, tensors]) => {
    const file = ggufFile({ keyValues, tensors, dataBytes: 1000 })
    expect(await tensorStarts(memorySource(file))).toEqual([0])
  },
)

test('dimensions that overflow in loaders change nothing here', async () => {
  const file = ggufFile({
    tensors: [tensorInfo('a', 0, [2 ** 32, 2 ** 32, 2 ** 32, 2 ** 32])],
    dataBytes: 64,
  })
  expect(await tensorStarts(memorySource(file))).toHaveLength(2)
})

test('a vocabulary of a million strings is read in a hundred pieces', async () => {
  const strings = Buffer.concat(
    Array.from({ length: 1_000_000 }, (_, index) => ggufString(`t${index}`)),
  )
  const tokens = keyValue('tokens', 9, Buffer.concat([u32(8), u64(1_000_000), strings]))
  const memory = memorySource(
    ggufFile({ keyValues: [tokens], tensors: [tensorInfo('a', 0)], dataBytes: 64 }),
  )
  let reads = 0
  let bytesRead = 0
  const source: ByteSource = {
    size: memory.size,
    readAt(offset, length) {
      reads += 1
      bytesRead += length
      return memory.readAt(offset, length)
    },
  }
  expect(await tensorStarts(source)).toHaveLength(2)
  expect(reads).toBeLessThan(100)
  expect(bytesRead).toBeLessThan(1.1 * memory.size)
})

test('strings as long as a window do not make the reader read more than the header', async () => {
  const strings = Array.from({ length: 200 }, () => ggufString('x'.repeat(262_144 - 4)))
  const values = keyValue('k', 9, Buffer.concat([u32(8), u64(200), ...strings]))
  const memory = memorySource(
    ggufFile({ keyValues: [values], tensors: [tensorInfo('a', 0)], dataBytes: 64 }),
  )
  let bytesRead = 0
  const source: ByteSource = {
    size: memory.size,
    readAt(offset, length) {
      bytesRead += length
      return memory.readAt(offset, length)
    },
  }
  expect(await tensorStarts(source)).toHaveLength(2)
  expect(bytesRead).toBeLessThan(1.1 * memory.size)
})

const smallFiles = chunkingCases
  .filter(({ name }) => /^(safetensors|gguf)-/u.test(name))
  .map(({ parts }) => contentOf(parts).subarray(0, 400))
const smallGguf = ggufFile({
  keyValues: [
    keyValue('general.alignment', 4, u32(32)),
    keyValue('k', 9, Buffer.concat([u32(8), u64(2), ggufString('a'), ggufString('bb')])),
  ],
  tensors: [tensorInfo('x', 0), tensorInfo('y', 32)],
  dataBytes: 100,
})
const smallSafetensors = safetensorsFile(
  { __metadata__: { a: 'b' }, x: { data_offsets: [0, 40] }, y: { data_offsets: [40, 100] } },
  100,
)

test(
  'whatever bytes come, a file gets a plan that tiles it',
  async () => {
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 300 }),
      fc.constantFrom(...smallFiles, smallGguf, smallSafetensors).chain(mutated),
    )
    await fc.assert(
      fc.asyncProperty(bytes, async content => {
        const starts = await tensorStarts(memorySource(content))
        expect(starts[0]).toBe(0)
        for (const [index, start] of starts.entries()) {
          expect(start).toBeGreaterThan(starts[index - 1] ?? -1)
          expect(start).toBeLessThan(Math.max(content.length, 1))
        }
        const lengths = planChunks(content.length, starts)
        expect(lengths.reduce((sum, length) => sum + length, 0)).toBe(content.length)
      }),
      { plugins: [untilTime()], numRuns: 1e6 },
    )
  },
  fuzzTimeoutMs(),
)

/** The rule of docs/spec/chunking.md section 3.1 in the simplest words, on top of JSON.parse. */
function plainSafetensorsStarts(content: Buffer): number[] {
  try {
    const headerEnd = 8 + Number(content.readBigUInt64LE(0))
    if (headerEnd > content.length) return [0]
    const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
    const header: unknown = JSON.parse(decoder.decode(content.subarray(8, headerEnd)))
    if (typeof header !== 'object' || header === null || Array.isArray(header)) return [0]
    const ranges = Object.entries(header)
      .filter(([key]) => key !== '__metadata__')
      .map(([, entry]) => rangeOf(entry))
      .filter(([begin, end]) => begin < end)
      .toSorted((a, b) => a[0] - b[0])
    const tiles = ranges.every(([begin], index) => begin === (ranges[index - 1]?.[1] ?? 0))
    if (!tiles || (ranges.at(-1)?.[1] ?? 0) !== content.length - headerEnd) return [0]
    return [0, ...ranges.map(([begin]) => headerEnd + begin)]
  } catch {
    return [0]
  }
}

function rangeOf(entry: unknown): [begin: number, end: number] {
  if (typeof entry !== 'object' || entry === null || Array.isArray(entry)) throw new Error('entry')
  const offsets = Object.hasOwn(entry, 'data_offsets')
    ? (entry as Record<string, unknown>)['data_offsets']
    : undefined
  if (!Array.isArray(offsets) || offsets.length !== 2) throw new Error('offsets')
  const [begin, end] = offsets as unknown[]
  if (!Number.isSafeInteger(begin) || !Number.isSafeInteger(end)) throw new Error('integers')
  const range: [number, number] = [begin as number, end as number]
  if (range[0] < 0 || range[0] > range[1]) throw new Error('range')
  return range
}

const offset = fc.constantFrom(
  '0',
  '-0',
  '5',
  '9',
  '9.0',
  '4e0',
  '12',
  '-1',
  '0.5',
  '"5"',
  'null',
  '[5]',
)
const key = fc.constantFrom(
  '"a"',
  '"b"',
  '"\\u0061"',
  '"__metadata__"',
  '"__proto__"',
  '"data_offsets"',
)
const offsets = fc.oneof(
  { weight: 6, arbitrary: fc.tuple(offset, offset).map(([a, b]) => `[${a},${b}]`) },
  { weight: 2, arbitrary: fc.constantFrom('[0,5]', '[5,9]', '[9,12]', '[0,12]') },
  { weight: 1, arbitrary: fc.constantFrom('[]', '[0]', '[0,5,9]', '{}', '7') },
)
const entry = fc.oneof(
  { weight: 8, arbitrary: offsets.map(value => `{"dtype":"U8","data_offsets":${value}}`) },
  {
    weight: 1,
    arbitrary: fc
      .tuple(offsets, offsets)
      .map(([a, b]) => `{"data_offsets":${a},"data_offsets":${b}}`),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom('{}', '[]', '1', 'null', '{"__proto__":{"data_offsets":[0,5]}}'),
  },
)
const header = fc
  .array(fc.tuple(key, entry), { maxLength: 4 })
  .map(entries => `{${entries.map(([name, value]) => `${name}:${value}`).join(',')}}`)

test(
  'safetensors headers are read as by the rule on top of JSON.parse',
  async () => {
    const file = fc.oneof(
      header.map(json => safetensorsFile(json, 12)),
      mutated(smallSafetensors),
      fc
        .constantFrom('{"a":{"data_offsets":[0,5]},"b":{"data_offsets":[5,12]}}', '{}')
        .chain(json => mutated(Buffer.from(json)).map(damaged => safetensorsFile(damaged, 12))),
    )
    await fc.assert(
      fc.asyncProperty(file, async content => {
        expect(await tensorStarts(memorySource(content))).toEqual(plainSafetensorsStarts(content))
      }),
      { plugins: [untilTime()], numRuns: 1e6 },
    )
  },
  fuzzTimeoutMs(),
)
