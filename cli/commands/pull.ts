/** pull: find who has a model, fetch it from all of them, check every byte, keep sharing it. */

import { homedir } from 'node:os'
import { type Command, InvalidArgumentError, Option } from 'commander'
import type { PulledEvent, PullRequest } from '../../src/api/contract.ts'
import { parseRate } from '../../src/core/rate-limit.ts'
import { formatBytes, formatDuration, formatRate, second } from '../../src/core/units.ts'
import type { Context } from '../context.ts'
import { detachAbout, follow } from '../follow.ts'
import { pageEnd, refAbout } from '../help.ts'
import { fields } from '../table.ts'
import { plural } from '../text.ts'
import { usualCaches } from '../usual-caches.ts'

const orders = ['rarest', 'sequential'] as const

interface PullOptions {
  readonly to?: string
  /** True: in its usual place. */
  readonly hfCache?: string | true
  readonly include: string[]
  readonly exclude: string[]
  readonly peer: string[]
  readonly webSeed: string[]
  readonly order?: (typeof orders)[number]
  readonly maxDown?: number | 'off'
  readonly seed: boolean
  readonly findTimeout?: number
  readonly detach: boolean
}

const notes = [
  'What is on this disk already, in another model or an older revision, is linked or copied ' +
    'and not fetched. A pull that was interrupted, even by kill -9 or a power cut, goes on ' +
    'where it was: run it again, or start the daemon.',
  'A model that is here already is completed, and what commonweight verify found damaged is repaired: ' +
    'only the bad chunks are fetched. With --to the damaged file is kept beside the new one as ' +
    'FILE.damaged; a seeded file is yours and is never overwritten.',
  'When every source is gone midway, the pull says what is missing and waits for one to return; ' +
    'after --find-timeout it ends with code 5 and keeps what it has.',
]

export function define(command: Command, context: Context): void {
  command
    .description(
      'Fetches a model from every source that can be found, checks every chunk before it is kept, and ' +
        'goes on sharing it.',
    )
    .argument('<REF>', refAbout)
    .option('--to <DIR>', 'folder for the files (default: models/ in the home)')
    .option('--hf-cache [DIR]', 'put it also where huggingface_hub finds it offline')
    .option('--include <GLOB>', 'only files that match; may be repeated', collect, [])
    .option('--exclude <GLOB>', 'not the files that match; may be repeated', collect, [])
    .option('--peer <MULTIADDR>', 'a peer to ask first; may be repeated', collect, [])
    .option(
      '--web-seed <URL>',
      'a web server with the same files, asked beside the peers; may be repeated',
      collect,
      [],
    )
    .option(
      '--max-down <RATE>',
      'bytes per second for this pull, as in 10MiB or 500KB, whoever sends; the limits of the node hold too',
      (text: string) => parseRate(text) ?? 'off',
    )
    .addOption(
      new Option(
        '--order <ORDER>',
        'rarest: the chunks that fewest hold come first; sequential: among equally rare ones the first ' +
          'files do (default: rarest)',
      ).choices(orders),
    )
    .option('--no-seed', 'do not share and do not pin what was fetched')
    .option(
      '--find-timeout <SECONDS>',
      'how long to wait while nobody serves a byte (default: 30 to find it, 300 later)',
      seconds,
    )
    .option('--detach', detachAbout, false)
    .addHelpText('after', () =>
      pageEnd({
        notes,
        examples: [
          {
            command: "pull 'cw://bafyreig...?peer=/ip4/192.168.1.20/tcp/4011/p2p/12D3Koo...'",
            about: 'from a link, which names a peer to begin with',
          },
          {
            command: 'pull bafyreig... --to ~/models/minilm',
            about: 'by manifest CID alone: the DHT knows who has it',
          },
          {
            command: "pull bafyreig... --include '*.safetensors' --exclude 'onnx/**'",
            about: 'a part of a model',
          },
          {
            command: 'pull org/model --hf-cache',
            about: 'also for transformers and others, which then load it with HF_HUB_OFFLINE=1',
          },
          {
            command: 'pull bafyreig... --web-seed https://mirror.example.org/models/minilm/',
            about: 'a web server helps: the path of each file follows the last /',
          },
        ],
        exits: ['NOT_FOUND', 'UNAVAILABLE', 'INTEGRITY', 'STORAGE', 'CONFLICT', 'LIMIT'],
      }),
    )
    .action((ref: string, options: PullOptions) => pull(context, ref, options))
}

/** The paths are the user's: relative to where they stand, not to the daemon. */
async function pull(context: Context, ref: string, options: PullOptions): Promise<void> {
  const {
    to,
    hfCache,
    include,
    exclude,
    peer: peers,
    webSeed: webSeeds,
    seed,
    order,
    maxDown,
    findTimeout,
    detach,
  } = options
  const request: PullRequest = {
    kind: 'pull',
    ref,
    include,
    exclude,
    peers,
    webSeeds,
    seed,
    ...(to === undefined ? {} : { to: context.resolve(to) }),
    ...(order === undefined ? {} : { order }),
    ...(hfCache === undefined ? {} : { hfCache: await hubCacheOf(context, hfCache) }),
    ...(maxDown === undefined || maxDown === 'off' ? {} : { maxDown }),
    ...(findTimeout === undefined ? {} : { findTimeoutMs: Math.ceil(findTimeout * second) }),
  }
  const pulled = await follow(context, (client, signal) => client.run(request, signal), {
    detach,
  })
  if (pulled !== undefined) showPulled(context, pulled as PulledEvent)
}

/** The one that programs look into when nobody tells them another. */
async function hubCacheOf(context: Context, given: string | true): Promise<string> {
  if (given !== true) return context.resolve(given)
  const { hf } = await usualCaches({ env: process.env, home: homedir() })
  return context.resolve(hf[0] ?? '')
}

export function showPulled({ output }: Context, pulled: PulledEvent): void {
  output.result(pulled, () => {
    const { files, bytes, bytesFetched, bytesReused, seconds: took, sources } = pulled
    const rate = took > 0 && bytesFetched > 0 ? `, ${formatRate(bytesFetched / took)}` : ''
    const from = sources.map(({ peerId, bytes: sent }) => `${formatBytes(sent)} from ${peerId}`)
    return fields(
      [
        ['pulled', `${plural(files, 'file')}, ${formatBytes(bytes)}, every byte verified`],
        ['to', pulled.path],
        ...(pulled.snapshot === undefined ? [] : [['hf cache', pulled.snapshot] as const]),
        ['fetched', `${formatBytes(bytesFetched)} in ${formatDuration(took * second)}${rate}`],
        ...(bytesReused > 0 ? [['reused', formatBytes(bytesReused)] as const] : []),
        ...(from.length > 0 ? [['sources', from] as const] : []),
        ['manifest', pulled.manifest],
      ],
      output.style,
    )
  })
}

function collect(value: string, before: string[]): string[] {
  return [...before, value]
}

const findTimeoutSecondsMax = 24 * 60 * 60

function seconds(text: string): number {
  const value = Number(text)
  if (text !== '' && value > 0 && value <= findTimeoutSecondsMax) return value
  throw new InvalidArgumentError(`it must be a number of seconds up to ${findTimeoutSecondsMax}`)
}
