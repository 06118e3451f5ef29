/** name: what a model is called here, for this command and for clients of the gateway; all names without one. */

import type { Command } from 'commander'
import type { NamedView } from '../../src/api/contract.ts'
import { InvalidInputError } from '../../src/core/errors.ts'
import type { Context } from '../context.ts'
import { pageEnd, refAbout } from '../help.ts'
import { type Column, table } from '../table.ts'

export function define(command: Command, context: Context): void {
  command
    .description(
      'Gives a model a name. Clients of the gateway ask by it. The model need not be held: a link is ' +
        'remembered, and followed when somebody asks for the name. Without arguments: lists all names.',
    )
    .argument('[NAME]', 'ORG/MODEL; whatever had the name goes on without it')
    .argument('[REF]', refAbout)
    .addHelpText('after', () =>
      pageEnd({
        notes: [
          'For what is no model, NAME begins with datasets/, spaces/ or kernels/. commonweight rm NAME ' +
            'forgets a name that is only bound to a link.',
        ],
        examples: [
          { command: 'name', about: 'the names that clients of the gateway can ask for' },
          {
            command: "name org/model 'cw://bafyrei...?peer=...'",
            about: 'make hf download org/model work, with a link from a friend',
          },
        ],
        exits: ['NOT_FOUND'],
      }),
    )
    .action((name?: string, ref?: string) => {
      if (name === undefined) return listNames(context)
      if (ref !== undefined) return giveName(context, name, ref)
      throw new InvalidInputError(`what ${name} is to mean is missing`, {
        hint: `commonweight name ${name} REF; commonweight name alone lists all names`,
      })
    })
}

async function giveName(context: Context, name: string, ref: string): Promise<void> {
  const client = await context.client()
  const named = await client.name(name, ref, context.signal)
  context.output.result(named, () => `${name} is ${named.manifest}`)
  if (!named.held)
    context.output.note('it is not held here: it is fetched when somebody asks for it')
}

async function listNames(context: Context): Promise<void> {
  const { output, signal } = context
  const client = await context.client()
  const names = await client.names(signal)
  for (const named of names) output.object(named)
  if (output.json) return
  if (names.length === 0) output.note('no names here yet; see commonweight help name')
  output.text(table(names, columns, output))
}

const columns: readonly Column<NamedView>[] = [
  { title: 'NAME', value: ({ name }) => name, shrink: { to: 10, cut: 'middle' } },
  { title: 'HELD', value: ({ held }) => (held ? 'yes' : 'no') },
  { title: 'MANIFEST', value: ({ manifest }) => manifest, shrink: { to: 8, cut: 'middle' } },
]
