import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  compareDistance,
  flipBit,
  kadIdOf,
  nearest,
  sharedBits,
} from '../../../../src/net/dht/kad-space.ts'

const place = fc.uint8Array({ minLength: 32, maxLength: 32 })

function distance(a: Uint8Array, b: Uint8Array): bigint {
  return (
    BigInt(`0x${Buffer.from(a).toString('hex')}`) ^ BigInt(`0x${Buffer.from(b).toString('hex')}`)
  )
}

test('a place is the SHA-256 of the key, as kad-dht computes it', () => {
  expect(Buffer.from(kadIdOf(Buffer.from('abc'))).toString('hex')).toBe(
    'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad',
  )
})

test('nearness is the XOR as a number', () => {
  fc.assert(
    fc.property(place, place, place, (target, a, b) => {
      const expected = distance(target, a) - distance(target, b)
      const found = compareDistance(target, a, b)
      expect(Math.sign(found)).toBe(expected > 0n ? 1 : expected < 0n ? -1 : 0)
    }),
  )
})

test('counts the bits that both share from the first on', () => {
  fc.assert(
    fc.property(place, fc.nat(255), (a, bit) => {
      expect(sharedBits(a, flipBit(a, bit))).toBe(bit)
      expect(sharedBits(a, a)).toBe(256)
    }),
  )
})

test('gives the nearest ones first and leaves the list as it was', () => {
  fc.assert(
    fc.property(place, fc.array(place, { maxLength: 30 }), (target, places) => {
      const all = places.map(item => ({ place: item, item }))
      const before = [...all]
      const found = nearest(target, all, 5)
      const expected = places
        .map(item => distance(target, item))
        .sort((a, b) => (a < b ? -1 : a > b ? 1 : 0))
        .slice(0, 5)
      expect(found.map(({ item }) => distance(target, item))).toEqual(expected)
      expect(all).toEqual(before)
    }),
  )
})
