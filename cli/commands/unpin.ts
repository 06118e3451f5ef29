/** unpin: let gc delete a model. */

import type { Command } from 'commander'
import type { Context } from '../context.ts'
import { pageEnd, refAbout } from '../help.ts'
import { setPinned } from './pin.ts'

export function define(command: Command, context: Context): void {
  command
    .description(
      'Releases a model: the next gc may delete its files in the home. Nothing goes now.',
    )
    .argument('<REF>', refAbout)
    .addHelpText('after', () =>
      pageEnd({
        examples: [{ command: 'unpin org/model', about: 'let gc have it' }],
        exits: ['NOT_FOUND'],
      }),
    )
    .action((ref: string) => setPinned(context, ref, false))
}
