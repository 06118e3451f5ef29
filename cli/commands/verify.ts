/** verify: hash again what is on disk, and name each bad chunk. */

import { existsSync } from 'node:fs'
import type { Command } from 'commander'
import type { VerifiedEvent } from '../../src/api/contract.ts'
import { errorTable } from '../../src/core/errors.ts'
import { formatBytes } from '../../src/core/units.ts'
import type { Context } from '../context.ts'
import { detachAbout, follow } from '../follow.ts'
import { pageEnd } from '../help.ts'
import { plural, printable } from '../text.ts'

export function define(command: Command, context: Context): void {
  command
    .description(
      'Reads the files again, now, and compares each chunk with its hash. Without an argument: ' +
        'everything held here.',
    )
    .argument('[REF|PATH]', 'a model or file by its REF, or a file or folder by its path')
    .option('--detach', detachAbout, false)
    .addHelpText('after', () =>
      pageEnd({
        notes: [
          'Each bad chunk is printed with its file and byte range (the end is the first byte after it). ' +
            'A bad chunk is no longer served. Pull the model again to repair what was pulled: only the bad ' +
            'chunks are fetched. A seeded file is yours, and nothing overwrites it.',
          'An argument that begins with / or . or that names something on this disk is a path.',
        ],
        examples: [
          { command: 'verify', about: 'everything' },
          { command: 'verify sentence-transformers/all-MiniLM-L6-v2', about: 'one model' },
          { command: 'verify ~/models/minilm/model.safetensors', about: 'one file' },
        ],
        exits: ['NOT_FOUND', 'INTEGRITY', 'STORAGE'],
      }),
    )
    .action((target: string | undefined, options: { detach: boolean }) =>
      verify(context, target, options.detach),
    )
}

async function verify(context: Context, given: string | undefined, detach: boolean): Promise<void> {
  const target = given !== undefined && isPath(context, given) ? context.resolve(given) : given
  const request = { kind: 'verify' as const, ...(target === undefined ? {} : { target }) }
  const verified = await follow(context, (client, signal) => client.run(request, signal), {
    detach,
  })
  if (verified !== undefined) showVerified(context, verified as VerifiedEvent)
}

function isPath(context: Context, text: string): boolean {
  return /^[./\\]/.test(text) || existsSync(context.resolve(text))
}

export function showVerified(context: Context, verified: VerifiedEvent): void {
  const { output } = context
  const { files, bytes, bad } = verified
  output.result(verified, () => {
    const lines = bad.map(({ path, offset, length, reason }) => {
      const where = length === 0 ? '' : `, bytes ${offset} to ${offset + length}`
      return `${output.style('red', 'bad')}  ${printable(path)}${where}: ${printable(reason)}`
    })
    return [...lines, `verified ${plural(files, 'file')}, ${formatBytes(bytes)}`].join('\n')
  })
  if (bad.length === 0) return
  context.exitCode = errorTable.INTEGRITY.exit
  const damaged = new Set(bad.map(({ place }) => place)).size
  output.warn(`${plural(bad.length, 'bad chunk')} in ${plural(damaged, 'file')}`)
  output.hint(
    'commonweight pull REF repairs what was pulled; a seeded file is yours: put the right bytes there ' +
      'or seed it again',
  )
}
