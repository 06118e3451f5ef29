import { expect, test } from 'vitest'
import { AsyncQueue, mapLimit, raceSignal } from '../../../src/core/async.ts'
import { settle } from '../../support/fake-clock.ts'

test('runs at most so many at a time, and gives every result', async () => {
  let running = 0
  let most = 0
  const work = async (item: number): Promise<number> => {
    running += 1
    most = Math.max(most, running)
    await settle()
    running -= 1
    return item * 2
  }
  const results = await Array.fromAsync(mapLimit([1, 2, 3, 4, 5, 6, 7], 3, work))
  expect(results.toSorted((a, b) => a - b)).toEqual([2, 4, 6, 8, 10, 12, 14])
  expect(most).toBe(3)
})

test('gives results as they finish, not as they were asked', async () => {
  const gates = [Promise.withResolvers<string>(), Promise.withResolvers<string>()] as const
  const results = mapLimit(gates, 2, gate => gate.promise)
  const first = results.next()
  gates[1].resolve('second')
  expect((await first).value).toBe('second')
  gates[0].resolve('first')
  expect((await results.next()).value).toBe('first')
})

test('the first failure ends the iteration, and the others see an aborted signal', async () => {
  const signals: AbortSignal[] = []
  const started: number[] = []
  const work = async (item: number, signal: AbortSignal): Promise<number> => {
    started.push(item)
    signals.push(signal)
    const aborted = new Promise(resolve => signal.addEventListener('abort', resolve))
    await settle()
    if (item === 1) throw new Error('broken')
    await aborted
    return item
  }
  await expect(Array.fromAsync(mapLimit([1, 2, 3, 4], 2, work))).rejects.toThrow('broken')
  expect(started).toEqual([1, 2])
  expect(signals.every(signal => signal.aborted)).toBe(true)
})

test('leaving the iteration early aborts what runs and waits for it', async () => {
  let stopped = 0
  const work = async (item: number, signal: AbortSignal): Promise<number> => {
    if (item === 1) return item
    await new Promise(resolve => signal.addEventListener('abort', resolve))
    stopped += 1
    return item
  }
  for await (const result of mapLimit([1, 2, 3], 3, work)) {
    expect(result).toBe(1)
    break
  }
  expect(stopped).toBe(2)
})

test('an aborted signal starts nothing more, and its reason comes out', async () => {
  const stop = new AbortController()
  const started: number[] = []
  const work = (item: number): Promise<number> => {
    started.push(item)
    stop.abort(new Error('enough'))
    return Promise.resolve(item)
  }
  await expect(Array.fromAsync(mapLimit([1, 2], 1, work, stop.signal))).rejects.toThrow('enough')
  expect(started).toEqual([1])
})

test('a task that fails while the next item is awaited is no unhandled rejection', async () => {
  const unhandled: unknown[] = []
  const note = (reason: unknown): void => {
    unhandled.push(reason)
  }
  process.on('unhandledRejection', note)
  async function* slowItems(): AsyncGenerator<number> {
    yield 1
    await settle()
    yield 2
  }
  const work = (item: number): Promise<number> =>
    item === 1 ? Promise.reject(new Error('broken')) : Promise.resolve(item)
  await expect(Array.fromAsync(mapLimit(slowItems(), 5, work))).rejects.toThrow('broken')
  await settle()
  process.off('unhandledRejection', note)
  expect(unhandled).toEqual([])
})

test('racing a signal: the work wins, or the reason does', async () => {
  const stop = new AbortController()
  expect(await raceSignal(Promise.resolve(5), stop.signal)).toBe(5)
  await expect(raceSignal(Promise.reject(new Error('own')), stop.signal)).rejects.toThrow('own')
  const never = raceSignal(new Promise(() => undefined), stop.signal)
  stop.abort(new Error('enough'))
  await expect(never).rejects.toThrow('enough')
  await expect(raceSignal(Promise.resolve(5), stop.signal)).rejects.toThrow('enough')
})

test('a queue gives what was pushed, before and while it is awaited, until its end', async () => {
  const queue = new AsyncQueue<number>()
  queue.push(1)
  queue.push(2)
  expect(queue.size).toBe(2)
  const all = Array.fromAsync(queue)
  await settle()
  queue.push(3)
  await settle()
  queue.end()
  queue.push(4)
  expect(await all).toEqual([1, 2, 3])
})

test('a queue that fails gives what it had, then throws', async () => {
  const queue = new AsyncQueue<number>()
  queue.push(1)
  queue.fail(new Error('broken'))
  const seen: number[] = []
  const drain = async (): Promise<void> => {
    for await (const item of queue) seen.push(item)
  }
  await expect(drain()).rejects.toThrow('broken')
  expect(seen).toEqual([1])
})
