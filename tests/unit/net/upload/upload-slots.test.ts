import fc from 'fast-check'
import { beforeEach, expect, test } from 'vitest'
import { KiB, MiB, second } from '../../../../src/core/units.ts'
import {
  openUploadSlots,
  slotsFor,
  type UploadSlot,
  type UploadSlots,
  uploadSlotsMax,
} from '../../../../src/net/upload/upload-slots.ts'
import { FakeClock, settle } from '../../../support/fake-clock.ts'

const never = new AbortController().signal

let clock: FakeClock
let slotsMax: number
let slots: UploadSlots
/** Who was granted a slot, in order. */
let order: string[]

beforeEach(() => {
  clock = new FakeClock()
  slotsMax = 2
  slots = openUploadSlots(clock, () => slotsMax)
  order = []
})

async function take(peer: string, signal = never): Promise<UploadSlot> {
  const slot = await slots.take(peer, signal)
  order.push(peer)
  return slot
}

test('a limit has slots of 256 KiB/s, at least one and no more than without a limit', () => {
  expect(slotsFor(16 * KiB)).toBe(1)
  expect(slotsFor(MiB)).toBe(4)
  expect(slotsFor(100 * MiB)).toBe(uploadSlotsMax)
  expect(slotsFor(undefined)).toBe(uploadSlotsMax)
})

test('peers get slots in the order they came, then in turn', async () => {
  const [a, b] = await Promise.all([take('a'), take('b')])
  const c = take('c')
  const again = take('a')
  await settle()
  expect(order).toEqual(['a', 'b'])
  expect(a.isWanted).toBe(true)
  a[Symbol.dispose]()
  expect((await c).isWanted).toBe(true)
  b[Symbol.dispose]()
  await again
  expect(order).toEqual(['a', 'b', 'c', 'a'])
})

test('a peer with many channels gets one turn for each of the others', async () => {
  slotsMax = 1
  const first = await take('many')
  const waiting = ['many', 'many', 'many', 'a', 'b'].map(async peer => {
    const slot = await take(peer)
    await settle()
    slot[Symbol.dispose]()
  })
  first[Symbol.dispose]()
  await Promise.all(waiting)
  expect(order).toEqual(['many', 'many', 'a', 'b', 'many', 'many'])
})

test('a peer with many channels leaves a slot for one that comes and goes', async () => {
  const b = await take('b')
  await take('a')
  const more = take('a')
  b[Symbol.dispose]()
  await settle()
  expect(order).toEqual(['b', 'a'])
  await take('b')
  // Not for ever: when it has asked for nothing in a second, the slot is used.
  slotsMax = 3
  await clock.advance(second)
  expect(order).toEqual(['b', 'a', 'b'])
  slotsMax = 2
  await clock.advance(2 * second)
  await more
  expect(order).toEqual(['b', 'a', 'b', 'a'])
})

test('a peer that is alone may use several channels at once', async () => {
  await Promise.all([take('a'), take('a')])
  expect(order).toEqual(['a', 'a'])
})

test('whoever takes nothing for two seconds lends its slot', async () => {
  slotsMax = 1
  const idle = await take('idle')
  const next = take('next')
  await clock.advance(second)
  idle.progressed()
  await clock.advance(second)
  expect(order).toEqual(['idle'])
  await clock.advance(2 * second)
  expect(order).toEqual(['idle', 'next'])
  // Giving back what was lent gives nothing more.
  const third = take('third')
  idle[Symbol.dispose]()
  await settle()
  expect(order).toEqual(['idle', 'next'])
  ;(await next)[Symbol.dispose]()
  await third
})

test('a raised limit is seen within a second', async () => {
  slotsMax = 1
  await take('a')
  void take('b')
  await settle()
  slotsMax = 2
  await clock.advance(second)
  expect(order).toEqual(['a', 'b'])
})

test('whoever leaves the queue is skipped', async () => {
  slotsMax = 1
  const a = await take('a')
  const leaving = new AbortController()
  const b = take('b', leaving.signal)
  const c = take('c')
  leaving.abort(new Error('gone'))
  await expect(b).rejects.toThrow('gone')
  a[Symbol.dispose]()
  await c
  expect(order).toEqual(['a', 'c'])
  await expect(take('d', leaving.signal)).rejects.toThrow('gone')
})

test('keeps no timer while nobody waits', async () => {
  let sleeping = 0
  const counted = openUploadSlots(
    {
      now: () => clock.now(),
      monotonic: () => clock.monotonic(),
      sleep: (ms, signal) => {
        sleeping += 1
        return clock.sleep(ms, signal).finally(() => (sleeping -= 1))
      },
    },
    () => 1,
  )
  const a = await counted.take('a', never)
  expect(sleeping).toBe(0)
  const b = counted.take('b', never)
  await settle()
  expect(sleeping).toBe(1)
  a[Symbol.dispose]()
  await b
  await settle()
  expect(sleeping).toBe(0)
})

test('never more slots than there are, and nobody waits while one is free', async () => {
  const peers = fc.constantFrom('a', 'b', 'c', 'd')
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.constantFrom('take', 'release', 'leave'), peers), { maxLength: 60 }),
      async steps => {
        const open = openUploadSlots(new FakeClock(), () => 3)
        const held: { peer: string; slot: UploadSlot }[] = []
        const waiting: { peer: string; stop: AbortController }[] = []
        for (const [step, peer] of steps) {
          if (step === 'take') {
            const entry = { peer, stop: new AbortController() }
            waiting.push(entry)
            open.take(peer, entry.stop.signal).then(
              slot => {
                waiting.splice(waiting.indexOf(entry), 1)
                held.push({ peer, slot })
              },
              () => waiting.splice(waiting.indexOf(entry), 1),
            )
          } else if (step === 'release') held.shift()?.slot[Symbol.dispose]()
          else waiting[0]?.stop.abort(new Error('left'))
          await settle()
          expect(held.length).toBeLessThanOrEqual(3)
          const idle = waiting.filter(one => held.every(other => other.peer !== one.peer))
          expect(held.length === 3 || idle.length === 0).toBe(true)
        }
      },
    ),
    { numRuns: 100 },
  )
})
