/**
 * V8 settings for a process that moves bulk bytes through ArrayBuffers. With V8's defaults a libp2p
 * stream spends half its time in full garbage collections that external memory triggers: 61 per GiB
 * fall to 1 with these (docs/benchmarks.md). Must run before the heap has grown: first thing in main.
 */

import { setFlagsFromString } from 'node:v8'

/**
 * Let ArrayBuffer memory count towards the heap limit instead of forcing a collection each 64 MiB,
 * and let the old generation grow tenfold before the next one. The start-up variant
 * (--initial-old-space-size) does nothing when set at run time.
 */
export const bulkFlags = [
  '--external-memory-accounted-in-global-limit',
  '--heap-growing-percent=1000',
] as const

/**
 * Sets the flags and returns those V8 took. They are internals of one V8 version: one that is gone
 * costs speed, never correctness, so a refusal is reported and not thrown.
 */
export function tuneForBulkBytes(
  setFlag: (flag: string) => void = setFlagsFromString,
): readonly string[] {
  return bulkFlags.filter(flag => {
    try {
      setFlag(flag)
      return true
    } catch {
      return false
    }
  })
}
