/** Folders under .cache/ that are made once, however many test files ask for one at a time. */

import { mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { systemCode } from '../../src/core/errors.ts'

const pollMs = 200
/** Who has the lock writes its pid at once, or died before. */
const namelessMsMax = 5000

/** Runs `make` unless the folder was made before; waits for whoever is making it now. */
export async function madeOnce(folder: string, make: () => Promise<void>): Promise<void> {
  const mark = join(folder, 'installed')
  const lock = `${folder}.lock`
  await mkdir(dirname(folder), { recursive: true })
  while (!(await exists(mark))) {
    if (await isTaken(lock)) {
      await sleep(pollMs)
      continue
    }
    try {
      // Meanwhile somebody may have made it and let go of the lock.
      if (await exists(mark)) return
      await make()
      await writeFile(mark, '')
    } finally {
      await rm(lock, { recursive: true, force: true })
    }
  }
}

/** False when the lock is ours now. */
async function isTaken(lock: string): Promise<boolean> {
  try {
    await mkdir(lock)
    await writeFile(join(lock, 'pid'), String(process.pid))
    return false
  } catch (error) {
    if (systemCode(error) !== 'EEXIST') throw error
  }
  if (await isAbandoned(lock)) await rm(lock, { recursive: true, force: true })
  return true
}

async function isAbandoned(lock: string): Promise<boolean> {
  const pid = await readFile(join(lock, 'pid'), 'utf8').catch(() => '')
  if (pid === '') {
    const made = await stat(lock).catch(() => undefined)
    return made !== undefined && Date.now() - made.mtimeMs > namelessMsMax
  }
  try {
    process.kill(Number(pid), 0)
    return false
  } catch (error) {
    return systemCode(error) === 'ESRCH'
  }
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  )
}
