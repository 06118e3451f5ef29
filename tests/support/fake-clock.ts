/** A clock that moves only when told: sleepers wake in order as it passes their time. */

import type { Clock } from '../../src/core/clock.ts'

interface Sleeper {
  readonly atMs: number
  readonly wake: () => void
}

export class FakeClock implements Clock {
  #nowMs: number
  #sleepers: Sleeper[] = []

  constructor(nowMs = 1_800_000_000_000) {
    this.#nowMs = nowMs
  }

  now(): number {
    return this.#nowMs
  }

  monotonic(): number {
    return this.#nowMs
  }

  /** How many wait for time to pass. */
  get sleepers(): number {
    return this.#sleepers.length
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted === true) return Promise.reject(signal.reason as Error)
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const sleeper: Sleeper = { atMs: this.#nowMs + ms, wake: resolve }
    this.#sleepers.push(sleeper)
    signal?.addEventListener(
      'abort',
      () => {
        this.#sleepers = this.#sleepers.filter(other => other !== sleeper)
        reject(signal.reason as Error)
      },
      { once: true },
    )
    return promise
  }

  /** Sets the wall clock, as a person or NTP does. */
  jump(nowMs: number): void {
    this.#nowMs = nowMs
  }

  /** Lets time pass; whoever wakes runs before the next one does. */
  async advance(ms: number): Promise<void> {
    const endMs = this.#nowMs + ms
    await settle()
    for (;;) {
      const next = this.#sleepers
        .filter(({ atMs }) => atMs <= endMs)
        .sort((a, b) => a.atMs - b.atMs)[0]
      if (next === undefined) break
      this.#sleepers = this.#sleepers.filter(other => other !== next)
      this.#nowMs = Math.max(this.#nowMs, next.atMs)
      next.wake()
      await settle()
    }
    this.#nowMs = endMs
    await settle()
  }
}

/** For code that only reads the clock: time moves at once. */
export function fakeClock(nowMs = 1_800_000_000_000): Clock & { advance(ms: number): void } {
  const clock = new FakeClock(nowMs)
  return {
    now: () => clock.now(),
    monotonic: () => clock.monotonic(),
    sleep: (ms, signal) => clock.sleep(ms, signal),
    advance: ms => clock.jump(clock.now() + ms),
  }
}

/** A file that is opened or read for longer waits for somebody, as a pipe does. */
const diskMs = 2000

/** Runs all that can run without time passing; the disk takes no time of this clock, however slow it is. */
export async function settle(): Promise<void> {
  const endMs = performance.now() + diskMs
  for (let quiet = 0; quiet < 5;) {
    await new Promise(resolve => setImmediate(resolve))
    quiet = isDiskBusy() && performance.now() < endMs ? 0 : quiet + 1
  }
}

function isDiskBusy(): boolean {
  return process.getActiveResourcesInfo().some(kind => kind.startsWith('FSReq'))
}
