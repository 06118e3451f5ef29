/** seed: index files where they lie, pin and announce them. */

import type { Command } from 'commander'
import type { SeededEvent } from '../../src/api/contract.ts'
import { formatBytes } from '../../src/core/units.ts'
import type { Context } from '../context.ts'
import { detachAbout, follow } from '../follow.ts'
import { pageEnd } from '../help.ts'
import { fields } from '../table.ts'
import { plural } from '../text.ts'

interface SeedOptions {
  readonly name?: string
  readonly detach: boolean
}

export function define(command: Command, context: Context): void {
  command
    .description(
      'Indexes files where they lie, pins them, announces them and serves them to anyone. Nothing is ' +
        'copied, moved or changed.',
    )
    .argument('<PATH...>', 'a folder that is the model, or its files')
    .option('--name <ORG/MODEL>', 'what to call it here and in its link')
    .option('--detach', detachAbout, false)
    .addHelpText('after', () =>
      pageEnd({
        notes: [
          'Each byte is read once. A file that changes afterwards is noticed, withdrawn and shown by ls ' +
            'as changed; it is never served wrong. Seed the folder again to share the new bytes.',
          'The last line is the link that others pull by.',
        ],
        examples: [
          {
            command: 'seed ~/models/all-MiniLM-L6-v2 --name sentence-transformers/all-MiniLM-L6-v2',
            about: 'share a model that is already on this disk',
          },
          {
            command: 'seed config.json model.safetensors --json | tail -n 1',
            about: 'for a script: the manifest and the link as JSON',
          },
        ],
        exits: ['NOT_FOUND', 'STORAGE', 'CONFLICT', 'LIMIT'],
      }),
    )
    .action((paths: string[], options: SeedOptions) => seed(context, paths, options))
}

async function seed(context: Context, given: string[], options: SeedOptions): Promise<void> {
  const paths = given.map(path => context.resolve(path))
  const { name, detach } = options
  const request = { kind: 'seed' as const, paths, ...(name === undefined ? {} : { name }) }
  const seeded = await follow(context, (client, signal) => client.run(request, signal), {
    detach,
  })
  if (seeded !== undefined) showSeeded(context, seeded as SeededEvent)
}

export function showSeeded({ output }: Context, seeded: SeededEvent): void {
  const { manifest, name, files, bytes, link } = seeded
  output.result(seeded, () =>
    fields(
      [
        ['seeded', `${name ?? 'unnamed'}: ${plural(files, 'file')}, ${formatBytes(bytes)}`],
        ['manifest', manifest],
        ['link', link],
      ],
      output.style,
    ),
  )
}
