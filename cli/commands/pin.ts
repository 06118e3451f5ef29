/** pin: promise to keep a model. */

import type { Command } from 'commander'
import type { Context } from '../context.ts'
import { pageEnd, refAbout } from '../help.ts'
import { nameOf } from './ls.ts'

export function define(command: Command, context: Context): void {
  command
    .description(
      'Keeps a model: gc does not delete it. What was seeded or pulled is pinned already.',
    )
    .argument('<REF>', refAbout)
    .addHelpText('after', () =>
      pageEnd({ examples: [{ command: 'pin org/model', about: 'keep it' }], exits: ['NOT_FOUND'] }),
    )
    .action((ref: string) => setPinned(context, ref, true))
}

export async function setPinned(context: Context, ref: string, pinned: boolean): Promise<void> {
  const client = await context.client()
  const model = await client.pin(ref, pinned, context.signal)
  context.output.result(model, () => {
    const name = nameOf(model)
    return `${pinned ? 'pinned' : 'unpinned'} ${name === '-' ? model.manifest : name}`
  })
}
