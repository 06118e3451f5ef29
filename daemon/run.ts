/** The life of the daemon's process: start, ready, a signal or a request to stop, the exit code. */

import { randomUUID } from 'node:crypto'
import { systemClock } from '../src/core/clock.ts'
import { errorTable, exitCodeOf, exitCodes, StorageError } from '../src/core/errors.ts'
import { second } from '../src/core/units.ts'
import { openDaemon } from './compose.ts'
import type { DaemonDeps } from './compose.ts'
import { loadConfig, logOptions } from './config.ts'
import { untilGone } from './home.ts'
import { openLog } from './log.ts'
import { sayError, sayReady, survivePipes } from './speak.ts'
import { readVersion } from './version.ts'

/** A service manager sends SIGKILL next; everything on disk is crash-safe, so leaving is better. */
const closeMs = 9 * second

/** Runs until asked to stop; sets the exit code and never throws. */
export async function runDaemon(openNode: DaemonDeps['openNode']): Promise<void> {
  survivePipes()
  const { argv, env } = process
  try {
    const signalled = stopSignal()
    const config = await loadConfig({ argv: argv.slice(2), env })
    const log = openLog(process.stderr, logOptions(config, process.stderr.isTTY))
    for (const warning of config.warnings) log.warn(warning)
    const deps = { clock: systemClock, log, openNode, newId: randomUUID }
    await using daemon = await openDaemon(deps, { config, version: readVersion() })
    if (!signalled.aborted) sayReady(config, daemon)
    await untilStopped(config.paths.home, AbortSignal.any([signalled, daemon.stopAsked]))
    log.info('stopping')
    leaveInTime()
  } catch (error) {
    sayError(error, argv.includes('--json'))
    process.exitCode = exitCodeOf(error)
  }
}

/** Throws when there is no home to go on with. */
async function untilStopped(home: string, stop: AbortSignal): Promise<void> {
  try {
    await untilGone(home, systemClock, stop)
  } catch (error) {
    if (stop.aborted) return
    throw error
  }
  leaveInTime(errorTable.STORAGE.exit)
  throw new StorageError(`the home ${home} was deleted or moved away: stopping`, {
    hint: 'what was pulled into it is gone with it; files that were seeded are where they were',
  })
}

/** Aborts at the first signal; the second one meets the system's default and ends the process. */
function stopSignal(): AbortSignal {
  const stop = new AbortController()
  const signals = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const
  function onSignal(): void {
    for (const name of signals) process.off(name, onSignal)
    leaveInTime()
    stop.abort()
  }
  for (const name of signals) process.on(name, onSignal)
  return stop.signal
}

function leaveInTime(exit: number = exitCodes.ok): void {
  // oxlint-disable-next-line unicorn/no-process-exit -- something hangs in its closing: see closeMs
  setTimeout(() => process.exit(exit), closeMs).unref()
}
