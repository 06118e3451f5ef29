/** How readers of one operation see it, whatever their pace. */

import { expect, test } from 'vitest'
import { EventLog } from '../../../daemon/event-log.ts'
import { FakeClock } from '../../support/fake-clock.ts'
import { aProgress, aResult } from '../../support/fake-node.ts'

/** Knows how many wait on it, so that a timer left behind is seen. */
class CountingClock extends FakeClock {
  sleeping = 0

  override async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    this.sleeping += 1
    try {
      await super.sleep(ms, signal)
    } finally {
      this.sleeping -= 1
    }
  }
}

function notice(message: string): { type: 'notice'; level: 'info'; message: string } {
  return { type: 'notice', level: 'info', message }
}

/** Reads in the background into a list. */
function follow(log: EventLog, signal = new AbortController().signal) {
  const seen: Record<string, unknown>[] = []
  const done = (async () => {
    for await (const event of log.read(signal)) seen.push(event)
  })()
  return { seen, done, bytes: () => seen.flatMap(event => event['bytesDone'] ?? []) }
}

test('tells a reader the progress at most four times a second, the latest each time', async () => {
  const clock = new FakeClock()
  const log = new EventLog(clock)
  const reader = follow(log)
  for (let step = 1; step <= 1000; step += 1) {
    log.add(aProgress(step))
    await clock.advance(1)
  }
  const shown = reader.bytes() as number[]
  expect(shown.length).toBeGreaterThanOrEqual(4)
  expect(shown.length).toBeLessThanOrEqual(5)
  // The step is the millisecond it was made at: no two are closer than a quarter of a second.
  for (const [index, step] of shown.entries()) {
    expect(step - (shown[index - 1] ?? -Infinity)).toBeGreaterThanOrEqual(249)
  }
  log.finish(aResult())
  await reader.done
  expect(reader.bytes().at(-1)).toBe(1000)
})

test('tells the last progress before the result, without a wait', async () => {
  const log = new EventLog(new FakeClock())
  const reader = follow(log)
  log.add(aProgress(1))
  await Promise.resolve()
  log.add(aProgress(2))
  log.add(aProgress(3))
  log.finish(aResult())
  await reader.done
  expect(reader.seen.slice(-2)).toEqual([aProgress(3), aResult()])
})

test('delivers a notice at once while progress is held back', async () => {
  const clock = new FakeClock()
  const log = new EventLog(clock)
  const reader = follow(log)
  log.add(aProgress(1))
  await clock.advance(10)
  log.add(aProgress(2))
  await clock.advance(10)
  log.add(notice('a peer was banned'))
  await clock.advance(1)
  expect(reader.seen).toEqual([aProgress(1), notice('a peer was banned')])
  await clock.advance(250)
  expect(reader.seen.at(-1)).toEqual(aProgress(2))
})

test('wakes a reader for held-back progress once, however often it changes', async () => {
  const clock = new CountingClock()
  const log = new EventLog(clock)
  const reader = follow(log)
  log.add(aProgress(1))
  await clock.advance(1)
  for (let step = 2; step < 1000; step += 1) log.add(aProgress(step))
  await clock.advance(0)
  expect(clock.sleeping).toBe(1)
  await clock.advance(250)
  expect(reader.bytes()).toEqual([1, 999])
  expect(clock.sleeping).toBe(0)
})

test('gives a late reader the notices kept, the latest progress and the result', async () => {
  const log = new EventLog(new FakeClock())
  log.add(notice('one'))
  log.add(aProgress(1))
  log.add(aProgress(2))
  log.add(notice('two'))
  log.finish(aResult())
  const reader = follow(log)
  await reader.done
  expect(reader.seen).toEqual([notice('one'), notice('two'), aProgress(2), aResult()])
})

test('keeps the last hundred notices and skips what a slow reader missed', async () => {
  const log = new EventLog(new FakeClock())
  const events = log.read(new AbortController().signal)
  log.add(notice('0'))
  expect((await events.next()).value).toEqual(notice('0'))
  for (let count = 1; count <= 1000; count += 1) log.add(notice(String(count)))
  log.finish(aResult())
  const rest = await Array.fromAsync(events)
  expect(rest).toHaveLength(101)
  expect(rest[0]).toEqual(notice('901'))
  expect(rest.at(-1)).toEqual(aResult())
})

test('takes nothing after the end', async () => {
  const log = new EventLog(new FakeClock())
  log.finish(aResult())
  log.add(notice('late'))
  expect(await Array.fromAsync(log.read(new AbortController().signal))).toEqual([aResult()])
})

test('lets go of a reader whose signal aborts, and of its timer', async () => {
  const clock = new CountingClock()
  const log = new EventLog(clock)
  const gone = new AbortController()
  const reader = follow(log, gone.signal)
  log.add(aProgress(1))
  await clock.advance(1)
  log.add(aProgress(2))
  await clock.advance(1)
  expect(clock.sleeping).toBe(1)
  gone.abort()
  await reader.done
  await clock.advance(0)
  expect(clock.sleeping).toBe(0)
  expect(reader.seen).toEqual([aProgress(1)])
})

test('keeps what became of each model, however many notices come between', async () => {
  const log = new EventLog(new FakeClock())
  const models = Array.from({ length: 300 }, (_, index) => `org/model-${index}`)
  for (const name of models) {
    const rest = { path: '/cache', manifest: null, files: 1, bytes: 1, state: 'new' } as const
    log.add({ type: 'adopted', name, ...rest })
    log.add(notice(name))
  }
  log.finish(aResult())
  const reader = follow(log)
  await reader.done
  const told = reader.seen.filter(({ type }) => type === 'adopted').map(({ name }) => name)
  expect(told).toEqual(models)
  expect(reader.seen.filter(({ type }) => type === 'notice')).toHaveLength(100)
})
