/** ls: the models held here. */

import type { Command } from 'commander'
import type { ModelView } from '../../src/api/contract.ts'
import { formatBytes } from '../../src/core/units.ts'
import type { Context } from '../context.ts'
import { pageEnd } from '../help.ts'
import { type Column, table } from '../table.ts'

export function define(command: Command, context: Context): void {
  command
    .description('Lists the models held here, with how much of each and in what state.')
    .addHelpText('after', () =>
      pageEnd({
        notes: [
          'States: complete; a per cent figure while chunks are missing; changed when a file is no longer ' +
            'what was indexed, or damaged: pull again what was pulled; seed again what was seeded, or put ' +
            'the old bytes back. Pinned models are kept by gc; shared ones are served to others.',
        ],
        examples: [
          { command: 'ls', about: 'everything' },
          {
            command: 'ls --json | jq -r \'select(.state == "changed").path\'',
            about: 'changed folders',
          },
        ],
        exits: [],
      }),
    )
    .action(() => list(context))
}

async function list(context: Context): Promise<void> {
  const { output, signal } = context
  const client = await context.client()
  const [models, { warnings }] = await Promise.all([client.models(signal), client.status(signal)])
  for (const model of models) output.object(model)
  for (const warning of warnings) output.warn(warning)
  if (output.json) return
  if (models.length === 0) output.note('no models here yet; see commonweight help seed, help pull')
  output.text(table(models, columns(context), output))
}

function columns({ output: { style } }: Context): Column<ModelView>[] {
  return [
    { title: 'NAME', value: nameOf, shrink: { to: 10, cut: 'middle' } },
    {
      title: 'STATE',
      value: stateOf,
      style: (text, { state }) => style(stateColors[state], text),
    },
    { title: 'SIZE', value: ({ bytes }) => formatBytes(bytes), align: 'right' },
    { title: 'FILES', value: ({ files }) => String(files), align: 'right' },
    { title: 'KEPT', value: keptOf, shrink: { to: 6, cut: 'end' } },
    { title: 'MANIFEST', value: ({ manifest }) => manifest, shrink: { to: 8, cut: 'middle' } },
  ]
}

const stateColors = { complete: 'green', partial: 'yellow', changed: 'red' } as const

export function nameOf({ name }: ModelView): string {
  return name ?? '-'
}

export function stateOf({ state, percent }: ModelView): string {
  return state === 'partial' ? `${percent}%` : state
}

function keptOf({ pinned, seeding }: ModelView): string {
  const words = [...(pinned ? ['pinned'] : []), ...(seeding ? ['shared'] : [])]
  return words.join(', ') || '-'
}
