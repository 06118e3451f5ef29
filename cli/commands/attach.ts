/** attach: follow an operation that another command started. */

import type { Command } from 'commander'
import { InvalidInputError, NotFoundError } from '../../src/core/errors.ts'
import type { Context } from '../context.ts'
import { detachAbout, follow } from '../follow.ts'
import { pageEnd } from '../help.ts'
import { shortId } from '../text.ts'
import { showAdopted, showAdoption } from './adopt.ts'
import { showImported } from './import.ts'
import { showMirrored } from './mirror.ts'
import { showPulled } from './pull.ts'
import { showSeeded } from './seed.ts'
import { showVerified } from './verify.ts'

export function define(command: Command, context: Context): void {
  command
    .description(
      'Follows a seed, pull, verification or adoption that runs in the daemon, as if this command had started it. ' +
        'Without an ID: the only one that runs.',
    )
    .argument('[ID]', 'as operations prints it, or how it begins')
    .option('--detach', detachAbout, false)
    .addHelpText('after', () =>
      pageEnd({
        examples: [{ command: 'attach', about: 'see the pull through that was left running' }],
        exits: ['NOT_FOUND', 'UNAVAILABLE', 'INTEGRITY', 'STORAGE', 'CONFLICT', 'LIMIT'],
      }),
    )
    .action((id: string | undefined, { detach }: { detach: boolean }) =>
      attach(context, id, detach),
    )
}

async function attach(context: Context, given: string | undefined, detach: boolean): Promise<void> {
  const id = await find(context, given)
  const result = await follow(context, (client, signal) => client.attach(id, signal), {
    detach,
    attach: true,
    onAdopted: event => showAdopted(context, event),
  })
  switch (result?.type) {
    case undefined:
      return
    case 'seeded':
      return showSeeded(context, result)
    case 'pulled':
      return showPulled(context, result)
    case 'verified':
      return showVerified(context, result)
    case 'adoption':
      return showAdoption(context, result)
    case 'mirrored':
      return showMirrored(context, result)
    case 'imported':
      return showImported(context, result)
  }
}

/** The operation whose id begins as given; without one the only one that runs. */
async function find(context: Context, given: string | undefined): Promise<string> {
  const client = await context.client()
  const all = await client.operations(context.signal)
  const fitting = all.filter(({ id, state }) =>
    given === undefined ? state === 'running' : id.startsWith(given),
  )
  const [only] = fitting
  if (only === undefined) {
    throw new NotFoundError(given === undefined ? 'nothing is running' : `no operation ${given}`, {
      hint: 'commonweight operations lists what runs and what ended lately',
    })
  }
  if (fitting.length === 1) return only.id
  const names = fitting.map(({ id, kind, target }) => `${shortId(id)} (${kind} ${target})`)
  throw new InvalidInputError(`${fitting.length} operations fit`, {
    hint: `name one: ${names.join(', ')}`,
  })
}
