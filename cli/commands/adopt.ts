/** adopt: share what other programs have in their caches, from where it lies. */

import { homedir } from 'node:os'
import type { Command } from 'commander'
import type { AdoptedEvent, AdoptionEvent, AdoptRequest } from '../../src/api/adoption.ts'
import { exitCodes, InvalidInputError, NotFoundError } from '../../src/core/errors.ts'
import { formatBytes } from '../../src/core/units.ts'
import type { Context } from '../context.ts'
import { detachAbout, follow } from '../follow.ts'
import { pageEnd } from '../help.ts'
import { plural, printable } from '../text.ts'
import { existing, type UsualCaches, usualCaches } from '../usual-caches.ts'

interface AdoptFlags {
  /** True: the usual places. */
  readonly hf?: string | true
  readonly ollama?: string | true
  readonly lmStudio?: string | true
  readonly include: string[]
  readonly exclude: string[]
  readonly dryRun: boolean
  readonly pin: boolean
  readonly watch?: boolean
  readonly detach: boolean
}

export function define(command: Command, context: Context): void {
  command
    .description(
      'Shares the models in the caches of other programs from where they lie, by the names that they ' +
        'have there. Nothing is copied, moved or changed. Without a flag: every cache in its usual place.',
    )
    .option('--hf [DIR]', 'the cache of huggingface_hub, or a folder of hf download --local-dir')
    .option('--ollama [DIR]', 'the models of Ollama')
    .option('--lm-studio [DIR]', 'the models of LM Studio, or any folder of weights')
    .option('--include <GLOB>', 'only models whose names match; may be repeated', collect, [])
    .option('--exclude <GLOB>', 'not the models whose names match; may be repeated', collect, [])
    .option('--dry-run', 'say what would be done; nothing is read but names and sizes', false)
    .option('--pin', 'keep the files even when the other program deletes its own', false)
    .option('--watch', 'from now on the daemon looks by itself for what is new or gone')
    .option('--no-watch', 'the daemon stops doing so; what was adopted stays')
    .option('--detach', detachAbout, false)
    .addHelpText('after', () =>
      pageEnd({
        notes: [
          'Whatever is shared, anybody can have. A cache does not say which of its models are private or ' +
            'gated: look with --dry-run, and leave those out with --exclude.',
          'A complete snapshot of a hub becomes the very model that mirror makes of the commit, and files ' +
            'that are not what their cache says are found and left out. Run it again whenever you like: ' +
            'only what changed is read.',
          'What is deleted from a cache is no longer shared. --pin gives each file a second name in the ' +
            'models folder of this node, a hard link, which takes no space; it needs both on one file system.',
          'The usual places are those of HF_HUB_CACHE, HF_HOME, LLAMA_CACHE, OLLAMA_MODELS and the ' +
            'programs themselves. Exit 3: something could not be adopted, and the line says why.',
        ],
        examples: [
          { command: 'adopt --dry-run', about: 'what is there to share' },
          {
            command: 'adopt --hf --pin',
            about: 'keep what hf downloaded, also after hf cache prune',
          },
          {
            command: "adopt --watch --exclude 'our-lab/*'",
            about: 'share from now on whatever these programs download, but for our own models',
          },
          {
            command: 'adopt --lm-studio ~/gguf',
            about: 'each model in a folder of GGUF files',
          },
        ],
        exits: ['PARTIAL', 'NOT_FOUND', 'STORAGE', 'CONFLICT', 'LIMIT'],
      }),
    )
    .action((flags: AdoptFlags) => {
      if (asked.size > 1) {
        throw new InvalidInputError('--watch and --no-watch are opposites', {
          hint: 'leave out one of the two',
        })
      }
      return adopt(context, flags)
    })
  // They are one option to the parser, of which the last counts.
  const asked = new Set<string>()
  for (const flag of ['watch', 'no-watch']) command.on(`option:${flag}`, () => asked.add(flag))
}

async function adopt(context: Context, flags: AdoptFlags): Promise<void> {
  const { include, exclude, dryRun, pin, watch, detach } = flags
  if (dryRun && watch !== undefined) {
    throw new InvalidInputError('--dry-run changes nothing, so there is nothing to watch', {
      hint: 'leave out one of the two',
    })
  }
  const request: AdoptRequest = {
    kind: 'adopt',
    ...(await foldersOf(context, flags)),
    include,
    exclude,
    dryRun,
    pin,
    ...(watch === undefined ? {} : { watch }),
  }
  let added = 0
  const adoption = await follow(context, (client, signal) => client.run(request, signal), {
    detach,
    onAdopted(event) {
      if (event.state === 'new') added += 1
      showAdopted(context, event)
    },
  })
  if (adoption === undefined || watch === false) return
  showAdoption(context, adoption as AdoptionEvent)
  const { models, skipped } = adoption as AdoptionEvent
  if (models + skipped === 0) {
    context.output.note(`no model: ${whyNone(request)}`)
  }
  if (added === 0 || dryRun || context.output.json) return
  const which = plural(added, 'new model')
  context.output.note(`anybody can have the ${which} from now on; commonweight rm NAME ends that`)
}

/** Why none was found: which folders hold something, of the kinds that were looked for. */
function whyNone({ hf, ollama, lmStudio, include, exclude }: AdoptRequest): string {
  if (include.length + exclude.length > 0)
    return '--include and --exclude leave none of what is there'
  const taken = [
    hf.length > 0 ? '--hf takes the folder that holds models--ORG--NAME' : '',
    ollama.length > 0 ? '--ollama the one that holds blobs and manifests' : '',
    lmStudio.length > 0 ? '--lm-studio one with GGUF files' : '',
  ]
  return taken.filter(text => text !== '').join(', ')
}

function collect(value: string, before: string[]): string[] {
  return [...before, value]
}

type Folders = Pick<AdoptRequest, 'hf' | 'lmStudio' | 'ollama'>
const kinds = ['hf', 'ollama', 'lmStudio'] as const

/** Those named, those in their usual places, or everything that is there. */
async function foldersOf(context: Context, flags: AdoptFlags): Promise<Folders> {
  const usual = await usualCaches({ env: process.env, home: homedir() })
  const isAll = kinds.every(kind => flags[kind] === undefined)
  const folders: Record<keyof Folders, string[]> = { hf: [], ollama: [], lmStudio: [] }
  const lookedAt: string[] = []
  for (const kind of kinds) {
    const given = flags[kind]
    if (typeof given === 'string') folders[kind] = [context.resolve(given)]
    if (given !== true && !isAll) continue
    lookedAt.push(...usual[kind])
    folders[kind] = await existing(usual[kind].map(folder => context.resolve(folder)))
    if (given === true && folders[kind].length === 0) throw nothingAt(usual[kind])
  }
  if (kinds.every(kind => folders[kind].length === 0)) throw nothingAt(lookedAt)
  return folders
}

function nothingAt(folders: UsualCaches[keyof UsualCaches]): NotFoundError {
  return new NotFoundError(`no cache is there: looked at ${folders.join(', ')}`, {
    hint: 'name its folder, as in --hf DIR',
  })
}

export function showAdopted({ output }: Context, adopted: AdoptedEvent): void {
  output.result(adopted, () => {
    const { state, name, path, files, bytes, reason } = adopted
    const color = { new: 'green', known: 'dim', skipped: 'yellow' } as const
    const what = state === 'skipped' ? '' : `${plural(files, 'file')}, ${formatBytes(bytes)}`
    const rest = [what, reason].filter(part => part !== undefined && part !== '').join('; ')
    return `${output.style(color[state], state.padEnd(7))}  ${printable(`${name ?? path}: ${rest}`)}`
  })
}

export function showAdoption(context: Context, adoption: AdoptionEvent): void {
  const { output } = context
  output.result(adoption, () => {
    const { models, files, bytes, skipped } = adoption
    const rest = skipped === 0 ? '' : `; ${skipped} skipped`
    return `${plural(models, 'model')}, ${plural(files, 'file')}, ${formatBytes(bytes)}${rest}`
  })
  if (adoption.skipped > 0) context.exitCode = exitCodes.partial
}
