/** providers: who announces a model. */

import type { Command } from 'commander'
import { UnavailableError } from '../../src/core/errors.ts'
import { formatDuration } from '../../src/core/units.ts'
import type { Context } from '../context.ts'
import { pageEnd, refAbout } from '../help.ts'
import { plural, printable } from '../text.ts'

export function define(command: Command, context: Context): void {
  command
    .description('Asks the DHT who announces a model or file, and prints each as it is found.')
    .argument('<REF>', refAbout)
    .addHelpText('after', () =>
      pageEnd({
        notes: [
          'A provider says that it has the bytes; only a pull or its own verify proves it. With --json ' +
            'a last object of type done follows the providers.',
        ],
        examples: [{ command: 'providers bafyreig...', about: 'would it survive if I went away?' }],
        exits: ['NOT_FOUND', 'UNAVAILABLE'],
      }),
    )
    .action((ref: string) => providers(context, ref))
}

async function providers(context: Context, ref: string): Promise<void> {
  const { output, signal } = context
  const client = await context.client()
  let found = 0
  for await (const event of client.providers(ref, signal)) {
    switch (event.type) {
      case 'provider': {
        found += 1
        const { peerId, addresses, self } = event
        output.result(event, () => {
          const known = addresses.map(address => `\n  ${printable(address)}`).join('')
          return `${output.style('bold', peerId)}${self ? ' (this node)' : ''}${known}`
        })
        break
      }
      case 'done': {
        const took = formatDuration(event.milliseconds)
        if (found > 0) output.object(event)
        output.note(`${plural(event.providers, 'provider')} found in ${took}`)
        break
      }
    }
  }
  if (found > 0) return
  throw new UnavailableError('nobody who can be reached announces it', {
    hint: 'commonweight status shows whether this node knows any peer; connect adds one',
  })
}
