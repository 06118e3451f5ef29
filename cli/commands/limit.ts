/** limit: show or change how fast the node may fetch and serve, while it runs. */

import type { Command } from 'commander'
import type { LimitsView } from '../../src/api/contract.ts'
import { parseRate } from '../../src/core/rate-limit.ts'
import { formatRate } from '../../src/core/units.ts'
import type { Context } from '../context.ts'
import { pageEnd } from '../help.ts'
import { fields } from '../table.ts'

/** Commander takes null for an option that was given without a value. */
type Rate = number | 'off'

interface LimitOptions {
  readonly down?: Rate
  readonly up?: Rate
}

export function define(command: Command, context: Context): void {
  command
    .description(
      'Limits the bytes per second that the node fetches and serves, over all peers together, from this ' +
        'moment until the daemon stops. Without flags it shows the limits.',
    )
    .option('--down <RATE>', 'fetch no faster than 10MiB, 500KB, 200000; or off', rateOf)
    .option('--up <RATE>', 'serve no faster; or off', rateOf)
    .addHelpText('after', () =>
      pageEnd({
        notes: [
          'Limits that last are bandwidth.max_down and bandwidth.max_up in config.toml. Peers on the local ' +
            'network are not limited unless bandwidth.limit_lan says so. What counts is the bytes of ' +
            'chunks; TCP and encryption add about four percent.',
        ],
        examples: [
          { command: 'limit', about: 'the limits as they are' },
          { command: 'limit --up 2MiB', about: 'leave room on the line for a video call' },
          { command: 'limit --up off --down off', about: 'as fast as it goes' },
        ],
        exits: [],
      }),
    )
    .action((options: LimitOptions) => limit(context, options))
}

async function limit(context: Context, { down, up }: LimitOptions): Promise<void> {
  const { output, signal } = context
  const client = await context.client()
  const limits =
    down === undefined && up === undefined
      ? await client.limits(signal)
      : await client.setLimits(
          {
            ...(down === undefined ? {} : { maxDown: down === 'off' ? null : down }),
            ...(up === undefined ? {} : { maxUp: up === 'off' ? null : up }),
          },
          signal,
        )
  output.result(limits, () => fields(rows(limits), output.style))
}

function rateOf(text: string): Rate {
  return parseRate(text) ?? 'off'
}

function rows({ maxDown, maxUp, limitLan }: LimitsView): [string, string][] {
  return [
    ['down', maxDown === null ? 'off' : formatRate(maxDown)],
    ['up', maxUp === null ? 'off' : formatRate(maxUp)],
    ['LAN', limitLan ? 'limited too' : 'not limited'],
  ]
}
