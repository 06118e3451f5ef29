/** link: the cw:// link that others pull by. */

import type { Command } from 'commander'
import type { Context } from '../context.ts'
import { pageEnd, refAbout } from '../help.ts'

export function define(command: Command, context: Context): void {
  command
    .description(
      'Prints a link to a model held here: its manifest CID, its name, and addresses of this node for ' +
        'whoever knows no other.',
    )
    .argument('<REF>', refAbout)
    .addHelpText('after', () =>
      pageEnd({
        examples: [
          { command: 'link sentence-transformers/all-MiniLM-L6-v2', about: 'to give to a friend' },
        ],
        exits: ['NOT_FOUND'],
      }),
    )
    .action((ref: string) => link(context, ref))
}

async function link(context: Context, ref: string): Promise<void> {
  const client = await context.client()
  const view = await client.link(ref, context.signal)
  context.output.result(view, () => view.link)
}
