/** help: a verb's page, or the overview. */

import type { Command } from 'commander'
import type { Context } from '../context.ts'
import { pageEnd } from '../help.ts'

export function define(command: Command, context: Context): void {
  command
    .description(
      "Shows a verb's arguments, flags, examples and exit codes; without a verb the list.",
    )
    .argument('[VERB]', 'a verb of the list')
    .addHelpText('after', () =>
      pageEnd({ examples: [{ command: 'help pull', about: 'all about pull' }], exits: [] }),
    )
    .action((verb: string | undefined) => help(command.parent ?? command, context, verb))
}

/** `help pull` is `pull --help`, and `help pul` is answered as `pul` is: with the nearest verb. */
async function help(program: Command, context: Context, verb: string | undefined): Promise<void> {
  // Parsing anew forgets the global flags: the output must have been made with them.
  void context.output
  const isKnown = program.commands.some(command => command.name() === verb)
  const words = verb === undefined ? [] : [verb]
  await program.parseAsync(isKnown || verb === undefined ? [...words, '--help'] : words, {
    from: 'user',
  })
}
