/**
 * Progress as people want it: bytes with a rate and an estimate, a few times a second at most. The rate
 * is that of the last seconds, so that a stall shows as one.
 */

import type { ProgressEvent } from '../api/contract.ts'
import type { Clock } from '../core/clock.ts'
import { second } from '../core/units.ts'

const eventIntervalMs = 250
const windowMs = 10 * second

export type MeterReading = Omit<ProgressEvent, 'type' | 'bytesPerSecond' | 'etaMs'>

interface Sample {
  readonly atMs: number
  readonly bytes: number
}

export interface Meter {
  /** Reports at once when the phase is a new one, else when the last report is old enough. */
  report(reading: MeterReading): void
}

export function openMeter(clock: Clock, onEvent: (event: ProgressEvent) => void): Meter {
  let samples: Sample[] = []
  let phase: string | undefined
  let lastMs = Number.NEGATIVE_INFINITY
  return {
    report(reading) {
      const atMs = clock.monotonic()
      const isNewPhase = reading.phase !== phase
      if (!isNewPhase && atMs - lastMs < eventIntervalMs) return
      // Bytes that were reused are not a rate of the network: each phase is measured on its own.
      if (isNewPhase) samples = []
      phase = reading.phase
      lastMs = atMs
      samples.push({ atMs, bytes: reading.bytesDone })
      samples = samples.filter((sample, index) => {
        return atMs - sample.atMs <= windowMs || index === samples.length - 1
      })
      const bytesPerSecond = rateOf(samples)
      const left = reading.bytesTotal - reading.bytesDone
      const etaMs = bytesPerSecond > 0 ? (left / bytesPerSecond) * second : null
      onEvent({ type: 'progress', ...reading, bytesPerSecond, etaMs })
    },
  }
}

function rateOf(samples: readonly Sample[]): number {
  const [first] = samples
  const last = samples.at(-1)
  if (first === undefined || last === undefined || last.atMs <= first.atMs) return 0
  return Math.max(0, ((last.bytes - first.bytes) / (last.atMs - first.atMs)) * second)
}
