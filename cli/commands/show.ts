/** show: one model and its files. */

import type { Command } from 'commander'
import type { FileView, SourceView } from '../../src/api/contract.ts'
import { formatBytes } from '../../src/core/units.ts'
import type { Context } from '../context.ts'
import { pageEnd, refAbout } from '../help.ts'
import { type Column, fields, table } from '../table.ts'
import { plural, printable } from '../text.ts'
import { nameOf, stateOf } from './ls.ts'

export function define(command: Command, context: Context): void {
  command
    .description('Shows a model held here and its files: size, state, root and SHA-256 of each.')
    .argument('<REF>', refAbout)
    .addHelpText('after', () =>
      pageEnd({
        notes: [
          'With --json: one object of type model, one of type source when it came from a hub, then one of type file ' +
            'for each file.',
        ],
        examples: [
          { command: 'show sentence-transformers/all-MiniLM-L6-v2', about: 'by its name here' },
          {
            command: 'show bafyreig... --json | jq -r \'select(.type == "file").sha256\'',
            about: 'the SHA-256 of every file',
          },
        ],
        exits: ['NOT_FOUND'],
      }),
    )
    .action((ref: string) => show(context, ref))
}

async function show(context: Context, ref: string): Promise<void> {
  const { output, signal } = context
  const client = await context.client()
  const { model, files, source } = await client.model(ref, signal)
  const total = `${plural(model.files, 'file')}, ${formatBytes(model.bytes)}`
  output.result(model, () =>
    fields(
      [
        ['name', printable(nameOf(model))],
        ['state', `${stateOf(model)}${model.pinned ? ', pinned' : ''}`],
        ['total', total],
        ['folder', printable(model.path)],
        ['manifest', model.manifest],
        ...(source === null ? [] : sourceFields(source)),
      ],
      output.style,
    ),
  )
  if (source !== null) output.object(source)
  for (const file of files) output.object(file)
  if (!output.json) output.text(`\n${table(files, columns(context), output)}`)
}

function sourceFields(source: SourceView): (readonly [string, string])[] {
  const { hub, repo, kind, commit, whole, licence, gated } = source
  const folder = kind === 'model' ? '' : `${kind}s/`
  const extent = whole ? '' : ', a part of it'
  const closed = gated === null ? '' : `, gated (${gated})`
  return [
    ['source', printable(`${hub}/${folder}${repo}`)],
    ['commit', `${commit}${extent}`],
    ...(source.upstream === null
      ? []
      : [['licence', printable(`${licence ?? 'not stated'}${closed}`)] as const]),
  ]
}

function columns({ output: { style } }: Context): Column<FileView>[] {
  return [
    { title: 'PATH', value: ({ path }) => path, shrink: { to: 16, cut: 'middle' } },
    { title: 'SIZE', value: ({ size }) => formatBytes(size), align: 'right' },
    {
      title: 'STATE',
      value: stateOfFile,
      style: (text, { state }) => style(stateColors[state], text),
    },
    { title: 'CHUNKS', value: ({ chunks }) => String(chunks), align: 'right' },
    { title: 'SHA-256', value: ({ sha256 }) => sha256, shrink: { to: 12, cut: 'end' } },
    { title: 'ROOT', value: ({ root }) => root, shrink: { to: 12, cut: 'middle' } },
  ]
}

const stateColors = { held: 'green', partial: 'yellow', missing: 'dim', changed: 'red' } as const

function stateOfFile({ state, chunks, chunksHeld }: FileView): string {
  return state === 'partial' ? `${chunksHeld}/${chunks}` : state
}
