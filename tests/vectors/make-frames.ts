/**
 * Writes frames.json: what each frame of docs/spec/wire.md looks like in bytes, and what a receiver
 * must refuse. Run it after a change of the spec, and read the difference: node tests/vectors/make-frames.ts
 *
 * The bytes are put together here by hand, from the spec, and not by the code that they test.
 */

import { writeFileSync } from 'node:fs'

const le = (bytes: number) => (value: number) => {
  const buffer = Buffer.alloc(bytes)
  buffer.writeUIntLE(value, 0, bytes)
  return buffer
}
const u8 = le(1)
const u16 = le(2)
const u32 = le(4)
const text = (value: string): Buffer => Buffer.from(value, 'latin1')
const join = (...parts: Uint8Array[]): Buffer => Buffer.concat(parts)

interface Head {
  readonly length?: number
  readonly flags?: number
  readonly reserved?: number
  readonly id?: number
}

function frame(type: number, payload: Uint8Array, head: Head = {}): string {
  const { length = payload.length, flags = 0, reserved = 0, id = 0 } = head
  return join(u32(length), u8(type), u8(flags), u16(reserved), u32(id), payload).toString('hex')
}

/** CIDs of 32 equal digest bytes: a chunk or one-chunk file, a file, a manifest. */
const cid = (codec: number, fill: number): Buffer =>
  join(Buffer.from([1, codec, 0x12, 0x20]), Buffer.alloc(32, fill))
const rawCid = cid(0x55, 0xa1)
const fileCid = cid(0x70, 0xb2)
const manifestCid = cid(0x71, 0xc3)
const cidText = (bytes: Buffer): string => {
  const alphabet = 'abcdefghijklmnopqrstuvwxyz234567'
  let out = 'b'
  let bits = 0
  let value = 0
  for (const byte of bytes) {
    value = (value << 8) | byte
    bits += 8
    while (bits >= 5) {
      bits -= 5
      out += alphabet[(value >>> bits) & 31]
    }
    value &= (1 << bits) - 1
  }
  return bits > 0 ? out + alphabet[(value << (5 - bits)) & 31] : out
}

const agent = 'commonweight/0.1.0'
const hello = (parts: Partial<Record<'revision' | 'requests' | 'agent', Buffer>> = {}): Buffer =>
  join(
    parts.revision ?? u16(1),
    parts.requests ?? u16(64),
    u32(100_000),
    parts.agent ?? join(u8(agent.length), text(agent)),
    u8(1),
    u8(4),
    text('lane'),
  )
const helloFields = {
  revision: 1,
  requestsInFlightMax: 64,
  watchesMax: 100_000,
  agent,
  features: ['lane'],
}
const peerId = Buffer.from('0024080112201b'.padEnd(76, '7'), 'hex')
const address = Buffer.from('047f00000106ffff', 'hex')
const ranges = (...pairs: [number, number][]): Buffer =>
  join(u32(pairs.length), ...pairs.flatMap(([start, end]) => [u32(start), u32(end)]))

interface Valid {
  readonly name: string
  readonly hex: string
  readonly header: { type: number; flags: number; id: number; length: number }
  readonly decoded: unknown
}

function valid(
  name: string,
  type: number,
  payload: Uint8Array,
  rest: { decoded: unknown; id?: number; flags?: number },
): Valid {
  const { decoded, id = 0, flags = 0 } = rest
  const header = { type, flags, id, length: payload.length }
  return { name, hex: frame(type, payload, { id, flags }), header, decoded }
}

const crumb = Buffer.alloc(1024, 0x5a)

const validFrames: Valid[] = [
  valid('hello', 0x01, hello(), { decoded: helloFields }),
  valid('hello with no agent and no features', 0x01, join(u16(1), u16(1), u32(0), u8(0), u8(0)), {
    decoded: { revision: 1, requestsInFlightMax: 1, watchesMax: 0, agent: '', features: [] },
  }),
  valid(
    'hello of a later revision, with more after it',
    0x01,
    join(hello({ revision: u16(2) }), u32(7)),
    { decoded: { ...helloFields, revision: 2 } },
  ),
  valid('goodbye', 0x02, join(u16(0), text('this node is stopping')), {
    decoded: { code: 0, text: 'this node is stopping' },
  }),
  valid('goodbye with a code of a later revision', 0x02, u16(999), {
    decoded: { code: 999, text: '' },
  }),
  valid('watch of two files', 0x10, join(u32(0), fileCid, u32(147), u32(1), rawCid, u32(1)), {
    decoded: [
      { ref: 0, root: cidText(fileCid), chunks: 147 },
      { ref: 1, root: cidText(rawCid), chunks: 1 },
    ],
  }),
  valid('unwatch', 0x11, join(u32(0), u32(1)), { decoded: [0, 1] }),
  valid('have nothing, have all', 0x12, join(u32(0), u8(0), u32(1), u8(1)), {
    decoded: [
      { ref: 0, kind: 'nothing' },
      { ref: 1, kind: 'all' },
    ],
  }),
  valid(
    'have gained and lost',
    0x12,
    join(u32(0), u8(2), ranges([0, 2], [5, 147]), u32(0), u8(3), ranges([1, 2])),
    {
      decoded: [
        {
          ref: 0,
          kind: 'gained',
          ranges: [
            [0, 2],
            [5, 147],
          ],
        },
        { ref: 0, kind: 'lost', ranges: [[1, 2]] },
      ],
    },
  ),
  valid('get-manifest', 0x20, manifestCid, { id: 1, decoded: cidText(manifestCid) }),
  valid('get-table by root', 0x21, fileCid, { id: 2, decoded: cidText(fileCid) }),
  valid('get-table by whole SHA-256', 0x21, rawCid, { id: 3, decoded: cidText(rawCid) }),
  valid('get-chunk', 0x22, join(fileCid, u32(146)), {
    id: 0xffff_ffff,
    decoded: { root: cidText(fileCid), index: 146 },
  }),
  valid('get-peers', 0x23, join(manifestCid, fileCid), {
    id: 4,
    decoded: [cidText(manifestCid), cidText(fileCid)],
  }),
  valid('cancel', 0x2f, Buffer.alloc(0), { id: 1, decoded: null }),
  valid('data, the last of an answer', 0x30, Buffer.from('chunk'), {
    id: 1,
    decoded: Buffer.from('chunk').toString('hex'),
  }),
  valid('data with more to follow', 0x30, crumb, {
    id: 1,
    flags: 1,
    decoded: crumb.toString('hex'),
  }),
  valid('data of an empty answer', 0x30, Buffer.alloc(0), { id: 1, decoded: '' }),
  valid('refusal', 0x31, u16(0), { id: 1, decoded: { code: 0, text: '' } }),
  valid('refusal with a reason', 0x31, join(u16(1), text('at most 64 requests')), {
    id: 1,
    decoded: { code: 1, text: 'at most 64 requests' },
  }),
  valid('peers', 0x32, join(u8(38), peerId, u8(1), u16(address.length), address), {
    id: 4,
    decoded: [{ peerId: peerId.toString('hex'), addresses: [address.toString('hex')] }],
  }),
  valid('peers, none known', 0x32, Buffer.alloc(0), { id: 4, decoded: [] }),
  valid('dial-lane', 0x80, Buffer.alloc(0), { decoded: null }),
  valid('a frame that only later revisions know', 0x90, Buffer.from('anything'), {
    decoded: null,
  }),
]

interface Hostile {
  readonly name: string
  readonly hex: string
  /** Where the rule is broken. */
  readonly at: 'header' | 'payload'
  readonly expect: 'protocol-error'
}

function bad(name: string, at: Hostile['at'], hex: string): Hostile {
  return { name, hex, at, expect: 'protocol-error' }
}

const huge = Buffer.alloc(0)

const hostileFrames: Hostile[] = [
  bad('a type that does not exist', 'header', frame(0x03, Buffer.alloc(0))),
  bad('type zero', 'header', frame(0x00, Buffer.alloc(0))),
  bad('a chunk of more than 1 MiB', 'header', frame(0x30, huge, { length: 1_048_577, id: 1 })),
  bad('a have frame of more than 1 MiB', 'header', frame(0x12, huge, { length: 1_048_577 })),
  bad('an optional frame of 4 GiB', 'header', frame(0x90, huge, { length: 0xffff_ffff })),
  bad('a dial-lane that names an address', 'header', frame(0x80, address)),
  bad('a hello of 64 KiB', 'header', frame(0x01, huge, { length: 65_536 })),
  bad('a hello that is too short', 'header', frame(0x01, Buffer.alloc(9))),
  bad('a cancel with a payload', 'header', frame(0x2f, u8(0), { id: 1 })),
  bad('a request without an id', 'header', frame(0x20, manifestCid)),
  bad('a hello with an id', 'header', frame(0x01, hello(), { id: 1 })),
  bad(
    'a flag on a frame that has none',
    'header',
    frame(0x22, join(fileCid, u32(0)), { id: 1, flags: 1 }),
  ),
  bad('an unknown flag on data', 'header', frame(0x30, crumb, { id: 1, flags: 2 })),
  bad('reserved bits', 'header', frame(0x2f, Buffer.alloc(0), { id: 1, reserved: 1 })),
  bad(
    'an empty piece and more to follow',
    'header',
    frame(0x30, Buffer.alloc(0), { id: 1, flags: 1 }),
  ),
  bad('a crumb and more to follow', 'header', frame(0x30, crumb.subarray(1), { id: 1, flags: 1 })),
  bad('too many watches in a frame', 'header', frame(0x10, huge, { length: 1025 * 44 })),
  bad('a question about 17 keys', 'header', frame(0x23, huge, { length: 17 * 36, id: 1 })),
  bad('revision 0', 'payload', frame(0x01, hello({ revision: u16(0) }))),
  bad('no request at a time', 'payload', frame(0x01, hello({ requests: u16(0) }))),
  bad('1025 requests at a time', 'payload', frame(0x01, hello({ requests: u16(1025) }))),
  bad(
    'an agent of 129 bytes',
    'payload',
    frame(0x01, hello({ agent: join(u8(129), Buffer.alloc(129, 0x61)) })),
  ),
  bad(
    'an agent that clears the screen',
    'payload',
    frame(0x01, hello({ agent: join(u8(4), text('\u001b[2J')) })),
  ),
  bad(
    'an agent that is not ASCII',
    'payload',
    frame(0x01, hello({ agent: join(u8(2), Buffer.from('é')) })),
  ),
  bad(
    'an agent longer than the frame',
    'payload',
    frame(0x01, join(u16(1), u16(1), u32(0), u8(99), u8(0))),
  ),
  bad('a hello of this revision with more after it', 'payload', frame(0x01, join(hello(), u8(0)))),
  bad(
    '17 features',
    'payload',
    frame(
      0x01,
      join(
        u16(1),
        u16(1),
        u32(0),
        u8(0),
        u8(17),
        ...Array.from({ length: 17 }, () => join(u8(1), text('x'))),
      ),
    ),
  ),
  bad(
    'a feature with a space',
    'payload',
    frame(0x01, join(u16(1), u16(1), u32(0), u8(0), u8(1), u8(3), text('a b'))),
  ),
  bad(
    'a feature without a name',
    'payload',
    frame(0x01, join(u16(1), u16(1), u32(0), u8(0), u8(1), u8(0))),
  ),
  bad('half a watch', 'payload', frame(0x10, join(u32(0), fileCid, u32(147), u32(1)))),
  bad(
    'a watch of CID version 0',
    'payload',
    frame(0x10, join(u32(0), Buffer.from([0x12, 0x20]), Buffer.alloc(34), u32(1))),
  ),
  bad(
    'a watch by a hash that is not SHA-256',
    'payload',
    frame(0x10, join(u32(0), Buffer.from([1, 0x55, 0x1e, 0x20]), Buffer.alloc(32), u32(1))),
  ),
  bad(
    'a request by a codec we do not use',
    'payload',
    frame(0x20, join(Buffer.from([1, 0x70 + 9, 0x12, 0x20]), Buffer.alloc(32)), { id: 1 }),
  ),
  bad('half a ref in unwatch', 'payload', frame(0x11, join(u32(0), u16(1)))),
  bad('a kind of have that does not exist', 'payload', frame(0x12, join(u32(0), u8(4)))),
  bad('no ranges', 'payload', frame(0x12, join(u32(0), u8(2), u32(0)))),
  bad(
    'four billion ranges',
    'payload',
    frame(0x12, join(u32(0), u8(2), u32(0xffff_ffff), u32(0), u32(1))),
  ),
  bad('an empty range', 'payload', frame(0x12, join(u32(0), u8(2), ranges([3, 3])))),
  bad('a range backwards', 'payload', frame(0x12, join(u32(0), u8(2), ranges([4, 3])))),
  bad('ranges out of order', 'payload', frame(0x12, join(u32(0), u8(2), ranges([4, 5], [0, 1])))),
  bad('ranges that overlap', 'payload', frame(0x12, join(u32(0), u8(2), ranges([0, 5], [4, 6])))),
  bad('ranges that touch', 'payload', frame(0x12, join(u32(0), u8(2), ranges([0, 5], [5, 6])))),
  bad('a reason with a line break', 'payload', frame(0x02, join(u16(1), text('a\nb')))),
  bad(
    'a peer id of 65 bytes',
    'payload',
    frame(0x32, join(u8(65), Buffer.alloc(65), u8(0)), { id: 1 }),
  ),
  bad(
    'a peer with 9 addresses',
    'payload',
    frame(
      0x32,
      join(u8(38), peerId, u8(9), ...Array.from({ length: 9 }, () => join(u16(8), address))),
      { id: 1 },
    ),
  ),
  bad(
    'an address of 257 bytes',
    'payload',
    frame(0x32, join(u8(38), peerId, u8(1), u16(257), Buffer.alloc(257)), { id: 1 }),
  ),
  bad(
    '51 peers',
    'payload',
    frame(0x32, join(...Array.from({ length: 51 }, () => join(u8(38), peerId, u8(0)))), { id: 1 }),
  ),
  bad('a peer cut short', 'payload', frame(0x32, join(u8(38), peerId.subarray(0, 20)), { id: 1 })),
]

const file = new URL('frames.json', import.meta.url)
const about = 'frames of /commonweight/swarm/1; docs/spec/wire.md; written by make-frames.ts'
writeFileSync(
  file,
  `${JSON.stringify({ about, valid: validFrames, hostile: hostileFrames }, null, 1)}\n`,
)
