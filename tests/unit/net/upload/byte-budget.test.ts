import fc from 'fast-check'
import { expect, test } from 'vitest'
import { openByteBudget } from '../../../../src/net/upload/byte-budget.ts'

const never = new AbortController().signal

test('gives what is there at once, and the rest in the order asked', async () => {
  const budget = openByteBudget(10)
  const first = await budget.take(8, never)
  const order: string[] = []
  const large = budget.take(5, never).then(share => (order.push('large'), share))
  const small = budget.take(1, never).then(share => (order.push('small'), share))
  await Promise.resolve()
  expect(order).toEqual([])
  first.release()
  await Promise.all([large, small])
  expect(order).toEqual(['large', 'small'])
  expect(budget.bytesTaken).toBe(6)
})

test('what is given back lets the next one in', async () => {
  const budget = openByteBudget(10)
  const first = await budget.take(10, never)
  const second = budget.take(4, never)
  first.shrink(6)
  await second
  expect(budget.bytesTaken).toBe(10)
})

test('asking for more than there is takes all of it', async () => {
  const budget = openByteBudget(10)
  const share = await budget.take(1000, never)
  expect(budget.bytesTaken).toBe(10)
  share.release()
  expect(budget.bytesTaken).toBe(0)
})

test('giving back twice, or growing by shrinking, changes nothing', async () => {
  const budget = openByteBudget(10)
  const share = await budget.take(5, never)
  share.shrink(8)
  expect(budget.bytesTaken).toBe(5)
  share.release()
  share.release()
  share.shrink(0)
  expect(budget.bytesTaken).toBe(0)
})

test('who gives up waiting lets those behind go on', async () => {
  const budget = openByteBudget(10)
  const first = await budget.take(6, never)
  const stop = new AbortController()
  const large = budget.take(10, stop.signal)
  const small = budget.take(4, never)
  stop.abort(new Error('enough'))
  await expect(large).rejects.toThrow('enough')
  await small
  first.release()
  expect(budget.bytesTaken).toBe(4)
})

test('is never overdrawn, and empty once everything is back', async () => {
  const steps = fc.array(fc.record({ bytes: fc.nat({ max: 15 }), aborts: fc.boolean() }), {
    maxLength: 40,
  })
  await fc.assert(
    fc.asyncProperty(steps, async list => {
      const budget = openByteBudget(10)
      const work = list.map(async ({ bytes, aborts }) => {
        const stop = new AbortController()
        const taken = budget.take(bytes, stop.signal)
        if (aborts) stop.abort(new Error('enough'))
        try {
          const share = await taken
          expect(budget.bytesTaken).toBeLessThanOrEqual(10)
          share.shrink(Math.floor(bytes / 2))
          await Promise.resolve()
          share.release()
        } catch (error) {
          if (!stop.signal.aborted) throw error
        }
      })
      await Promise.all(work)
      expect(budget.bytesTaken).toBe(0)
    }),
  )
})
