import { expect, test } from 'vitest'
import { InFlight } from '../../../src/bulk/in-flight.ts'

const never = new AbortController().signal

/** Work that ends when told. */
function work(): { run: () => Promise<void>; end: () => void; started: boolean } {
  const gate = Promise.withResolvers<void>()
  const self = {
    started: false,
    run: () => {
      self.started = true
      return gate.promise
    },
    end: gate.resolve,
  }
  return self
}

test('starts what fits, and the rest in order as room is made', async () => {
  const inFlight = new InFlight(10)
  const [a, b, c] = [work(), work(), work()]
  const all = [a, b, c].map(({ run }) => inFlight.run(6, never, run))
  expect([a.started, b.started, c.started]).toEqual([true, false, false])
  a.end()
  await all[0]
  await Promise.resolve()
  expect([b.started, c.started]).toEqual([true, false])
  b.end()
  c.end()
  await Promise.all(all)
  expect(inFlight.bytes).toBe(0)
})

test('what is larger than all of it runs alone', async () => {
  const inFlight = new InFlight(10)
  const large = work()
  const running = inFlight.run(1000, never, large.run)
  expect(large.started).toBe(true)
  expect(inFlight.bytes).toBe(10)
  large.end()
  await running
  expect(inFlight.bytes).toBe(0)
})

test('whoever gives up waiting lets the next one pass, and failures give back', async () => {
  const inFlight = new InFlight(10)
  const [a, c] = [work(), work()]
  const stop = new AbortController()
  const first = inFlight.run(6, never, a.run)
  const second = inFlight.run(10, stop.signal, () => Promise.reject(new Error('never run')))
  const third = inFlight.run(4, never, c.run)
  expect(c.started).toBe(false)
  stop.abort(new Error('gave up'))
  await expect(second).rejects.toThrow('gave up')
  expect(c.started).toBe(true)
  a.end()
  c.end()
  await Promise.all([first, third])
  await expect(inFlight.run(3, never, () => Promise.reject(new Error('bad')))).rejects.toThrow(
    'bad',
  )
  expect(inFlight.bytes).toBe(0)
})
