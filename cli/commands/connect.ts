/** connect: connect to a peer now. */

import type { Command } from 'commander'
import type { Context } from '../context.ts'
import { pageEnd } from '../help.ts'

export function define(command: Command, context: Context): void {
  command
    .description(
      'Connects to a peer now. To have a peer at every start, see bootstrap in the config.',
    )
    .argument('<MULTIADDR>', 'its address, ending in /p2p/PEERID')
    .addHelpText('after', () =>
      pageEnd({
        examples: [
          {
            command: 'connect /ip4/192.168.1.20/tcp/4011/p2p/12D3Koo...',
            about: 'an address that the other shows in commonweight status',
          },
        ],
        exits: ['UNAVAILABLE'],
      }),
    )
    .action((address: string) => connect(context, address))
}

async function connect(context: Context, address: string): Promise<void> {
  const client = await context.client()
  const connected = await client.connect(address, context.signal)
  context.output.result(connected, () => `connected to ${connected.peerId}`)
}
