/** operations: what is running in the daemon, and what ended lately. */

import type { Command } from 'commander'
import type { OperationSummary } from '../../src/api/contract.ts'
import { formatDuration } from '../../src/core/units.ts'
import type { Context } from '../context.ts'
import { pageEnd } from '../help.ts'
import { progressLine } from '../progress.ts'
import { type Column, table } from '../table.ts'
import { printable, shortId } from '../text.ts'

export function define(command: Command, context: Context): void {
  command
    .description('Lists the seeds, pulls and verifications that run in the daemon or ended lately.')
    .addHelpText('after', () =>
      pageEnd({
        examples: [
          { command: 'operations', about: 'what is it doing?' },
          { command: 'attach df0d8823', about: 'follow one of them to its end; Ctrl-C stops it' },
        ],
        exits: [],
      }),
    )
    .action(() => list(context))
}

async function list(context: Context): Promise<void> {
  const { output, signal } = context
  const client = await context.client()
  const summaries = await client.operations(signal)
  for (const summary of summaries) output.object(summary)
  if (output.json) return
  if (summaries.length === 0) output.note('nothing runs or ended lately')
  output.text(table(summaries, columns, output))
}

const columns: readonly Column<OperationSummary>[] = [
  { title: 'ID', value: ({ id }) => shortId(id) },
  { title: 'KIND', value: ({ kind }) => kind },
  { title: 'STATE', value: ({ state }) => state },
  { title: 'STARTED', value: started, align: 'right' },
  { title: 'TARGET', value: ({ target }) => target, shrink: { to: 12, cut: 'middle' } },
  { title: 'PROGRESS', value: progressOf, shrink: { to: 10, cut: 'end' } },
]

function started({ startedAtMs }: OperationSummary): string {
  return `${formatDuration(Math.max(0, Date.now() - startedAtMs))} ago`
}

function progressOf({ progress, state, error }: OperationSummary): string {
  if (error !== null) return error
  return progress === null || state !== 'running' ? '-' : progressLine(progress)
}

/** One line, for status. */
export function describeOperation(summary: OperationSummary): string {
  const { id, kind, target, progress } = summary
  const at = progress === null ? 'starting' : progressLine(progress)
  return printable(`${shortId(id)}  ${kind} ${target}: ${at}`)
}
