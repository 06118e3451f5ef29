/** env: what to export so that clients of the Hugging Face Hub ask this node. */

import { type Command, Option } from 'commander'
import type { Context } from '../context.ts'
import { pageEnd } from '../help.ts'
import { hubEnvironment } from '../hub-environment.ts'

const shells = ['sh', 'fish', 'powershell'] as const
type Shell = (typeof shells)[number]

export function define(command: Command, context: Context): void {
  command
    .description(
      'Prints the variables that make huggingface_hub, transformers, vLLM, llama.cpp and others fetch models ' +
        'from the gateway of this node.',
    )
    .addOption(
      new Option('--shell <NAME>', `how to write them: ${shells.join(', ')}`)
        .choices(shells)
        .default('sh'),
    )
    .addHelpText('after', () =>
      pageEnd({
        notes: [
          'Programs read them when they start. commonweight run starts one program with them and leaves the ' +
            'shell as it is.',
        ],
        examples: [
          { command: 'env', about: 'to look at' },
          { command: 'env --shell fish | source', about: 'for this shell, fish' },
        ],
        exits: ['UNAVAILABLE'],
      }),
    )
    .action(({ shell }: { shell: Shell }) => env(context, shell))
}

async function env(context: Context, shell: Shell): Promise<void> {
  const { output, signal } = context
  const client = await context.client()
  const variables = await hubEnvironment(client, process.env, signal)
  output.result({ type: 'environment', variables }, () => exportLines(variables, shell))
}

/** Values have no quotes in them unless NO_PROXY had some. */
export function exportLines(variables: Readonly<Record<string, string>>, shell: Shell): string {
  return Object.entries(variables)
    .map(([name, value]) => {
      switch (shell) {
        case 'sh':
          return `export ${name}='${value.replaceAll("'", String.raw`'\''`)}'`
        case 'fish':
          return `set -gx ${name} '${value.replaceAll(/['\\]/g, String.raw`\$&`)}'`
        case 'powershell':
          return `$env:${name} = '${value.replaceAll("'", "''")}'`
      }
    })
    .join('\n')
}
