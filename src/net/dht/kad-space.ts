/** Kademlia's space of 256-bit ids: where keys and peers lie, and how near. Pure. */

import { sha256 } from '../../core/digest.ts'

/** Servers that hold a record: the replication of the Kademlia specification. */
export const replication = 20

/** A key or a peer with its place. */
export interface Located<T> {
  readonly place: Uint8Array
  readonly item: T
}

/** The place of a key (a multihash) or of a peer (the multihash of its id). */
export function kadIdOf(bytes: Uint8Array): Uint8Array {
  return sha256(bytes)
}

/** Bits that both share from the first on: 0 to 256. */
export function sharedBits(a: Uint8Array, b: Uint8Array): number {
  for (const [index, byte] of a.entries()) {
    const difference = byte ^ (b[index] ?? 0)
    if (difference !== 0) return index * 8 + Math.clz32(difference) - 24
  }
  return a.length * 8
}

/** Negative when `a` is nearer to `target`. */
export function compareDistance(target: Uint8Array, a: Uint8Array, b: Uint8Array): number {
  for (const [index, byte] of target.entries()) {
    const difference = (byte ^ (a[index] ?? 0)) - (byte ^ (b[index] ?? 0))
    if (difference !== 0) return difference
  }
  return 0
}

export function nearest<T>(
  target: Uint8Array,
  candidates: readonly Located<T>[],
  count: number,
): Located<T>[] {
  return [...candidates].sort((a, b) => compareDistance(target, a.place, b.place)).slice(0, count)
}

/** `place` with bit `index` (0 is the first) turned over: the nearest place on the other side of it. */
export function flipBit(place: Uint8Array, index: number): Uint8Array {
  const flipped = Uint8Array.from(place)
  const byte = index >> 3
  flipped[byte] = (flipped[byte] ?? 0) ^ (0x80 >> (index & 7))
  return flipped
}
