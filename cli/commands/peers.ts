/** peers: who is connected. */

import type { Command } from 'commander'
import type { PeerView } from '../../src/api/contract.ts'
import { formatBytes, formatDuration } from '../../src/core/units.ts'
import type { Context } from '../context.ts'
import { pageEnd } from '../help.ts'
import { type Column, table } from '../table.ts'

export function define(command: Command, context: Context): void {
  command
    .description('Lists the connected peers and what went to and from each.')
    .addHelpText('after', () =>
      pageEnd({
        notes: [
          'PATH is how chunks travel: on a lane, on the libp2p stream, or not at all; below the table it ' +
            'says why some have no lane. A narrow terminal shows fewer columns; --json has them all.',
        ],
        examples: [
          { command: 'peers', about: 'all of them' },
          { command: 'peers --json | jq -s length', about: 'how many' },
        ],
        exits: [],
      }),
    )
    .action(() => peers(context))
}

async function peers(context: Context): Promise<void> {
  const { output, signal } = context
  const client = await context.client()
  const views = await client.peers(signal)
  for (const peer of views) output.object(peer)
  if (output.json) return
  if (views.length === 0) output.note('no peer is connected; see commonweight help connect')
  output.text(table(views, columns, output))
  for (const line of lanelessLines(views)) output.note(line)
}

/** Why some peers have no lane; each reason once. */
export function lanelessLines(views: readonly Pick<PeerView, 'path' | 'pathReason'>[]): string[] {
  const counts = new Map<string, number>()
  for (const { path, pathReason } of views) {
    if (path !== 'stream' || pathReason === null) continue
    counts.set(pathReason, (counts.get(pathReason) ?? 0) + 1)
  }
  const who = (count: number): string => (count === 1 ? 'one peer' : `${count} peers`)
  return [...counts].map(([reason, count]) => `${who(count)} without a lane: ${reason}`)
}

const columns: readonly Column<PeerView>[] = [
  { title: 'PEER', value: ({ peerId }) => peerId, shrink: { to: 12, cut: 'middle' } },
  { title: 'ADDRESS', value: ({ address }) => address, shrink: { to: 12, cut: 'middle' } },
  { title: 'DIR', value: ({ direction }) => (direction === 'inbound' ? 'in' : 'out') },
  { title: 'PATH', value: ({ path }) => path },
  { title: 'RECEIVED', value: ({ bytesReceived }) => formatBytes(bytesReceived), align: 'right' },
  { title: 'SENT', value: ({ bytesSent }) => formatBytes(bytesSent), align: 'right' },
  {
    title: 'RTT',
    value: ({ rttMs }) => (rttMs === null ? '-' : `${Math.max(1, Math.round(rttMs))} ms`),
    align: 'right',
  },
  { title: 'FILES', value: ({ files }) => String(files), align: 'right', drop: 1 },
  { title: 'SINCE', value: since, align: 'right', drop: 2 },
  { title: 'AGENT', value: ({ agent }) => agent ?? '-', shrink: { to: 8, cut: 'end' }, drop: 3 },
]

function since({ connectedAtMs }: PeerView): string {
  return formatDuration(Math.max(0, Date.now() - connectedAtMs))
}
