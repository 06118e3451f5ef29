/** Damaged copies of valid bytes, for fuzzing parsers beyond what random bytes reach. */

import fc from 'fast-check'

/** The bytes with a few of them changed, cut out or put in: what a hostile writer would try first. */
export function mutated(original: Uint8Array): fc.Arbitrary<Buffer> {
  const edit = fc.record({
    at: fc.nat({ max: Math.max(0, original.length - 1) }),
    remove: fc.nat({ max: 9 }),
    insert: fc.oneof(
      fc.uint8Array({ maxLength: 9 }).map(bytes => Buffer.from(bytes)),
      fc.constantFrom(...interestingBytes),
    ),
  })
  return fc.array(edit, { minLength: 1, maxLength: 4 }).map(edits => {
    let bytes = Buffer.from(original)
    for (const { at, remove, insert } of edits) {
      bytes = Buffer.concat([bytes.subarray(0, at), insert, bytes.subarray(at + remove)])
    }
    return bytes
  })
}

/** Numbers at the edges, little and big endian, and the marks of JSON, protobuf and CBOR. */
const interestingBytes = [
  Buffer.alloc(8),
  Buffer.alloc(8, 0xff),
  Buffer.from([0, 0, 0, 0, 0, 0, 0, 0x80]),
  Buffer.from([0xff, 0xff, 0xff, 0x7f]),
  Buffer.from([0x80, 0x80, 0x80, 0x80, 0x10]),
  Buffer.from([0x1b, 0, 0, 0, 1, 0, 0, 0, 0]),
  Buffer.from('{"a":['),
  Buffer.from('"\\u0000'),
  Buffer.from('1e400'),
  Buffer.from([0xed, 0xa0, 0x80]),
]
