/** config: each setting of the running daemon, and what set it. */

import type { Command } from 'commander'
import type { ConfigEntry } from '../../src/api/contract.ts'
import type { Context } from '../context.ts'
import { pageEnd } from '../help.ts'
import { type Column, table } from '../table.ts'

export function define(command: Command, context: Context): void {
  command
    .description(
      "Shows each setting's value and where it comes from: flag, environment, file, default.",
    )
    .addHelpText('after', () =>
      pageEnd({
        notes: [
          'Settings are read when the daemon starts: after a change, run commonweight stop and start it ' +
            'again.',
        ],
        examples: [
          { command: 'config', about: 'all of them' },
          {
            command: 'config --json | jq -r \'select(.source != "default").key\'',
            about: 'what was changed',
          },
        ],
        exits: [],
      }),
    )
    .action(() => config(context))
}

async function config(context: Context): Promise<void> {
  const { output, signal } = context
  const client = await context.client()
  const entries = await client.config(signal)
  for (const entry of entries) output.object(entry)
  if (!output.json) output.text(table(entries, columns, output))
}

const columns: readonly Column<ConfigEntry>[] = [
  { title: 'KEY', value: ({ key }) => key },
  { title: 'VALUE', value: ({ value }) => show(value), shrink: { to: 16, cut: 'end' } },
  {
    title: 'FROM',
    value: ({ source, from }) => (source === 'default' ? 'default' : from),
    shrink: { to: 12, cut: 'middle' },
  },
]

function show(value: unknown): string {
  if (Array.isArray(value)) return value.length === 0 ? '-' : value.join(' ')
  if (value === null) return '-'
  return typeof value === 'string' ? value : JSON.stringify(value)
}
