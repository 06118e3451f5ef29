/** status: what the node is doing. */

import type { Command } from 'commander'
import type { StatusView } from '../../src/api/contract.ts'
import { formatBytes, formatCount, formatDuration } from '../../src/core/units.ts'
import type { Context } from '../context.ts'
import { pageEnd } from '../help.ts'
import { fields } from '../table.ts'
import { plural, printable } from '../text.ts'
import { describeOperation } from './operations.ts'

export function define(command: Command, context: Context): void {
  command
    .description(
      'Shows the node: its addresses, what it holds and announces, peers, what is running.',
    )
    .addHelpText('after', () =>
      pageEnd({
        examples: [
          { command: 'status', about: 'is it well?' },
          {
            command: 'status --json | jq -r .addresses[]',
            about: 'the addresses to give to others',
          },
        ],
        exits: [],
      }),
    )
    .action(() => status(context))
}

async function status(context: Context): Promise<void> {
  const { output, signal } = context
  const client = await context.client()
  const view = await client.status(signal)
  output.result(view, () => fields(describe(view, Date.now()), output.style))
  for (const warning of view.warnings) output.warn(warning)
}

export function describe(
  view: StatusView,
  nowMs: number,
): (readonly [string, string | readonly string[]])[] {
  const { dht, announcing, operations } = view
  const ago = (ms: number): string => formatDuration(Math.max(0, nowMs - ms))
  const running = operations.filter(({ state }) => state === 'running')
  return [
    ['daemon', `${view.version}, process ${view.pid}, up ${ago(view.startedAtMs)}`],
    ['home', printable(view.home)],
    ['peer id', view.peerId],
    [
      'addresses',
      view.addresses.length === 0 ? 'none' : view.addresses.map(each => printable(each)),
    ],
    ['gateway', view.gateway ?? 'off'],
    ['holds', `${plural(view.models, 'model')}, ${formatBytes(view.bytesHeld)}`],
    ['peers', `${plural(view.connections, 'connection')}; DHT ${dht.mode} that knows ${dht.peers}`],
    [
      'announces',
      `${plural(announcing.keys, 'key')}, ${formatCount(announcing.due)} due, ` +
        (announcing.lastAtMs === null ? 'none yet' : `last ${ago(announcing.lastAtMs)} ago`),
    ],
    ...(view.watched.length === 0
      ? []
      : [['watches', view.watched.map(each => printable(each))] as const]),
    ['memory', formatBytes(view.memory.rssBytes)],
    ['running', running.length === 0 ? 'nothing' : running.map(describeOperation)],
  ]
}
