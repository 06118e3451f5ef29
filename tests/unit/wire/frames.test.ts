import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type CID } from '../../../src/core/cid.ts'
import { ProtocolError } from '../../../src/core/errors.ts'
import { MiB } from '../../../src/core/units.ts'
import {
  checkHeader,
  encodeFrame,
  encodeHeader,
  FrameDecoder,
  type FrameHeader,
  frameTypes,
  headerBytes,
} from '../../../src/wire/frames.ts'
import {
  decodeChunkAsk,
  decodeHave,
  decodeHello,
  decodeKey,
  decodeKeys,
  decodePeers,
  decodeReason,
  decodeUnwatch,
  decodeWatch,
  encodeChunkAsk,
  encodeHave,
  encodeHello,
  encodeKeys,
  encodePeers,
  encodeReason,
  encodeUnwatch,
  encodeWatch,
} from '../../../src/wire/messages.ts'
import { fuzzTimeoutMs, untilTime } from '../../support/fuzz.ts'

interface Vectors {
  readonly valid: { name: string; hex: string; header: FrameHeader; decoded: unknown }[]
  readonly hostile: { name: string; hex: string; at: 'header' | 'payload'; expect: string }[]
}
const vectors = JSON.parse(
  readFileSync(new URL('../../vectors/frames.json', import.meta.url), 'utf8'),
) as Vectors

interface Got {
  readonly header: FrameHeader
  readonly payload: Uint8Array | undefined
}

/** Decodes bytes handed over in the given cuts. */
function decodeAll(bytes: Uint8Array, cuts: readonly number[] = []): Got[] {
  const got: Got[] = []
  const decoder = new FrameDecoder({
    place: header => new Uint8Array(header.length),
    frame: (header, payload) => got.push({ header, payload }),
    failed: () => undefined,
  })
  let start = 0
  for (const end of [...cuts.toSorted((a, b) => a - b), bytes.length]) {
    decoder.push(bytes.subarray(start, end))
    start = end
  }
  return got
}

const decoders = new Map<number, (payload: Uint8Array) => unknown>([
  [frameTypes.hello, decodeHello],
  [frameTypes.goodbye, decodeReason],
  [frameTypes.watch, decodeWatch],
  [frameTypes.unwatch, decodeUnwatch],
  [frameTypes.have, decodeHave],
  [frameTypes.getManifest, decodeKey],
  [frameTypes.getTable, decodeKey],
  [frameTypes.getChunk, decodeChunkAsk],
  [frameTypes.getPeers, decodeKeys],
  [frameTypes.data, payload => payload],
  [frameTypes.refusal, decodeReason],
  [frameTypes.peers, decodePeers],
])

const encoders = new Map<number, (value: never) => Uint8Array>([
  [frameTypes.hello, encodeHello],
  [frameTypes.goodbye, encodeReason],
  [frameTypes.watch, encodeWatch],
  [frameTypes.unwatch, encodeUnwatch],
  [frameTypes.have, encodeHave],
  [frameTypes.getManifest, (key: CID) => key.bytes],
  [frameTypes.getTable, (key: CID) => key.bytes],
  [frameTypes.getChunk, encodeChunkAsk],
  [frameTypes.getPeers, encodeKeys],
  [frameTypes.data, (bytes: Uint8Array) => bytes],
  [frameTypes.refusal, encodeReason],
  [frameTypes.peers, encodePeers],
])

/** As frames.json writes it: CIDs as text, bytes as hex. */
function plain(value: unknown): unknown {
  return JSON.parse(
    JSON.stringify(value ?? null, (_, item: unknown) => {
      if (item instanceof Uint8Array) return Buffer.from(item).toString('hex')
      if (typeof item === 'object' && item !== null && '/' in item) return String(cidOf(item))
      return item
    }),
  )
}

/** JSON.stringify has called CID.toJSON already: `{ '/': text }`. */
function cidOf(item: object): string {
  return (item as { '/': string })['/']
}

test.for(vectors.valid)('decodes $name', ({ hex, header, decoded }) => {
  const [got, ...more] = decodeAll(Buffer.from(hex, 'hex'))
  expect(more).toEqual([])
  expect(got?.header).toEqual(header)
  const payload = got?.payload ?? new Uint8Array(0)
  expect(plain(decoders.get(header.type)?.(payload))).toEqual(decoded)
})

test.for(vectors.valid.filter(({ name }) => !name.includes('later revision')))(
  'encodes $name to the same bytes',
  ({ hex, header }) => {
    const [got] = decodeAll(Buffer.from(hex, 'hex'))
    const payload = got?.payload ?? new Uint8Array(0)
    const decoded = decoders.get(header.type)?.(payload) as never
    const encoded = encoders.get(header.type)?.(decoded) ?? new Uint8Array(0)
    const frame = Buffer.concat([encodeHeader(header), encoded])
    expect(frame.toString('hex')).toBe(hex)
  },
)

test.for(vectors.hostile)('refuses $name', ({ hex, at }) => {
  const bytes = Buffer.from(hex, 'hex')
  const decodePayload = (): unknown => {
    const [got] = decodeAll(bytes)
    return decoders.get(got?.header.type ?? 0)?.(got?.payload ?? new Uint8Array(0))
  }
  // A receiver must not wait for the payload that a bad header announces.
  const decodeHeader = (): unknown => decodeAll(bytes.subarray(0, headerBytes))
  expect(at === 'header' ? decodeHeader : decodePayload).toThrow(ProtocolError)
})

const spec = readFileSync(new URL('../../../docs/spec/wire.md', import.meta.url), 'utf8')
const rows = spec.matchAll(
  /^\| `(0x[0-8]\w)` \| ([\w-]+) \| (0|yes) \| ([\d,]+)(?: to ([\d,]+))?/gm,
)
const rules = [...rows].map(([, type, name, id, least = '', most = least]) => ({
  type: Number(type),
  name,
  id: id === 'yes' ? 1 : 0,
  least: Number(least.replaceAll(',', '')),
  most: Number(most.replaceAll(',', '')),
}))

test('the spec has a row for every frame type', () => {
  expect(rules.map(({ type }) => type)).toEqual(Object.values(frameTypes))
})

test.for(rules)(
  'the spec and the code agree on the bounds of $name',
  ({ type, id, least, most }) => {
    const check = (length: number, idSent = id): (() => void) => {
      return () => checkHeader({ type, length, id: idSent, flags: 0 }, 0)
    }
    expect(check(least)).not.toThrow()
    expect(check(most)).not.toThrow()
    expect(check(most + 1)).toThrow(ProtocolError)
    expect(check(least, 1 - id)).toThrow(ProtocolError)
    // Below nothing there is nothing: -1 is no length either.
    expect(check(least - 1)).toThrow(ProtocolError)
  },
)

test('finds the same frames however the bytes are cut', () => {
  const frame = fc.record({
    type: fc.constantFrom(frameTypes.data, frameTypes.refusal, 0x90),
    id: fc.integer({ min: 1, max: 0xffff_ffff }),
    payload: fc.uint8Array({ minLength: 2, maxLength: 258 }),
  })
  fc.assert(
    fc.property(
      fc.array(frame, { maxLength: 8 }),
      fc.array(fc.nat({ max: 3000 }), { maxLength: 20 }),
      (frames, cuts) => {
        const bytes = Buffer.concat(
          frames.flatMap(({ type, id, payload }) => [
            encodeHeader({ length: payload.length, type, flags: 0, id }),
            payload,
          ]),
        )
        const got = decodeAll(
          bytes,
          cuts.map(cut => Math.min(cut, bytes.length)),
        )
        expect(got.map(({ header, payload }) => [header.type, header.id, payload])).toEqual(
          frames.map(({ type, id, payload }) => [type, id, payload]),
        )
      },
    ),
  )
})

test('writes a payload straight into the memory that the receiver chose', () => {
  const target = new Uint8Array(5)
  let got: Uint8Array | undefined
  const decoder = new FrameDecoder({
    place: () => target,
    frame: (_, payload) => {
      got = payload
    },
    failed: () => undefined,
  })
  decoder.push(encodeFrame(frameTypes.data, 1, Buffer.from('hello')))
  expect(got).toBe(target)
  expect(Buffer.from(target).toString()).toBe('hello')
})

test('drops the payload of a frame that the receiver has no place for', () => {
  const got: (Uint8Array | undefined)[] = []
  const decoder = new FrameDecoder({
    place: header => (header.type === 0x90 ? undefined : new Uint8Array(header.length)),
    frame: (_, payload) => got.push(payload),
    failed: () => undefined,
  })
  decoder.push(encodeHeader({ length: MiB, type: 0x90, flags: 0, id: 0 }))
  for (let sent = 0; sent < MiB; sent += 1000) {
    decoder.push(new Uint8Array(Math.min(1000, MiB - sent)))
  }
  decoder.push(encodeFrame(frameTypes.refusal, 1, encodeReason({ code: 0, text: '' })))
  expect(got.map(payload => payload?.length)).toEqual([undefined, 2])
})

test('knows whether it stands between frames', () => {
  const decoder = new FrameDecoder({
    place: header => new Uint8Array(header.length),
    frame: () => undefined,
    failed: () => undefined,
  })
  const bytes = encodeFrame(frameTypes.goodbye, 0, encodeReason({ code: 0, text: 'x' }))
  const states = [...bytes].map(byte => {
    decoder.push(Uint8Array.of(byte))
    return decoder.isBetweenFrames
  })
  expect(states).toEqual([...Array.from({ length: bytes.length - 1 }, () => false), true])
})

test('hands over nothing more once it was stopped, even from within a frame', () => {
  let frames = 0
  const decoder = new FrameDecoder({
    place: header => new Uint8Array(header.length),
    frame: () => {
      frames += 1
      decoder.stop()
    },
    failed: () => undefined,
  })
  const one = encodeFrame(frameTypes.refusal, 1, encodeReason({ code: 0, text: '' }))
  decoder.push(Buffer.concat([one, one, one]))
  decoder.push(one)
  expect(frames).toBe(1)
})

test('throws nothing but ProtocolError, whatever bytes come', { timeout: fuzzTimeoutMs() }, () => {
  const frameLike = fc
    .record({
      type: fc.constantFrom(...decoders.keys()),
      id: fc.integer({ min: 0, max: 2 }),
      flags: fc.integer({ min: 0, max: 1 }),
      payload: fc.uint8Array({ maxLength: 400 }),
    })
    .map(({ payload, ...header }) =>
      Buffer.concat([encodeHeader({ ...header, length: payload.length }), payload]),
    )
  const decodeDeep = (bytes: Uint8Array): unknown =>
    orProtocolError(() =>
      decodeAll(bytes).map(({ header, payload }) =>
        orProtocolError(() => decoders.get(header.type)?.(payload ?? new Uint8Array(0))),
      ),
    )
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 400 }), frameLike), bytes => {
      expect(() => decodeDeep(bytes)).not.toThrow()
    }),
    { plugins: [untilTime()], numRuns: 1e6 },
  )
})

test(
  'decodes each message only from its one encoding, whatever bytes come',
  { timeout: fuzzTimeoutMs() },
  () => {
    const mutated = fc.constantFrom(...vectors.valid).chain(({ hex, header }) => {
      const payload = Buffer.from(hex, 'hex').subarray(headerBytes)
      return fc
        .array(fc.tuple(fc.nat({ max: Math.max(0, payload.length - 1) }), fc.nat({ max: 255 })), {
          maxLength: 4,
        })
        .map(changes => {
          const bytes = new Uint8Array(payload)
          for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value
          return { type: header.type, bytes }
        })
    })
    fc.assert(
      fc.property(mutated, ({ type, bytes }) => {
        const decoded = orProtocolError(() => decoders.get(type)?.(bytes))
        if (decoded === undefined || isOfLaterRevision(decoded)) return
        const encoded = encoders.get(type)?.(decoded as never) ?? new Uint8Array(0)
        expect(Buffer.compare(encoded, bytes)).toBe(0)
      }),
      { plugins: [untilTime()], numRuns: 1e6 },
    )
  },
)

/** Its rest is not known to this revision, and lost. */
function isOfLaterRevision(decoded: unknown): boolean {
  return typeof decoded === 'object' && decoded !== null && 'revision' in decoded
    ? Number(decoded.revision) > 1
    : false
}

/** What a decoder may throw is not a finding; anything else is. */
function orProtocolError(run: () => unknown): unknown {
  try {
    return run()
  } catch (error) {
    if (error instanceof ProtocolError) return undefined
    throw error
  }
}
