/** Progress of work done in this process: bytes done become a rate and the time left. */

import type { ProgressEvent } from '../src/api/contract.ts'
import { second } from '../src/core/units.ts'
import type { Context } from './context.ts'

export interface WorkDone {
  readonly filesDone: number
  readonly filesTotal: number
  readonly bytesDone: number
  readonly bytesTotal: number
  readonly file?: string
}

export interface LocalProgress {
  readonly update: (done: WorkDone) => void
  end(): void
}

/** The rate before this is chance. */
const measureMs = 500

export function startProgress(
  { output, clock }: Pick<Context, 'output' | 'clock'>,
  phase: ProgressEvent['phase'],
): LocalProgress {
  const startedMs = clock.monotonic()
  return {
    update(done) {
      const elapsedMs = clock.monotonic() - startedMs
      const rate = elapsedMs < measureMs ? 0 : (done.bytesDone / elapsedMs) * second
      const leftMs = rate > 0 ? ((done.bytesTotal - done.bytesDone) / rate) * second : null
      output.progress({
        type: 'progress',
        phase,
        ...done,
        bytesPerSecond: rate,
        etaMs: leftMs,
        peers: 0,
      })
    },
    end: () => output.endProgress(),
  }
}
