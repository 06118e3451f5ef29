/** Waiting for what another process does: asks again and again until a deadline, never a fixed time. */

import { setTimeout as sleep } from 'node:timers/promises'
import { second } from '../../src/core/units.ts'

/** Slow machines get it all; a test that passes never waits so long. */
const deadlineMs = 40 * second
const intervalMs = 100

/** The first answer that is not undefined; `ms` for what takes longer by design. */
export async function until<T>(
  what: string,
  ask: () => Promise<T | undefined>,
  ms = deadlineMs,
): Promise<T> {
  const startedMs = performance.now()
  for (;;) {
    const answer = await ask()
    if (answer !== undefined) return answer
    if (performance.now() - startedMs > ms) throw new Error(`in vain waited until ${what}`)
    await sleep(intervalMs)
  }
}
