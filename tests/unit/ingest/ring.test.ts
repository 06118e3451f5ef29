/** The ring's bookkeeping, both ends in one thread: only moves that need not wait. */

import { expect, test } from 'vitest'
import {
  allocateRing,
  awaitFile,
  resetRing,
  RingEnd,
  type RingMemory,
  RingStopped,
  shareFile,
  slotBytes,
  slotCount,
  stopRing,
} from '../../../src/ingest/ring.ts'

interface Ends {
  readonly memory: RingMemory
  readonly one: RingEnd
  readonly two: RingEnd
  /** Offsets in the order in which they were read. */
  readonly reads: number[]
}

/** Two ends of a file whose bytes tell which slot of the file they belong to. */
function openEnds(size: number): Ends {
  const memory = allocateRing()
  const reads: number[] = []
  const fill = (slot: Uint8Array, offset: number): void => {
    reads.push(offset / slotBytes)
    slot.fill(offset / slotBytes)
  }
  const one = new RingEnd(memory, { side: 0, size, fill })
  const two = new RingEnd(memory, { side: 1, size, fill })
  return { memory, one, two, reads }
}

test('both ends see every slot in order, and each is read once', () => {
  const slots = 3 * slotCount
  const { one, two, reads } = openEnds(slots * slotBytes)
  for (let slot = 0; slot < slots; slot += 1) {
    // Now one, now the other is ahead and reads.
    for (const end of slot % 3 === 0 ? [two, one] : [one, two]) {
      const [bytes] = end.take(slot * slotBytes, slotBytes) ?? []
      expect([bytes?.length, bytes?.[0], bytes?.at(-1)]).toEqual([slotBytes, slot, slot])
      end.release((slot + 1) * slotBytes)
    }
  }
  expect(reads).toEqual(Array.from({ length: slots }, (_, slot) => slot))
})

test('gives a chunk across the seam of the ring in two views', () => {
  const { one, two } = openEnds((slotCount + 1) * slotBytes)
  one.leave()
  const seam = slotCount * slotBytes
  two.release(seam - slotBytes)
  const views = two.take(seam - 10, 30)
  expect(views?.map(view => view.length)).toEqual([10, 20])
  expect(views?.map(view => view[0])).toEqual([slotCount - 1, slotCount])
})

test('says that a file ends before the bytes asked for, and gives what is there', () => {
  const { one } = openEnds(7)
  expect(one.take(0, 8)).toBeUndefined()
  expect(one.take(0, 7)?.[0]?.length).toBe(7)
})

test('is not held back by an end that has left', () => {
  const { one, two } = openEnds(4 * slotCount * slotBytes)
  two.leave()
  for (let slot = 0; slot < 4 * slotCount; slot += 1) {
    expect(one.take(slot * slotBytes, slotBytes)?.[0]?.[0]).toBe(slot)
    one.release((slot + 1) * slotBytes)
  }
})

test('hands over a file whose size takes more than 32 bits', () => {
  const memory = allocateRing()
  const file = { fd: 0, size: 2 ** 44 - 1 }
  shareFile(memory, file)
  expect(awaitFile(memory)).toEqual(file)
})

test('throws out of both ends once stopped, and works again after a reset', () => {
  const { memory, one, two } = openEnds(slotBytes)
  stopRing(memory)
  expect(() => one.take(0, 1)).toThrow(RingStopped)
  expect(() => two.take(0, 1)).toThrow(RingStopped)
  expect(() => awaitFile(memory)).toThrow(RingStopped)
  resetRing(memory)
  expect(one.take(0, 1)?.[0]?.length).toBe(1)
})
