/** Memory that something still holds, without what only waits to be collected. */

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

export function heldBytes(): number {
  setFlagsFromString('--expose-gc')
  const collectGarbage = runInNewContext('gc') as () => void
  collectGarbage()
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}
