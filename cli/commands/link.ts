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
    .option(
      '--web-seed <URL>',
      'a web server with the same files, written into the link; may be repeated',
      collect,
      [],
    )
    .addHelpText('after', () =>
      pageEnd({
        examples: [
          { command: 'link sentence-transformers/all-MiniLM-L6-v2', about: 'to give to a friend' },
          {
            command: 'link org/model --web-seed https://mirror.example.org/models/minilm/',
            about:
              'whoever pulls by it asks that server too; the path of each file follows the last /',
          },
        ],
        exits: ['NOT_FOUND'],
      }),
    )
    .action((ref: string, { webSeed }: { webSeed: string[] }) => link(context, ref, webSeed))
}

async function link(context: Context, ref: string, webSeeds: readonly string[]): Promise<void> {
  const client = await context.client()
  const view = await client.link(ref, webSeeds, context.signal)
  context.output.result(view, () => view.link)
}

function collect(value: string, before: string[]): string[] {
  return [...before, value]
}
