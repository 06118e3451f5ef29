import { expect, test } from 'vitest'
import { Bitfield } from '../../../src/core/bitfield.ts'
import { MiB, minute, second } from '../../../src/core/units.ts'
import { download } from '../../../src/transfer/download.ts'
import { FlightBudget, type FlightShare } from '../../../src/transfer/flight-budget.ts'
import { openDownloadFixture } from '../../support/download-fixture.ts'
import { FakeSource } from '../../support/fake-source.ts'
import { testFile } from '../../support/store-fixture.ts'
import { seededRandom, Simulation, tableOfLengths } from '../../support/swarm-simulator.ts'

test('splits what all may have among those that have something in flight', () => {
  const budget = new FlightBudget(96 * MiB)
  const [a, b, c] = [budget.share(), budget.share(), budget.share()]
  expect(a.bytesMax).toBe(96 * MiB)
  a.tell(MiB)
  a.tell(2 * MiB)
  expect([a.bytesMax, b.bytesMax]).toEqual([96 * MiB, 48 * MiB])
  b.tell(MiB)
  c.tell(MiB)
  expect(a.bytesMax).toBe(32 * MiB)
  c.tell(0)
  expect(a.bytesMax).toBe(48 * MiB)
  b[Symbol.dispose]()
  expect(a.bytesMax).toBe(96 * MiB)
})

test('leaves each of many enough to go on', () => {
  const budget = new FlightBudget(96 * MiB)
  const shares = Array.from({ length: 100 }, () => budget.share())
  for (const share of shares) share.tell(1)
  expect(shares[0]?.bytesMax).toBe(4 * MiB)
})

/** The most that a session has in flight, of a source that could take 64 MiB. */
function peakOf(share?: FlightShare): number {
  const tables = [
    tableOfLengths(
      'weights',
      Array.from({ length: 400 }, () => MiB),
    ),
  ]
  const swarm = new Simulation({
    tables,
    random: seededRandom(1),
    ...(share === undefined ? {} : { share }),
  })
  const holds = tables.map(({ count }) => Bitfield.full(count))
  swarm.connect({ id: 'far', holds, bytesPerMs: (100 * MiB) / second, delayMs: 400 })
  expect(swarm.run(minute)).toBe(true)
  return swarm.bytesInFlightPeak
}

test('a session asks for no more than its part, and has given it back when it is done', () => {
  expect(peakOf()).toBeGreaterThan(32 * MiB)
  const budget = new FlightBudget(32 * MiB)
  using other = budget.share()
  other.tell(1)
  expect(peakOf(budget.share())).toBe(16 * MiB)
  expect(other.bytesMax).toBe(32 * MiB)
})

test('a download that is cut off gives back its part', async () => {
  const file = testFile('frozen', [1000, 1000])
  await using fixture = await openDownloadFixture([
    new FakeSource('a', [file], { freezes: 'chunks' }),
  ])
  const flights = new FlightBudget(32 * MiB)
  using other = flights.share()
  const stop = new AbortController()
  void fixture.clock.sleep(second).then(() => {
    expect(other.bytesMax).toBe(16 * MiB)
    stop.abort(new Error('cancelled'))
  })
  const request = { keys: [file.root], folder: fixture.folder, files: fixture.wanted({ a: file }) }
  const options = fixture.options({ signal: stop.signal })
  const cut = fixture.passTime(download({ ...fixture.deps, flights }, request, options))
  await expect(cut).rejects.toThrow('cancelled')
  expect(other.bytesMax).toBe(32 * MiB)
})
