import fc from 'fast-check'
import { expect, test } from 'vitest'
import { ProtocolError } from '../../../../src/core/errors.ts'
import {
  decodeKadMessage,
  encodeKadMessage,
  kadAddressesMax,
  kadKeyBytesMax,
  kadMessageBytesMax,
  kadPeersMax,
  messageTypes,
  packAddresses,
  unpackAddresses,
} from '../../../../src/net/dht/kad-messages.ts'

const bytes = (max: number) => fc.uint8Array({ maxLength: max })
const peers = fc.array(
  fc.record({ id: bytes(40), addresses: fc.array(bytes(30), { maxLength: 4 }) }),
  {
    maxLength: 4,
  },
)

function plain(value: unknown): unknown {
  return JSON.parse(
    JSON.stringify(value, (_, part: unknown) =>
      part instanceof Uint8Array ? Buffer.from(part).toString('hex') : part,
    ),
  )
}

test('decodes what it encodes', () => {
  const messages = fc.record({
    type: fc.constantFrom(...Object.values(messageTypes)),
    key: bytes(kadKeyBytesMax),
    closer: peers,
    providers: peers,
  })
  fc.assert(
    fc.property(messages, message => {
      // toJSON of a Buffer runs before the replacer: plain Uint8Arrays on both sides.
      const decoded = decodeKadMessage(Uint8Array.from(encodeKadMessage(message)))
      expect(plain(decoded)).toEqual(plain(message))
    }),
  )
})

test('any bytes give a message or a protocol error, and nothing else', () => {
  fc.assert(
    fc.property(bytes(300), hostile => {
      expect(outcomeOf(hostile)).toBe('as expected')
    }),
    { numRuns: 2000 },
  )
})

test('encodes ADD_PROVIDER as the specification\u2019s protobuf', () => {
  const message = encodeKadMessage({
    type: messageTypes.addProvider,
    key: Uint8Array.of(0x12, 0x20),
    providers: [{ id: Uint8Array.of(1), addresses: [Uint8Array.of(4), Uint8Array.of(5)] }],
  })
  expect(message.toString()).toBeDefined()
  expect(Buffer.from(message).toString('hex')).toBe('080212021220' + '4a090a0101' + '120104120105')
})

test('skips fields that it does not know', () => {
  const known = encodeKadMessage({ type: messageTypes.findNode, key: Uint8Array.of(7) })
  // clusterLevel -1 as ten bytes (field 10), a fixed32 (field 20) and a fixed64 (field 21).
  const unknown = Buffer.from(
    '50ffffffffffffffffff01' + 'a50100000000' + 'a9010000000000000000',
    'hex',
  )
  const decoded = decodeKadMessage(Buffer.concat([unknown, known]))
  expect(decoded.type).toBe(messageTypes.findNode)
  expect([...decoded.key]).toEqual([7])
})

test.for([
  ['a long key', encodeKadMessage({ type: 4, key: new Uint8Array(kadKeyBytesMax + 1) })],
  ['a long message', new Uint8Array(kadMessageBytesMax + 1)],
  ['an unknown type', Uint8Array.of(8, 9)],
  ['a length past the end', Uint8Array.of(0x12, 0x7f, 1)],
  ['a group', Uint8Array.of(0x1b)],
  ['a varint without end', new Uint8Array(20).fill(0xff)],
] as const)('refuses %s', ([, hostile]) => {
  expect(() => decodeKadMessage(hostile)).toThrow(ProtocolError)
})

test('keeps no more peers and addresses than an honest answer has', () => {
  const addresses = Array.from({ length: 1000 }, () => Uint8Array.of(1))
  const peer = { id: Uint8Array.of(1), addresses }
  const padded = encodeKadMessage({
    type: messageTypes.getProviders,
    key: Uint8Array.of(1),
    providers: Array.from({ length: 1000 }, () => peer),
  })
  const decoded = decodeKadMessage(padded)
  expect(decoded.providers).toHaveLength(kadPeersMax)
  expect(decoded.providers[0]?.addresses).toHaveLength(kadAddressesMax)
})

test('packs addresses for storage and back', () => {
  fc.assert(
    fc.property(fc.array(bytes(60), { maxLength: 20 }), addresses => {
      expect(plain(unpackAddresses(Uint8Array.from(packAddresses(addresses))))).toEqual(
        plain(addresses),
      )
    }),
  )
})

function outcomeOf(hostile: Uint8Array): unknown {
  try {
    decodeKadMessage(hostile)
    return 'as expected'
  } catch (error) {
    return error instanceof ProtocolError ? 'as expected' : error
  }
}
