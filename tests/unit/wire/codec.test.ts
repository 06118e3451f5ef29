import { expect, test } from 'vitest'
import { rawCid } from '../../../src/core/cid.ts'
import { ProtocolError } from '../../../src/core/errors.ts'
import { encodeText, FieldReader, FieldWriter } from '../../../src/wire/codec.ts'

test('writes what it reads, across every growth of the buffer', () => {
  const fields = new FieldWriter(1)
  const cid = rawCid(new Uint8Array(32).fill(7))
  for (let index = 0; index < 100; index += 1) {
    fields
      .u8(index)
      .u16(index * 500)
      .u32(0xffff_ff00 + index)
      .cid(cid)
      .bytes(Uint8Array.of(index))
  }
  const reader = new FieldReader(fields.finish(), 'test')
  for (let index = 0; index < 100; index += 1) {
    expect([reader.u8(), reader.u16(), reader.u32()]).toEqual([
      index,
      index * 500,
      0xffff_ff00 + index,
    ])
    expect(reader.cid().toString()).toBe(cid.toString())
    expect(reader.bytes(1)).toEqual(Uint8Array.of(index))
  }
  reader.end()
})

test('refuses to read past the end, and to leave a rest', () => {
  const reader = new FieldReader(Uint8Array.of(1, 2, 3), 'test')
  expect(() => reader.u32()).toThrow(ProtocolError)
  expect(reader.u16()).toBe(0x0201)
  expect(() => reader.end()).toThrow('1 bytes too many')
  reader.u8()
  reader.end()
})

test('gives CIDs that do not keep the message alive', () => {
  const message = Buffer.from(rawCid(new Uint8Array(32).fill(1)).bytes)
  const cid = new FieldReader(message, 'test').cid()
  message.fill(0)
  expect(cid.multihash.digest).toEqual(new Uint8Array(32).fill(1))
})

test('writes only printable ASCII as text, whatever it is given', () => {
  const read = (bytes: Uint8Array): string => new FieldReader(bytes, 'test').text(bytes.length)
  expect(read(encodeText('a\nb\u001b[2J é 🙂 \ud800', 100))).toBe('a?b?[2J ? ? ?')
  expect(read(encodeText('x'.repeat(300), 256))).toHaveLength(256)
  expect(read(encodeText('', 256))).toBe('')
})
