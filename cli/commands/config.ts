/** config: each setting and what set it, of the next daemon and, where that differs, of the running one. */

import type { Command } from 'commander'
import type { ConfigEntry, ErrorBody } from '../../src/api/contract.ts'
import { ConflictError, type ErrorCode, errorFromCode } from '../../src/core/errors.ts'
import type { Context } from '../context.ts'
import { configLines } from '../daemon-process.ts'
import { pageEnd } from '../help.ts'
import { type Column, table } from '../table.ts'
import { homeArgs } from './daemon.ts'

/** A setting as a daemon started now would have it. */
type Setting = ConfigEntry & {
  /** What the daemon that runs has instead. */
  readonly running?: Pick<ConfigEntry, 'value' | 'source' | 'from'>
}

export function define(command: Command, context: Context): void {
  command
    .description(
      "Shows each setting's value and where it comes from: flag, environment, file, default. Starts no " +
        'daemon; where the one that runs has another value, that is shown too.',
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
        exits: ['STORAGE'],
      }),
    )
    .action(() => config(context, command))
}

async function config(context: Context, command: Command): Promise<void> {
  const { output } = context
  const next = await nextEntries(context, command)
  const settings = compare(next, await runningEntries(context))
  for (const setting of settings) output.object(setting)
  const isOther = settings.some(({ running }) => running !== undefined)
  if (!output.json)
    output.text(table(settings, isOther ? [...columns, runningColumn] : columns, output))
  if (!isOther) return
  output.note('the daemon that runs was started with other settings, shown as RUNNING')
  output.hint('commonweight stop; the next one has those under VALUE')
}

/** Not parsed again: another file of this very program wrote them. */
async function nextEntries({ signal }: Context, command: Command): Promise<ConfigEntry[]> {
  const lines = await configLines(homeArgs(command), signal)
  return lines.map(line => {
    const entry = JSON.parse(line) as ConfigEntry | ErrorBody
    if (entry.type === 'setting') return entry
    const { code, message, hint } = entry
    throw errorFromCode(code as ErrorCode, message, hint === undefined ? {} : { hint })
  })
}

/** Undefined when no daemon runs, or one that is too old or new to say. */
async function runningEntries(context: Context): Promise<ConfigEntry[] | undefined> {
  try {
    const client = await context.runningClient()
    return await client?.config(context.signal)
  } catch (error) {
    if (!(error instanceof ConflictError)) throw error
    context.output.warn(`its settings are not known: ${error.message}`)
    return undefined
  }
}

/** Where a value came from does not matter when it is the same. */
export function compare(
  next: readonly ConfigEntry[],
  running: readonly ConfigEntry[] | undefined,
): Setting[] {
  return next.map(entry => {
    const now = running?.find(({ key }) => key === entry.key)
    if (now === undefined || show(now.value) === show(entry.value)) return entry
    const { value, source, from } = now
    return { ...entry, running: { value, source, from } }
  })
}

const columns: readonly Column<Setting>[] = [
  { title: 'KEY', value: ({ key }) => key },
  { title: 'VALUE', value: ({ value }) => show(value), shrink: { to: 16, cut: 'end' } },
  { title: 'FROM', value: sourceOf, shrink: { to: 12, cut: 'middle' } },
]

const runningColumn: Column<Setting> = {
  title: 'RUNNING',
  value: ({ running }) =>
    running === undefined ? '' : `${show(running.value)} (${sourceOf(running)})`,
  shrink: { to: 12, cut: 'end' },
}

function sourceOf({ source, from }: Pick<ConfigEntry, 'source' | 'from'>): string {
  return source === 'default' ? 'default' : from
}

function show(value: unknown): string {
  if (Array.isArray(value)) return value.length === 0 ? '-' : value.join(' ')
  if (value === null) return '-'
  return typeof value === 'string' ? value : JSON.stringify(value)
}
