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

/** `help pull` is `pull --help`: an unknown verb gets the same answer in both. */
async function help(program: Command, context: Context, verb: string | undefined): Promise<void> {
  // Parsing anew forgets the global flags: the output must have been made with them.
  void context.output
  await program.parseAsync(verb === undefined ? ['--help'] : [verb, '--help'], { from: 'user' })
}
