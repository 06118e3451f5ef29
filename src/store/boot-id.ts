/** Which boot of the machine this is: what an earlier one wrote and did not sync may be gone. */

import { readFile } from 'node:fs/promises'
import { StorageError } from '../core/errors.ts'
import { isGone } from './files.ts'

/** Where Linux names the boot; elsewhere only what is durable is believed after a restart. */
export async function bootId(): Promise<string> {
  try {
    return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim()
  } catch (error) {
    if (isGone(error)) return `unknown-${process.pid}-${performance.timeOrigin}`
    throw new StorageError('reading the boot id', { cause: error })
  }
}
