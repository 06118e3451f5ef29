/** How long a fuzz test runs: a second in the normal suite, FUZZ_SECONDS in `npm run test:fuzz`. */

import { second } from '../../src/core/units.ts'

const normalSeconds = 1

export function fuzzMs(): number {
  const asked = Number(process.env['FUZZ_SECONDS'] ?? normalSeconds)
  return (Number.isFinite(asked) && asked > 0 ? asked : normalSeconds) * second
}

/** The time-out of a test that runs so long, and has to start and to shrink what it finds. */
export function fuzzTimeoutMs(): number {
  return fuzzMs() + 60 * second
}
