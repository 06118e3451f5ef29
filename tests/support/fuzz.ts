/** How long a fuzz test runs: some seconds in the normal suite, FUZZ_SECONDS where more is wanted. */

import { second } from '../../src/core/units.ts'

/** Milliseconds; `seconds` is the share of the normal suite. */
export function fuzzMs(seconds: number): number {
  const asked = Number(process.env['FUZZ_SECONDS'] ?? seconds)
  return (Number.isFinite(asked) && asked > 0 ? asked : seconds) * second
}

/** The time-out of a test that runs so long, and has to start and to shrink what it finds. */
export function fuzzTimeoutMs(seconds: number): number {
  return fuzzMs(seconds) + 30 * second
}
