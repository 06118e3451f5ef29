/**
 * Folders of weights: LM Studio's PUBLISHER/MODEL folders, and any folder with GGUF files in it, as
 * llama.cpp once kept its downloads. A folder that has weights is a model; weights that lie in the
 * folder that was named are a model each.
 */

import { basename, join, relative, sep } from 'node:path'
import { CommonweightError, LimitError } from '../core/errors.ts'
import { isIgnoredFile, isIgnoredFolder } from '../ingest/ignore-rules.ts'
import { Enclosure, entriesOf } from './enclosure.ts'
import type { FoundEntry, ReadOptions } from './found.ts'
import { readFolderModel } from './local-dir.ts'
import { isNameable } from './nameable.ts'

/** PUBLISHER and MODEL, and two folders that somebody made around them. */
const depthMax = 4
/** Folders with weights; a person has a hundred. */
const modelsMax = 10_000

const weights = /\.(?:gguf|safetensors)$/i
const gguf = /\.gguf$/i
const shard = /-(\d{5})-of-(\d{5})\.gguf$/i

/** Nothing when there is no such folder. Throws StorageError when it cannot be read. */
export async function readModelFolders(
  folder: string,
  options: ReadOptions = {},
): Promise<FoundEntry[]> {
  const cache = await Enclosure.open(folder)
  return cache === undefined ? [] : new FolderSearch(cache, options).run()
}

class FolderSearch {
  readonly #cache: Enclosure
  readonly #options: ReadOptions
  readonly #found: FoundEntry[] = []

  constructor(cache: Enclosure, options: ReadOptions) {
    this.#cache = cache
    this.#options = options
  }

  async run(): Promise<FoundEntry[]> {
    const { root } = this.#cache
    const names = await weightsIn(root)
    if (names.some(name => !gguf.test(name))) {
      // A folder of one model, named itself.
      this.#add(await readFolderModel(root, { cache: 'lm-studio', name: undefined }, this.#options))
      return this.#found
    }
    for (const group of groups(names)) this.#add(await this.#readFiles(group))
    await this.#search(root, 1)
    return this.#found
  }

  async #search(folder: string, depth: number): Promise<void> {
    for (const entry of await entriesOf(folder)) {
      this.#options.signal?.throwIfAborted()
      const isHidden = entry.name.startsWith('.') || isIgnoredFolder(basename(folder), entry.name)
      if (!entry.isDirectory() || isHidden) continue
      const place = join(folder, entry.name)
      if ((await weightsIn(place)).length === 0) {
        if (depth < depthMax) await this.#search(place, depth + 1)
        continue
      }
      const name = relative(this.#cache.root, place).split(sep).slice(-2).join('/')
      this.#add(await readFolderModel(place, { cache: 'lm-studio', name }, this.#options))
    }
  }

  /** Files that lie in the named folder itself: one model, split or not. */
  async #readFiles(names: readonly string[]): Promise<FoundEntry> {
    const { root } = this.#cache
    const [first = ''] = names
    const name = first.replace(shard, '').replace(gguf, '')
    const about = { cache: 'lm-studio', title: name, name, folder: join(root, first) } as const
    try {
      const files = []
      for (const each of names) {
        const file = await this.#cache.file(each, join(root, each))
        if (file !== undefined) files.push(file)
      }
      const rest = {
        claims: new Map(),
        commit: undefined,
        whole: undefined,
        isPart: false,
        remark: undefined,
      }
      return { kind: 'model', ...about, family: about.folder, files, ...rest }
    } catch (error) {
      if (!(error instanceof CommonweightError)) throw error
      return { kind: 'refused', ...about, reason: error.message }
    }
  }

  #add(entry: FoundEntry): void {
    if (entry.kind === 'model' && entry.files.length === 0) return
    if (this.#found.length >= modelsMax) throw new LimitError(`more than ${modelsMax} models`)
    this.#found.push(entry)
  }
}

async function weightsIn(folder: string): Promise<string[]> {
  return (await entriesOf(folder))
    .filter(entry => !entry.isDirectory() && !isIgnoredFile(entry.name) && isNameable(entry.name))
    .map(({ name }) => name)
    .filter(name => weights.test(name))
}

/** The shards of one model together. */
function groups(names: readonly string[]): string[][] {
  const keyOf = (name: string): string => {
    const [, , total] = shard.exec(name) ?? []
    return total === undefined ? name : `${name.replace(shard, '')}/${total}`
  }
  return [...Map.groupBy(names, keyOf).values()]
}
