/** import: files that are here already, shared as the commit of a hub that they are. */

import type { Command } from 'commander'
import type { ImportedEvent, ImportRequest } from '../../src/api/contract.ts'
import { formatBytes } from '../../src/core/units.ts'
import type { Context } from '../context.ts'
import { detachAbout, follow } from '../follow.ts'
import { pageEnd } from '../help.ts'
import { fields } from '../table.ts'
import { plural, printable } from '../text.ts'
import { hubToken } from './mirror.ts'

interface ImportOptions {
  readonly source?: string
  readonly upstream?: string
  readonly tokenFile?: string
  readonly allowGated: boolean
  readonly detach: boolean
}

export function define(command: Command, context: Context): void {
  command
    .description(
      'Shares the files of a folder, where they lie, as the commit of a hub that they are: whoever mirrors ' +
        'or imports that commit has the same model. Nothing is copied or changed.',
    )
    .argument('<PATH>', 'a git clone, or a folder with all files of a commit')
    .option('--source <HF-REPO>', 'hf:ORG/MODEL@COMMIT; a clone knows its own')
    .option('--upstream <URL>', 'the hub, or a mirror of it (default: https://huggingface.co)')
    .option(
      '--token-file <FILE>',
      'file with a token of the hub (or HF_TOKEN, for https://huggingface.co alone)',
    )
    .option('--allow-gated', 'also what the hub gives only to those who accept its terms', false)
    .option('--detach', detachAbout, false)
    .addHelpText('after', () =>
      pageEnd({
        notes: [
          'A git clone proves itself: its commit is the hash of all names and files, and the hub is not ' +
            'asked. Files that Git LFS has and did not put into the working tree are shared from where it ' +
            'keeps them.',
          'A folder is compared with what the hub lists for the commit; files that are not of the commit ' +
            'are left out. If one is missing or differs, nothing is shared: commonweight seed shares a ' +
            'folder as it is.',
        ],
        examples: [
          { command: 'import ~/src/all-MiniLM-L6-v2', about: 'a clone, at what is checked out' },
          {
            command: 'import /data/model --source hf:org/model@2f3c...',
            about: 'files that came some other way',
          },
        ],
        exits: ['NOT_FOUND', 'UNAVAILABLE', 'INTEGRITY', 'STORAGE', 'CONFLICT', 'LIMIT'],
      }),
    )
    .action((path: string, options: ImportOptions) => importFolder(context, path, options))
}

async function importFolder(context: Context, path: string, options: ImportOptions): Promise<void> {
  const { source, upstream, allowGated, detach } = options
  const token = await hubToken(context, options)
  const request: ImportRequest = {
    kind: 'import',
    path: context.resolve(path),
    allowGated,
    ...(source === undefined ? {} : { source }),
    ...(upstream === undefined ? {} : { upstream }),
    ...(token === undefined ? {} : { token }),
  }
  const imported = await follow(context, (client, signal) => client.run(request, signal), {
    detach,
  })
  if (imported !== undefined) showImported(context, imported as ImportedEvent)
}

export function showImported({ output }: Context, imported: ImportedEvent): void {
  output.result(imported, () => {
    const { files, bytes, leftOut } = imported
    return fields(
      [
        ['imported', `${plural(files, 'file')}, ${formatBytes(bytes)}, every byte verified`],
        ['of', printable(imported.ref)],
        [
          'proof',
          imported.proof === 'commit'
            ? 'the commit is the hash of all of them'
            : 'the hub lists the same hashes',
        ],
        ...(leftOut > 0
          ? [['left out', `${plural(leftOut, 'file')} not of the commit`] as const]
          : []),
        ['name', printable(imported.name ?? 'none')],
        ['manifest', imported.manifest],
        ['link', imported.link],
      ],
      output.style,
    )
  })
}
