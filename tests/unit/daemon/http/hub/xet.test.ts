import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  reconstruction,
  tokenAnswer,
  xetChunkBytes,
  xetHeaders,
  xorbBytes,
  xorbSpan,
} from '../../../../../daemon/http/hub/xet.ts'
import { XorbFile } from '../../../../../daemon/http/hub/xorb-file.ts'
import { KiB, MiB } from '../../../../../src/core/units.ts'
import type { OpenedFile, Span } from '../../../../../src/node.ts'

const signal = new AbortController().signal

function fileOf(bytes: Buffer, pieceBytes: number): OpenedFile {
  return {
    isWhole: true,
    async read({ offset, end }, into) {
      const length = Math.min(end - offset, into.length, pieceBytes)
      bytes.copy(into, 0, offset, offset + length)
      return into.subarray(0, length)
    },
    [Symbol.dispose]() {},
  }
}

/** All of a span of a xorb, by reads of so much room. */
async function readAll(file: XorbFile, { offset, end }: Span, room: number): Promise<Buffer> {
  const parts: Buffer[] = []
  for (let at = offset; at < end;) {
    const bytes = await file.read({ offset: at, end }, Buffer.alloc(room), signal)
    expect(bytes.length).toBeGreaterThan(0)
    parts.push(Buffer.from(bytes))
    at += bytes.length
  }
  return Buffer.concat(parts)
}

/** As a client of Xet takes chunks apart. */
function decode(sent: Buffer): Buffer {
  const parts: Buffer[] = []
  for (let at = 0; at < sent.length;) {
    const length = sent.readUIntLE(at + 1, 3)
    expect([sent[at], sent[at + 4], sent.readUIntLE(at + 5, 3)]).toEqual([0, 0, length])
    expect(length).toBeLessThanOrEqual(128 * KiB)
    parts.push(sent.subarray(at + 8, at + 8 + length))
    at += 8 + length
  }
  return Buffer.concat(parts)
}

interface Second {
  readonly offset_into_first_range: number
  readonly terms: readonly {
    hash: string
    unpacked_length: number
    range: { start: number; end: number }
  }[]
  readonly xorbs: Record<
    string,
    {
      url: string
      ranges: { chunks: { start: number; end: number }; bytes: { start: number; end: number } }[]
    }[]
  >
}

function theOnly<T>(list: readonly T[] | undefined): T {
  expect(list).toHaveLength(1)
  return (list as readonly T[])[0] as T
}

const bytes = createHash('shake256', { outputLength: 70 * MiB + 12_345 })
  .update('xet')
  .digest()
const sha256 = createHash('sha256').update(bytes).digest('hex')
const file = { sha256, size: bytes.length }

/** What a client does with the answer: fetches what it names, takes it apart and cuts it. */
async function follow(body: Second, room: number): Promise<Buffer> {
  const parts: Buffer[] = []
  for (const { hash, range, unpacked_length: length } of body.terms) {
    const { url, ranges } = theOnly(body.xorbs[hash])
    const [fetched] = ranges
    expect(fetched?.chunks).toEqual(range)
    const xorb = Number(url.split('/').at(-1))
    const span = xorbSpan(bytes.length, xorb) as Span
    expect(fetched?.bytes.end).toBeLessThan(xorbBytes(span))
    const sent = new XorbFile(fileOf(bytes, 50_000), span)
    const asked = { offset: fetched?.bytes.start ?? 0, end: (fetched?.bytes.end ?? 0) + 1 }
    const part = decode(await readAll(sent, asked, room))
    expect(part).toHaveLength(length)
    parts.push(part)
  }
  return Buffer.concat(parts).subarray(body.offset_into_first_range)
}

test('any range is put together from what the answer names', async () => {
  const ranges = fc
    .tuple(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 3 * MiB }))
    .map(([start, length]) => ({ start, end: Math.min(bytes.length, start + length) }))
  await fc.assert(
    fc.asyncProperty(
      ranges,
      fc.integer({ min: 100_000, max: MiB }),
      async ({ start, end }, room) => {
        const range = `bytes=${start}-${end - 1}`
        const { status, body } = reconstruction(file, { version: 'v2', range, cas: 'http://h/cas' })
        expect(status).toBe(200)
        const whole = await follow(body as Second, room)
        expect(whole.subarray(0, end - start).equals(bytes.subarray(start, end))).toBe(true)
        expect(whole.length - (end - start)).toBeLessThan(xetChunkBytes)
      },
    ),
    { numRuns: 25 },
  )
})

test('the whole file without a range, in both versions', async () => {
  const asked = { range: undefined, cas: 'http://h/cas/models/org/m' }
  const second = reconstruction(file, { version: 'v2', ...asked }).body as Second
  expect((await follow(second, MiB)).equals(bytes)).toBe(true)
  const first = reconstruction(file, { version: 'v1', ...asked }).body as {
    terms: unknown
    fetch_info: Record<string, { url: string; range: object; url_range: object }[]>
  }
  expect(first.terms).toEqual(second.terms)
  for (const [hash, [fetched]] of Object.entries(first.fetch_info)) {
    const { url, ranges } = theOnly(second.xorbs[hash])
    expect(fetched).toEqual({ url, range: ranges[0]?.chunks, url_range: ranges[0]?.bytes })
    expect(hash).toMatch(/^[0-9a-f]{64}$/)
    expect(url).toMatch(/^http:\/\/h\/cas\/models\/org\/m\/xorbs\/[0-9a-f]{64}\/\d+$/)
  }
})

test('a range behind the end is 416, which is how clients find it, and one that is too long is refused', () => {
  const answer = reconstruction(file, { version: 'v2', range: `bytes=${bytes.length}-`, cas: '' })
  expect(answer.status).toBe(416)
  const huge = { sha256, size: 2 ** 44 }
  expect(reconstruction(huge, { version: 'v2', range: undefined, cas: '' }).status).toBe(400)
  const part = reconstruction(huge, { version: 'v2', range: 'bytes=5-1000000000', cas: '' })
  expect(part.status).toBe(200)
})

test('a token says where to go, in headers and in the body, for longer than a minute', () => {
  const place = { origin: 'http://h:1', repository: 'models/org/m', commit: 'c'.repeat(40) }
  const { headers, body } = tokenAnswer(place, 1_000_000)
  expect(body).toEqual({ accessToken: 'none', exp: 4600, casUrl: 'http://h:1/cas/models/org/m' })
  expect(headers).toMatchObject({
    'x-xet-cas-url': 'http://h:1/cas/models/org/m',
    'x-xet-access-token': 'none',
    'x-xet-token-expiration': '4600',
  })
  expect(xetHeaders('a'.repeat(64), place)).toEqual({
    'x-xet-hash': 'a'.repeat(64),
    link:
      `<http://h:1/api/models/org/m/xet-read-token/${'c'.repeat(40)}>; rel="xet-auth", ` +
      `<http://h:1/cas/models/org/m/v1/reconstructions/${'a'.repeat(64)}>; rel="xet-reconstruction-info"`,
  })
})
