/** The limits on the speed of downloads, where they act: what a session asks for. */

import { expect, test } from 'vitest'
import { Bitfield } from '../../../src/core/bitfield.ts'
import { RateLimit } from '../../../src/core/rate-limit.ts'
import { KiB, MiB, second } from '../../../src/core/units.ts'
import { DownloadLimits } from '../../../src/transfer/allowance.ts'
import type { Failure, SessionEvent } from '../../../src/transfer/session-events.ts'
import { Session } from '../../../src/transfer/session.ts'
import { FakeClock } from '../../support/fake-clock.ts'
import { openDownloadFixture } from '../../support/download-fixture.ts'
import { FakeSource } from '../../support/fake-source.ts'
import { testFile } from '../../support/store-fixture.ts'
import { seededRandom, tableOfLengths } from '../../support/swarm-simulator.ts'

const chunks = 2000
const table = tableOfLengths(
  'weights',
  Array.from({ length: chunks }, () => 64 * KiB),
)

/** A session of one file whose sources answer each request in the same millisecond. */
class Run {
  readonly session: Session
  readonly bySource = new Map<string, number>()
  readonly #limits: DownloadLimits
  readonly #clock: FakeClock

  constructor(clock: FakeClock, node?: RateLimit, own?: RateLimit) {
    this.#clock = clock
    this.#limits = new DownloadLimits({ own, node })
    this.session = new Session({ files: 1, random: seededRandom(1), limits: this.#limits })
    this.apply({ type: 'file-known', file: 0, table })
    this.apply({ type: 'file-opened', file: 0, held: new Bitfield(chunks) })
  }

  get bytes(): number {
    return [...this.bySource.values()].reduce((sum, bytes) => sum + bytes, 0)
  }

  /** Claims everything; `failure` is how it answers, if not with chunks. */
  add(source: string, isUnlimited = false, failure?: Failure): void {
    this.#failures.set(source, failure)
    this.apply({ type: 'source-added', source, requestsMax: 64, isUnlimited })
    this.apply({ type: 'have', source, file: 0, gained: [[0, chunks]], lost: [] })
  }

  readonly #failures = new Map<string, Failure | undefined>()

  apply(event: SessionEvent): void {
    for (const action of this.session.apply(event, this.#clock.monotonic())) {
      if (action.type !== 'request') continue
      const { source, file, index, length } = action
      const name = { source, file, index }
      const failure = this.#failures.get(source)
      queueMicrotask(() => {
        if (failure !== undefined) {
          const reason = new Error(failure)
          this.apply({ type: 'request-failed', ...name, failure, reason })
          return
        }
        this.bySource.set(source, (this.bySource.get(source) ?? 0) + length)
        this.apply({ type: 'chunk-arrived', ...name })
        this.apply({ type: 'chunk-verified', ...name })
      })
    }
    this.#limits.awaitTurns(() => this.apply({ type: 'allowed' }))
  }
}

test('asks for no more than the rate, and for no less: exact to 5 % over 10 s', async () => {
  const clock = new FakeClock()
  const run = new Run(clock, new RateLimit(clock, 4 * MiB))
  run.add('a')
  run.add('b')
  await clock.advance(10 * second)
  expect(run.bytes).toBeGreaterThan(38 * MiB)
  expect(run.bytes).toBeLessThan(42 * MiB)
})

test('a change of the rate holds at once', async () => {
  const clock = new FakeClock()
  const limit = new RateLimit(clock, 128 * KiB)
  const run = new Run(clock, limit)
  run.add('a')
  await clock.advance(10 * second)
  expect(run.bytes).toBeLessThan(1.4 * MiB)
  limit.set(8 * MiB)
  const before = run.bytes
  await clock.advance(second)
  expect(run.bytes - before).toBeGreaterThan(7 * MiB)
  limit.set(undefined)
  await clock.advance(0)
  expect(run.session.missing).toBe(0)
})

test('does not hold back a source on the LAN, nor count what it gives', async () => {
  const clock = new FakeClock()
  const limit = new RateLimit(clock, 64 * KiB)
  const run = new Run(clock, limit)
  limit.spend(MiB)
  run.add('far')
  run.add('near', true)
  await clock.advance(0)
  expect(run.session.missing).toBe(0)
  expect(run.bySource.get('far')).toBeUndefined()
  expect(limit.isOpen).toBe(false)
  await clock.advance(16.1 * second)
  expect(limit.isOpen).toBe(true)
})

test('gets back what a source refused to send', async () => {
  const clock = new FakeClock()
  const run = new Run(clock, new RateLimit(clock, MiB))
  for (let at = 0; at < 20; at += 1) run.add(`busy-${at}`, false, 'busy')
  run.add('good')
  const ticks = setTicks(clock, run)
  await clock.advance(10 * second)
  await ticks.stop()
  expect(run.bytes).toBeGreaterThan(9.5 * MiB)
  expect(run.bytes).toBeLessThan(10.5 * MiB)
})

test('two downloads share a limit evenly', async () => {
  const clock = new FakeClock()
  const limit = new RateLimit(clock, 2 * MiB)
  const runs = [new Run(clock, limit), new Run(clock, limit)]
  for (const run of runs) run.add('a')
  await clock.advance(10 * second)
  for (const { bytes } of runs) {
    expect(bytes).toBeGreaterThan(9 * MiB)
    expect(bytes).toBeLessThan(11 * MiB)
  }
})

test('a download held back for long is not given up, and lets go of the limit when it is cancelled', async () => {
  const file = testFile('weights', [1000, 1000])
  await using fixture = await openDownloadFixture([new FakeSource('a', [file])])
  const limit = new RateLimit(fixture.clock, 16 * KiB)
  // A chunk of another download that takes ten minutes to pay off.
  limit.spend(600 * 16 * KiB)
  const startMs = fixture.clock.monotonic()
  const done = await fixture.download({ 'a.bin': file }, { allowance: limit, patienceMs: 30_000 })
  expect(done.bytesFetched).toBe(2000)
  expect(fixture.clock.monotonic() - startMs).toBeGreaterThan(599 * second)

  limit.spend(MiB)
  const other = testFile('other', [1000])
  const stop = new AbortController()
  const source = new FakeSource('b', [other])
  fixture.finder.add(source)
  void fixture.clock.sleep(10 * second).then(() => stop.abort(new Error('cancelled')))
  const cancelled = fixture.download(
    { 'b.bin': other },
    { allowance: limit, signal: stop.signal, patienceMs: 3_600_000 },
  )
  await expect(cancelled).rejects.toThrow('cancelled')
  await fixture.clock.advance(100 * second)
  expect(limit.isOpen).toBe(true)
})

test('its own limit holds for a source on the LAN, too, and for all of them together', async () => {
  const clock = new FakeClock()
  const node = new RateLimit(clock)
  const run = new Run(clock, node, new RateLimit(clock, 4 * MiB))
  run.add('near', true)
  run.add('far')
  await clock.advance(10 * second)
  expect(run.bytes).toBeGreaterThan(38 * MiB)
  expect(run.bytes).toBeLessThan(42 * MiB)
})

test('the node’s limit holds back the far sources, and only them, while its own is open', async () => {
  const clock = new FakeClock()
  const run = new Run(clock, new RateLimit(clock, 256 * KiB), new RateLimit(clock, 4 * MiB))
  run.add('far')
  run.add('near', true)
  await clock.advance(10 * second)
  expect(run.bytes).toBeGreaterThan(38 * MiB)
  expect(run.bytes).toBeLessThan(42 * MiB)
  expect(run.bySource.get('far')).toBeLessThan(2.7 * MiB)
})

test('of two limits the tighter one holds', async () => {
  for (const [node, own] of [
    [MiB, 4 * MiB],
    [4 * MiB, MiB],
  ]) {
    const clock = new FakeClock()
    const run = new Run(clock, new RateLimit(clock, node), new RateLimit(clock, own))
    run.add('far')
    await clock.advance(10 * second)
    expect(run.bytes).toBeGreaterThan(9.5 * MiB)
    expect(run.bytes).toBeLessThan(10.5 * MiB)
  }
})

test('a download keeps to its own limit with sources on the LAN', async () => {
  const file = testFile('near', [64 * KiB, 64 * KiB, 64 * KiB, 64 * KiB])
  await using fixture = await openDownloadFixture([
    Object.assign(new FakeSource('a', [file]), { isUnlimited: true }),
  ])
  const startMs = fixture.clock.monotonic()
  const ownAllowance = new RateLimit(fixture.clock, 32 * KiB)
  await fixture.download({ 'a.bin': file }, { ownAllowance })
  // The last chunk is asked for when those before it are paid off.
  expect(fixture.clock.monotonic() - startMs).toBeGreaterThan(5.5 * second)
})

test('leaving ends the waits for both', async () => {
  const clock = new FakeClock()
  const own = new RateLimit(clock, MiB)
  const node = new RateLimit(clock, MiB)
  const never = (): never => {
    throw new Error('left before')
  }
  const limits = new DownloadLimits({ own, node })
  node.spend(MiB)
  expect(limits.allow(false)).toBe(false)
  own.spend(MiB)
  expect(limits.allow(true)).toBe(false)
  limits.awaitTurns(never)
  expect(limits.isWaiting).toBe(true)
  await clock.advance(100)
  limits.leave()
  expect(limits.isWaiting).toBe(false)
  await clock.advance(5 * second)
  expect(own.isOpen && node.isOpen).toBe(true)
})

/** As a download does, four times a second. */
function setTicks(clock: FakeClock, run: Run): { stop(): Promise<void> } {
  const ended = new AbortController()
  const ticking = (async () => {
    for (;;) {
      await clock.sleep(250, ended.signal)
      run.apply({ type: 'tick' })
    }
  })().catch(() => undefined)
  return {
    async stop() {
      ended.abort()
      await ticking
    },
  }
}
