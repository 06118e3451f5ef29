/**
 * V8 settings for a process that moves bulk bytes through ArrayBuffers. With V8's defaults a libp2p
 * stream spends half its time in full garbage collections that external memory triggers, 61 per GiB
 * (docs/benchmarks.md). They are internals of one V8 version: one that is gone costs speed, never
 * correctness.
 */

import { setFlagsFromString } from 'node:v8'

/** Lets ArrayBuffer memory count towards the heap limit instead of forcing a collection each 64 MiB. */
const countExternal = '--external-memory-accounted-in-global-limit'

/**
 * For the command line of a new process: an old space of 96 MiB at the start. On a libp2p stream, 32 MiB
 * meant 41 full collections per GiB and 10 CPU seconds for both sides instead of 6 or 7. 128 MiB saved one
 * more and cost a gateway with 64 readers 90 MiB; with 256 MiB the garbage of a pull was seen to grow to 1 GiB.
 */
export const startFlags = [countExternal, '--initial-old-space-size=96'] as const

/** For a process that runs already, where an initial size has no effect any more. */
export const runtimeFlags = [countExternal, '--heap-growing-percent=1000'] as const

/**
 * Sets what the command line (process.execArgv) did not, before the heap has grown: first thing in main.
 * Returns the flags that V8 took.
 */
export function tuneForBulkBytes(
  execArgv: readonly string[],
  setFlag: (flag: string) => void = setFlagsFromString,
): readonly string[] {
  if (execArgv.includes(countExternal)) return []
  return runtimeFlags.filter(flag => {
    try {
      setFlag(flag)
      return true
    } catch {
      return false
    }
  })
}
