/** name: what a model is called here, for this command and for clients of the gateway. */

import type { Command } from 'commander'
import type { Context } from '../context.ts'
import { pageEnd, refAbout } from '../help.ts'

export function define(command: Command, context: Context): void {
  command
    .description(
      'Gives a model a name. Clients of the gateway ask by it. The model need not be held: a link is ' +
        'remembered, and followed when somebody asks for the name.',
    )
    .argument('<NAME>', 'ORG/MODEL; whatever had the name goes on without it')
    .argument('<REF>', refAbout)
    .addHelpText('after', () =>
      pageEnd({
        notes: ['For what is no model, NAME begins with datasets/, spaces/ or kernels/.'],
        examples: [
          {
            command: "name org/model 'cw://bafyrei...?peer=...'",
            about: 'make hf download org/model work, with a link from a friend',
          },
        ],
        exits: ['NOT_FOUND'],
      }),
    )
    .action((name: string, ref: string) => giveName(context, name, ref))
}

async function giveName(context: Context, name: string, ref: string): Promise<void> {
  const client = await context.client()
  const named = await client.name(name, ref, context.signal)
  context.output.result(named, () => `${name} is ${named.manifest}`)
  if (!named.held)
    context.output.note('it is not held here: it is fetched when somebody asks for it')
}
