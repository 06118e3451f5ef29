/** How long a fuzz test runs: a second in the normal suite, FUZZ_SECONDS in `npm run test:fuzz`. */

import fc from 'fast-check'
import { second } from '../../src/core/units.ts'

const normalSeconds = 1

export function fuzzMs(): number {
  const asked = Number(process.env['FUZZ_SECONDS'] ?? normalSeconds)
  return (Number.isFinite(asked) && asked > 0 ? asked : normalSeconds) * second
}

/**
 * For the plugins of a property: no run begins after the time, but the first one, for which a busy machine may need it all.
 * A run that has begun ends: what a cut one does afterwards would be nobody's.
 */
export function untilTime(limitMs = fuzzMs()): () => fc.PluginInstance<unknown> {
  return () => {
    const endMs = performance.now() + limitMs
    let runs = 0
    return {
      decorateRun: run => value =>
        runs++ > 0 && performance.now() > endMs ? new fc.PreconditionFailure(true) : run(value),
    }
  }
}

/** The time-out of a test that runs so long, and has to start and to shrink what it finds. */
export function fuzzTimeoutMs(): number {
  return fuzzMs() + 60 * second
}
