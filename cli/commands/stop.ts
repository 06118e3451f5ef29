/** stop: stop the daemon and wait until it is gone. */

import type { Command } from 'commander'
import { readPid } from '../../src/api/home.ts'
import { systemCode, UnavailableError } from '../../src/core/errors.ts'
import { second } from '../../src/core/units.ts'
import type { Context } from '../context.ts'
import { pageEnd } from '../help.ts'

/** The daemon promises to end within 10 s. */
const goneTimeoutMs = 20 * second
const pollMs = 50

export function define(command: Command, context: Context): void {
  command
    .description(
      'Stops the daemon and waits until it is gone. Pulls that run go on at its next start. Nothing to ' +
        'do when none runs.',
    )
    .addHelpText('after', () =>
      pageEnd({
        examples: [{ command: 'stop', about: 'until the next command that needs it' }],
        exits: ['UNAVAILABLE'],
      }),
    )
    .action(() => stop(context))
}

async function stop(context: Context): Promise<void> {
  const { output, paths, signal } = context
  const client = await context.runningClient()
  if (client === undefined) {
    output.result({ type: 'stopped', pid: null }, () => 'no daemon is running')
    return
  }
  const pid = await readPid(paths)
  await client.stop(signal)
  if (pid !== undefined) await untilGone(context, pid)
  output.result({ type: 'stopped', pid: pid ?? null }, () => 'stopped')
}

/** The daemon removes its pid file when all else is closed; one that crashed leaves it there. */
async function untilGone({ clock, signal, paths }: Context, pid: number): Promise<void> {
  const deadline = clock.monotonic() + goneTimeoutMs
  while ((await readPid(paths)) === pid && isAlive(pid)) {
    if (clock.monotonic() > deadline) {
      throw new UnavailableError(`the daemon (process ${pid}) has not ended yet`, {
        hint: `its log is ${paths.log}`,
      })
    }
    await clock.sleep(pollMs, signal)
  }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return systemCode(error) === 'EPERM'
  }
}
