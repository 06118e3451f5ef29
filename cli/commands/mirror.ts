/** mirror: a repository of a hub becomes a model that is kept and shared. */

import { readFile } from 'node:fs/promises'
import type { Command } from 'commander'
import type { MirroredEvent, MirrorRequest } from '../../src/api/contract.ts'
import { InvalidInputError } from '../../src/core/errors.ts'
import { parseRate } from '../../src/core/rate-limit.ts'
import { formatBytes, formatDuration, formatRate, second } from '../../src/core/units.ts'
import type { Context } from '../context.ts'
import { detachAbout, follow } from '../follow.ts'
import { pageEnd } from '../help.ts'
import { fields } from '../table.ts'
import { plural, printable } from '../text.ts'

/** Whom HF_TOKEN is for. */
const tokenOrigin = 'https://huggingface.co'

interface MirrorOptions {
  readonly to?: string
  readonly include: string[]
  readonly exclude: string[]
  readonly upstream?: string
  readonly tokenFile?: string
  readonly allowGated: boolean
  readonly maxDown?: number | 'off'
  readonly seed: boolean
  readonly detach: boolean
}

export function define(command: Command, context: Context): void {
  command
    .description(
      'Fetches all files of one commit from a hub, checks each against the hash that the hub lists, and ' +
        'shares them from then on. Two who mirror one commit share one model.',
    )
    .argument('<HF-REPO>', 'hf:ORG/MODEL, hf:ORG/MODEL@REVISION or hf:datasets/ORG/NAME')
    .option('--to <DIR>', 'folder for the files (default: a folder of the commit in the home)')
    .option('--include <GLOB>', 'only files that match; may be repeated', collect, [])
    .option('--exclude <GLOB>', 'not the files that match; may be repeated', collect, [])
    .option('--upstream <URL>', 'the hub, or a mirror of it (default: https://huggingface.co)')
    .option(
      '--token-file <FILE>',
      'file with a token of the hub (or HF_TOKEN, for https://huggingface.co alone)',
    )
    .option('--allow-gated', 'also what the hub gives only to those who accept its terms', false)
    .option(
      '--max-down <RATE>',
      'bytes per second for this mirror, as in 10MiB or 500KB, whoever sends; the limits of the node hold too',
      (text: string) => parseRate(text) ?? 'off',
    )
    .option('--no-seed', 'do not share and do not pin what was fetched')
    .option('--detach', detachAbout, false)
    .addHelpText('after', () =>
      pageEnd({
        notes: [
          'What is on this disk already is linked or copied and not fetched. A mirror that was interrupted, ' +
            'even by kill -9, goes on where it was: run it again, or start the daemon. Run it again when ' +
            'the branch has moved, too: it tells what changed, and of weights fetches only the tensors ' +
            'that did.',
          'With --include or --exclude the copy is partial: its manifest does not name the commit.',
          'A token goes to the hub alone, and is neither stored nor logged. Private repositories are ' +
            'refused; gated ones unless --allow-gated says that their terms let you share them.',
        ],
        examples: [
          { command: 'mirror hf:org/model', about: 'what main is now' },
          {
            command: 'mirror hf:org/model@v1.0 --to ~/models/model-1.0',
            about: 'a tag, to a folder',
          },
          {
            command: "mirror hf:org/model --include '*.gguf'",
            about: 'a part of it',
          },
        ],
        exits: ['NOT_FOUND', 'UNAVAILABLE', 'INTEGRITY', 'STORAGE', 'CONFLICT', 'LIMIT'],
      }),
    )
    .action((ref: string, options: MirrorOptions) => mirror(context, ref, options))
}

async function mirror(context: Context, ref: string, options: MirrorOptions): Promise<void> {
  const { to, include, exclude, upstream, allowGated, maxDown, seed, detach } = options
  const token = await hubToken(context, options)
  const request: MirrorRequest = {
    kind: 'mirror',
    ref,
    include,
    exclude,
    allowGated,
    seed,
    ...(to === undefined ? {} : { to: context.resolve(to) }),
    ...(upstream === undefined ? {} : { upstream }),
    ...(token === undefined ? {} : { token }),
    ...(maxDown === undefined || maxDown === 'off' ? {} : { maxDown }),
  }
  const mirrored = await follow(context, (client, signal) => client.run(request, signal), {
    detach,
  })
  if (mirrored !== undefined) showMirrored(context, mirrored as MirroredEvent)
}

/**
 * From a file that was named, else from the variables that the hub's own client reads: those are for the hub
 * itself, and another that is asked does not get them.
 */
export async function hubToken(
  context: Context,
  { tokenFile: file, upstream }: Pick<MirrorOptions, 'tokenFile' | 'upstream'>,
): Promise<string | undefined> {
  const isHub = upstream === undefined || URL.parse(upstream)?.origin === tokenOrigin
  const variable = isHub
    ? (process.env['HF_TOKEN'] ?? process.env['HUGGING_FACE_HUB_TOKEN'] ?? '')
    : ''
  const given = file === undefined ? variable : await readToken(context.resolve(file))
  const token = given.trim()
  if (token === '') return undefined
  // Not shown: it is a secret, however wrong.
  if (/^[\u0021-\u007e]{1,4096}$/u.test(token)) return token
  throw new InvalidInputError(`no token in ${file ?? 'HF_TOKEN'}`, {
    hint: 'it is one word, such as hf_ and 34 letters',
  })
}

async function readToken(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    throw new InvalidInputError(`reading the token file ${path}`, {
      cause: error,
      hint: 'name a file that this user may read',
    })
  }
}

export function showMirrored({ output }: Context, mirrored: MirroredEvent): void {
  output.result(mirrored, () => {
    const { files, bytes, bytesFetched, bytesFromPeers, bytesReused, seconds: took } = mirrored
    const fetched = `${formatBytes(bytesFetched)} in ${formatDuration(took * second)}`
    const rate = took > 0 ? `, ${formatRate(bytesFetched / took)}` : ''
    const saved = bytes > 0 ? ` (${Math.floor((bytesReused / bytes) * 1000) / 10} %)` : ''
    return fields(
      [
        ['mirrored', `${plural(files, 'file')}, ${formatBytes(bytes)}, every byte verified`],
        ['of', `${printable(mirrored.ref)} at ${mirrored.commit}`],
        ...(mirrored.whole
          ? []
          : [['partial', 'files were left out: the manifest does not name the commit'] as const]),
        ...(mirrored.changes === null ? [] : [['changes', changesText(mirrored.changes)] as const]),
        ['fetched', bytesFetched === 0 ? 'nothing' : fetched + rate],
        ...(bytesFromPeers > 0 ? [['from peers', formatBytes(bytesFromPeers)] as const] : []),
        ...(bytesReused > 0
          ? [['not fetched', `${formatBytes(bytesReused)}${saved}`] as const]
          : []),
        ['licence', printable(mirrored.licence ?? 'not stated')],
        ['to', printable(mirrored.path)],
        ['manifest', mirrored.manifest],
        ['link', mirrored.link],
      ],
      output.style,
    )
  })
}

/** Files shown by name: more are counted. */
const namedMax = 10

function changesText(changes: NonNullable<MirroredEvent['changes']>): string[] {
  const { since, added, changed, removed, unchanged, paths } = changes
  const counts = [
    `${added} added`,
    `${changed} changed`,
    `${removed} removed`,
    `${unchanged} as they were`,
  ]
  const named = paths.slice(0, namedMax).map(({ path, what }) => `${what} ${printable(path)}`)
  const more = added + changed + removed - named.length
  return [
    `since ${since.slice(0, 12)}: ${counts.join(', ')}`,
    ...named,
    ...(more > 0 ? [`and ${more} more`] : []),
  ]
}

function collect(value: string, before: string[]): string[] {
  return [...before, value]
}
