/** gc: delete what nothing keeps. */

import type { Command } from 'commander'
import type { Context } from '../context.ts'
import { pageEnd } from '../help.ts'
import { showRemoved } from './rm.ts'

export function define(command: Command, context: Context): void {
  command
    .description('Deletes the files in the home that no pinned model and no running pull needs.')
    .option('--dry-run', 'only say what would go', false)
    .addHelpText('after', () =>
      pageEnd({
        examples: [
          { command: 'gc --dry-run', about: 'how much would it free?' },
          { command: 'gc', about: 'free it' },
        ],
        exits: ['STORAGE', 'CONFLICT'],
      }),
    )
    .action(({ dryRun }: { dryRun: boolean }) => collectGarbage(context, dryRun))
}

async function collectGarbage(context: Context, dryRun: boolean): Promise<void> {
  const client = await context.client()
  const removed = await client.gc({ dryRun }, context.signal)
  showRemoved(context, removed, dryRun ? 'gc would do' : 'gc')
}
