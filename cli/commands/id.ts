/** id: the CIDs of files, without a daemon and without sharing anything. */

import type { Command } from 'commander'
import { toHex } from '../../src/core/bytes.ts'
import { cidText } from '../../src/core/cid.ts'
import { formatBytes } from '../../src/core/units.ts'
import { findFiles } from '../../src/ingest/folder.ts'
import { chunkCount, openHashPool } from '../../src/ingest/hash-file.ts'
import { type ImportedModel, openImport } from '../../src/ingest/import-files.ts'
import type { Context } from '../context.ts'
import { pageEnd } from '../help.ts'
import { startProgress } from '../local-progress.ts'
import { fields } from '../table.ts'
import { plural, printable } from '../text.ts'

export function define(command: Command, context: Context): void {
  command
    .description(
      'Hashes files and prints what seed would announce: the root and SHA-256 of each, and the CID of ' +
        'the manifest. Needs no daemon, shares and stores nothing.',
    )
    .argument('<PATH...>', 'a folder that is the model, or its files')
    .addHelpText('after', () =>
      pageEnd({
        examples: [
          {
            command: 'id ~/models/all-MiniLM-L6-v2',
            about: 'is this copy the one that others hold?',
          },
          {
            command: 'id model.gguf --json | jq -r \'select(.type == "file").sha256\'',
            about: 'the SHA-256, which hubs show too',
          },
        ],
        exits: ['NOT_FOUND', 'STORAGE', 'CONFLICT', 'LIMIT'],
      }),
    )
    .action((paths: string[]) => id(context, paths))
}

async function id(context: Context, given: readonly string[]): Promise<void> {
  const paths = given.map(path => context.resolve(path))
  await using pool = openHashPool()
  pool.warm()
  const progress = startProgress(context, 'hashing')
  const { signal } = context
  await using importing = openImport({ pool }, { signal, onProgress: progress.update })
  await findFiles(paths, { signal: importing.signal, onFiles: files => importing.add(files) })
  const model = await importing.finish()
  progress.end()
  show(context, model)
}

function show({ output }: Context, model: ImportedModel): void {
  output.results(
    model.files.map(({ path, file }) => {
      const { size } = file.stamp
      const chunks = chunkCount(file)
      const facts = { path, size, sha256: toHex(file.sha256), root: cidText(file.root), chunks }
      const text = (): string =>
        [
          `${output.style('bold', printable(path))}  ${formatBytes(size)}, ${plural(chunks, 'chunk')}`,
          `  root    ${facts.root}`,
          `  sha256  ${facts.sha256}`,
        ].join('\n')
      return [{ type: 'file', ...facts }, text]
    }),
  )
  const manifest = model.cid.toString()
  const { bytes } = model
  const files = model.files.length
  output.result({ type: 'manifest', manifest, files, bytes }, () =>
    fields(
      [
        ['manifest', manifest],
        ['total', `${plural(files, 'file')}, ${formatBytes(bytes)}`],
      ],
      output.style,
    ),
  )
}
