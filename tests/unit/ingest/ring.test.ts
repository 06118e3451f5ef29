/** The ring's bookkeeping, from one thread: only moves that need not wait. */

import { expect, test } from 'vitest'
import {
  allocateRing,
  resetRing,
  RingConsumer,
  RingProducer,
  RingStopped,
  slotBytes,
  stopRing,
} from '../../../src/ingest/ring.ts'

/** The slots of a ring, and bytes that tell one from the next. */
const slots = 16

function fill(producer: RingProducer, value: number, length = slotBytes): void {
  producer.nextSlot().fill(value, 0, length)
  producer.publish(length)
}

test('gives back what was put in, across the seam of the ring', () => {
  const memory = allocateRing()
  const producer = new RingProducer(memory)
  const consumer = new RingConsumer(memory)
  for (let slot = 0; slot < slots; slot += 1) fill(producer, slot)
  for (let slot = 0; slot < slots - 1; slot += 1) {
    expect(consumer.read(slotBytes)?.[0]?.[0]).toBe(slot)
    consumer.release(slotBytes)
  }
  fill(producer, 99, 10)
  producer.end()
  expect(consumer.read(100)?.map(view => view.length)).toEqual([100])
  consumer.release(100)
  const views = consumer.read(slotBytes - 100 + 10)
  expect(views?.map(view => view.length)).toEqual([slotBytes - 100, 10])
  expect(views?.[0]?.[0]).toBe(slots - 1)
  expect(views?.[1]?.[0]).toBe(99)
})

test('says that a file ends before the bytes asked for, and keeps what is there', () => {
  const memory = allocateRing()
  const producer = new RingProducer(memory)
  const consumer = new RingConsumer(memory)
  fill(producer, 1, 7)
  producer.end()
  expect(consumer.read(8)).toBeUndefined()
  expect(consumer.read(7)?.[0]?.length).toBe(7)
})

test('throws out of both ends once stopped, and works again after a reset', () => {
  const memory = allocateRing()
  stopRing(memory)
  expect(() => new RingProducer(memory).nextSlot()).toThrow(RingStopped)
  expect(() => new RingConsumer(memory).read(1)).toThrow(RingStopped)
  resetRing(memory)
  fill(new RingProducer(memory), 5)
  expect(new RingConsumer(memory).read(1)?.[0]?.[0]).toBe(5)
})

test('never holds back a producer whose consumer has left', () => {
  const memory = allocateRing()
  const producer = new RingProducer(memory)
  new RingConsumer(memory).leave()
  for (let slot = 0; slot < 3 * slots; slot += 1) fill(producer, slot)
  expect(producer.nextSlot().length).toBe(slotBytes)
})
