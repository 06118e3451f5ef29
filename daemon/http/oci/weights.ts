/**
 * Which GGUF files of a model a tag means, and what goes with them. It follows from the paths alone, so
 * that a tag is the same on every node: docs/spec/oci.md section 3.
 */

import type { GitFile } from '../../../src/manifest/git-commit.ts'

/** One way to have the model: a file, or the shards of one. */
export interface Weights {
  readonly tag: string
  /** As its file name says it, such as `Q4_K_M`. */
  readonly quant: string | undefined
  /** In the order of the shards. */
  readonly files: readonly [GitFile, ...GitFile[]]
  /** Ollama takes one file. A shard is not one, even when it is the only one here. */
  readonly isSharded: boolean
}

/** Files that Ollama takes from beside the weights. */
export interface Companions {
  readonly projector: GitFile | undefined
  readonly template: GitFile | undefined
  readonly system: GitFile | undefined
  readonly params: GitFile | undefined
  readonly license: GitFile | undefined
}

/** Models come in a few dozen; each has a tag, and perhaps a header that is read. */
export const weightsMax = 256

const ending = /\.gguf$/iu
const shardEnding = /-\d{5}-of-\d{5}$/u
const projector = /mmproj/iu
/** What is no model of its own: projectors, and the statistics that quants were made with. */
const besides = /mmproj|^imatrix/iu
const quantPattern =
  /(?:^|[-._])((?:UD-)?(?:(?:IQ|TQ|Q)\d(?:_[A-Z\d]+)*|BF16|FP?(?:16|32)|MXFP4(?:_MOE)?|NVFP4))$/iu
const tagPattern = /^\w[\w.-]{0,127}$/u

/** What `latest` means, the first that is there; after these the first by path. */
const preferred = ['Q4_K_M', 'Q4_K_S', 'Q4_0', 'Q5_K_M', 'Q8_0'] as const
/** Projectors are small: as exact as there is. */
const projectorOrder = ['F16', 'FP16', 'BF16', 'F32', 'FP32'] as const

/** In the order of their paths, at most weightsMax. */
export function weightsOf(all: Iterable<GitFile>): readonly Weights[] {
  const groups = new Map<string, Group>()
  for (const file of all) {
    if (!ending.test(file.path) || besides.test(nameOf(file))) continue
    const whole = file.path.replace(ending, '')
    const stem = whole.replace(shardEnding, '')
    const isSharded = stem !== whole
    const known = groups.get(`${stem} ${isSharded}`)
    if (known !== undefined) known.files.push(file)
    else if (groups.size < weightsMax) {
      groups.set(`${stem} ${isSharded}`, { stem, isSharded, files: [file] })
    }
  }
  const found = new Map<string, Weights>()
  for (const { files, isSharded, stem } of groups.values()) {
    const [name = '', folder = ''] = stem.split('/').toReversed()
    const quant = quantOf(name) ?? quantOf(folder)
    const isFree = quant !== undefined && !found.has(quant.toLowerCase())
    const tag = isFree ? quant : name
    const key = tag.toLowerCase()
    if (tagPattern.test(tag) && !found.has(key)) found.set(key, { tag, quant, files, isSharded })
  }
  return [...found.values()]
}

interface Group extends Pick<Weights, 'isSharded'> {
  /** The path without its ending and the number of a shard. */
  readonly stem: string
  readonly files: [GitFile, ...GitFile[]]
}

/** The weights of a tag in any case: a quant, a file's name with or without its ending. */
export function findWeights(all: readonly Weights[], tag: string): Weights | undefined {
  const wanted = tag.toLowerCase()
  const names = [wanted, wanted.replace(ending, '')]
  const is = (text: string | undefined): boolean =>
    text !== undefined && names.includes(text.toLowerCase())
  return (
    all.find(weights => is(weights.tag)) ??
    all.find(({ files: [file] }) => is(stemOf(file))) ??
    all.find(({ quant }) => is(quant) || is(quant?.replace(/^UD-/iu, '')))
  )
}

export function defaultWeights(all: readonly Weights[]): Weights | undefined {
  // Who asks for no weights in particular wants some that can be used: Ollama takes no shards.
  const whole = all.filter(({ isSharded }) => !isSharded)
  const candidates = whole.length === 0 ? all : whole
  for (const quant of preferred) {
    const found = findWeights(candidates, quant)
    if (found !== undefined) return found
  }
  return candidates[0]
}

/** What can go with weights, found once for all of them. */
export interface Beside {
  readonly projectors: readonly GitFile[]
  /** At the top of the model. */
  readonly named: ReadonlyMap<string, GitFile>
}

const licenses = ['LICENSE', 'LICENSE.txt', 'LICENSE.md'] as const
const companionNames: ReadonlySet<string> = new Set(['template', 'system', 'params', ...licenses])

export function besideOf(files: readonly GitFile[]): Beside {
  const named = files.filter(({ path }) => companionNames.has(path))
  return {
    projectors: files.filter(file => ending.test(file.path) && projector.test(nameOf(file))),
    named: new Map(named.map(file => [file.path, file])),
  }
}

export function companionsOf({ named, projectors }: Beside, weights: Weights): Companions {
  return {
    projector: chooseProjector(projectors, folderOf(weights.files[0])),
    template: named.get('template'),
    system: named.get('system'),
    params: named.get('params'),
    license: licenses.map(path => named.get(path)).find(file => file !== undefined),
  }
}

/** One in the folder of the weights before others, then the most exact. */
function chooseProjector(projectors: readonly GitFile[], folder: string): GitFile | undefined {
  const near = projectors.filter(file => folderOf(file) === folder)
  const candidates = near.length === 0 ? projectors : near
  for (const quant of projectorOrder) {
    const found = candidates.find(file => quantOf(stemOf(file))?.toUpperCase() === quant)
    if (found !== undefined) return found
  }
  return candidates[0]
}

function quantOf(stem: string): string | undefined {
  return quantPattern.exec(stem)?.[1]
}

function nameOf({ path }: GitFile): string {
  return path.split('/').at(-1) ?? ''
}

function stemOf(file: GitFile): string {
  return nameOf(file).replace(ending, '').replace(shardEnding, '')
}

function folderOf({ path }: GitFile): string {
  return path.split('/').slice(0, -1).join('/')
}
