import fc from 'fast-check'
import { expect, test } from 'vitest'
import { progressBar, progressLine } from '../../../cli/progress.ts'
import { widthOf } from '../../../cli/text.ts'
import type { ProgressEvent } from '../../../src/api/contract.ts'
import { MiB, second } from '../../../src/core/units.ts'

const style = (_: unknown, text: string): string => text

function event(changes: Partial<ProgressEvent> = {}): ProgressEvent {
  return {
    type: 'progress',
    phase: 'fetching',
    filesDone: 0,
    filesTotal: 2,
    bytesDone: 50 * MiB,
    bytesTotal: 200 * MiB,
    bytesPerSecond: 10 * MiB,
    etaMs: 15 * second,
    peers: 3,
    ...changes,
  }
}

test('shows bar, bytes, rate, time left and peers in one line', () => {
  expect(progressBar(event(), { columns: 100, unicode: true, style })).toBe(
    `fetching  ${'█'.repeat(7)}${'░'.repeat(22)}   25%  50.0 MiB of 200 MiB  10.0 MiB/s  15s left  3 sources`,
  )
})

test('drops the least important facts on a narrow terminal, never the per cent', () => {
  expect(progressBar(event(), { columns: 60, unicode: false, style })).toBe(
    'fetching  ##--------   25%  50.0 MiB of 200 MiB  10.0 MiB/s',
  )
})

test('says plainly that it is looking, and that it waits and for what', () => {
  expect(progressLine(event({ phase: 'finding', peers: 0 }))).toBe('looking for peers')
  expect(progressLine(event({ phase: 'waiting', peers: 1 }))).toBe(
    'waiting, nobody serves the missing 150 MiB now, 50.0 MiB of 200 MiB held, 1 peer',
  )
})

test('says 100% only when every byte is there', () => {
  expect(progressLine(event({ bytesDone: 200 * MiB - 1 }))).toContain('99%')
  expect(progressLine(event({ bytesDone: 200 * MiB }))).toContain('100%')
})

test('does not claim a time left that nobody knows', () => {
  expect(progressLine(event({ etaMs: null, bytesPerSecond: 0 }))).toBe(
    'fetching 25%: 50.0 MiB of 200 MiB, 3 sources',
  )
})

test('names the file when there is room, with its control characters harmless', () => {
  const line = progressBar(event({ file: 'a\u001B[31m.bin' }), {
    columns: 140,
    unicode: true,
    style,
  })
  expect(line).toContain(String.raw`a\x1b[31m.bin`)
})

test('never fills the last column, whatever is known and however narrow', () => {
  const phases = fc.constantFrom<ProgressEvent['phase']>(
    'finding',
    'hashing',
    'reusing',
    'fetching',
    'waiting',
    'publishing',
    'verifying',
  )
  const events = fc.record({
    phase: phases,
    bytesDone: fc.nat(2 ** 30),
    bytesTotal: fc.nat(2 ** 30),
    bytesPerSecond: fc.nat(2 ** 30),
    etaMs: fc.option(fc.nat(2 ** 30)),
    peers: fc.nat(1000),
    file: fc.string({ unit: 'grapheme', maxLength: 60 }),
  })
  fc.assert(
    fc.property(events, fc.integer({ min: 50, max: 200 }), (changes, columns) => {
      const line = progressBar(event(changes), { columns, unicode: true, style })
      expect(widthOf(line)).toBeLessThan(columns)
    }),
    { numRuns: 50 },
  )
})
