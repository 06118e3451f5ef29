import { expect, test } from 'vitest'
import type { ProgressEvent } from '../../../src/api/contract.ts'
import { openMeter, type MeterReading } from '../../../src/ops/meter.ts'
import { fakeClock } from '../../support/fake-clock.ts'

function reading(bytesDone: number, phase: MeterReading['phase'] = 'fetching'): MeterReading {
  return { phase, filesDone: 0, filesTotal: 1, bytesDone, bytesTotal: 1000, peers: 1 }
}

test('reports a new phase at once and the same one four times a second at most', () => {
  const clock = fakeClock()
  const events: ProgressEvent[] = []
  const meter = openMeter(clock, event => events.push(event))
  meter.report(reading(0, 'finding'))
  meter.report(reading(0, 'fetching'))
  for (let n = 0; n < 100; n += 1) {
    clock.advance(10)
    meter.report(reading(n))
  }
  expect(events.length).toBe(2 + 4)
})

test('gives the rate of the last seconds and an estimate from it', () => {
  const clock = fakeClock()
  const events: ProgressEvent[] = []
  const meter = openMeter(clock, event => events.push(event))
  for (let n = 0; n <= 10; n += 1) {
    meter.report(reading(n * 50))
    clock.advance(500)
  }
  const last = events.at(-1)
  expect(last?.bytesPerSecond).toBeCloseTo(100)
  expect(last?.etaMs).toBeCloseTo(5000)
})

test('says nothing about the time left when nothing moves', () => {
  const clock = fakeClock()
  const events: ProgressEvent[] = []
  const meter = openMeter(clock, event => events.push(event))
  meter.report(reading(500))
  clock.advance(60_000)
  meter.report(reading(500))
  expect(events.at(-1)).toMatchObject({ bytesPerSecond: 0, etaMs: null })
})
