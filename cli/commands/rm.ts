/** rm: forget a model. */

import type { Command } from 'commander'
import type { RemovedView } from '../../src/api/contract.ts'
import { formatBytes } from '../../src/core/units.ts'
import type { Context } from '../context.ts'
import { pageEnd, refAbout } from '../help.ts'
import { plural, printable } from '../text.ts'

export function define(command: Command, context: Context): void {
  command
    .description(
      'Forgets a model: it is no longer shared, announced or listed. Of a name that is only bound to a link, that.',
    )
    .argument('<REF>', refAbout)
    .option('--files', 'also delete its files in the home', false)
    .addHelpText('after', () =>
      pageEnd({
        notes: [
          'Files outside the home are yours and are never deleted, not even with --files; what was left ' +
            'in place is printed.',
        ],
        examples: [
          { command: 'rm org/model', about: 'stop sharing; every file stays' },
          { command: 'rm org/model --files', about: 'and free the space a pull took' },
        ],
        exits: ['NOT_FOUND', 'STORAGE', 'CONFLICT'],
      }),
    )
    .action((ref: string, { files }: { files: boolean }) => remove(context, ref, files))
}

async function remove(context: Context, ref: string, files: boolean): Promise<void> {
  const client = await context.client()
  const removed = await client.remove(ref, { files }, context.signal)
  showRemoved(context, removed, 'removed')
  if (!files)
    context.output.note('its files stay where they are; --files deletes those in the home')
}

export function showRemoved({ output }: Context, removed: RemovedView, verb: string): void {
  const { manifest, filesDeleted, bytesFreed, kept } = removed
  output.result(removed, () => {
    const what = manifest === null ? '' : ` ${manifest}`
    const freed = `${plural(filesDeleted, 'file')} deleted, ${formatBytes(bytesFreed)} freed`
    const left = kept.map(path => `kept ${printable(path)}`)
    return [`${verb}${what}: ${freed}`, ...left].join('\n')
  })
}
