/** complete-ref: what a REF may be here, one a line, for completion scripts. Never starts a daemon. */

import type { Command } from 'commander'
import type { Context } from '../context.ts'

export function define(command: Command, context: Context): void {
  command.description('Prints the names and manifest CIDs of local models.').action(async () => {
    const client = await context.runningClient()
    if (client === undefined) return
    const models = await client.models(context.signal)
    for (const { name, manifest } of models) context.output.text(name ?? manifest)
  })
}
