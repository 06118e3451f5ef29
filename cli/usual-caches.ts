/** Where other programs keep their models, by what their environment says and by habit. */

import { readFile, stat } from 'node:fs/promises'
import { isAbsolute, join } from 'node:path'

export interface UsualCaches {
  readonly hf: readonly string[]
  readonly ollama: readonly string[]
  readonly lmStudio: readonly string[]
}

export interface Place {
  readonly env: Readonly<Record<string, string | undefined>>
  /** The user's own folder. */
  readonly home: string
}

/** Every place that is usual, whether something is there or not; none twice. */
export async function usualCaches({ env, home }: Place): Promise<UsualCaches> {
  const given = (name: string): string | undefined => {
    const value = env[name]
    if (value === undefined || value === '') return undefined
    return value.startsWith('~/') ? join(home, value.slice(2)) : value
  }
  const cache = given('XDG_CACHE_HOME') ?? join(home, '.cache')
  const hubHome = given('HF_HOME') ?? join(cache, 'huggingface')
  const hub = given('HF_HUB_CACHE') ?? given('HUGGINGFACE_HUB_CACHE') ?? join(hubHome, 'hub')
  const llama = given('LLAMA_CACHE')
  const ollama = given('OLLAMA_MODELS')
  return {
    // llama.cpp writes the same layout, and has its own variable.
    hf: unique([hub, llama]),
    ollama: unique(
      ollama === undefined
        ? [join(home, '.ollama', 'models'), '/usr/share/ollama/.ollama/models']
        : [ollama],
    ),
    lmStudio: unique([
      ...(await lmStudioHomes(home)).map(folder => join(folder, 'models')),
      // Downloads of llama.cpp before it used the layout of the hub.
      join(cache, 'llama.cpp'),
    ]),
  }
}

/** The folder that a user chose is named in a file of its own. */
async function lmStudioHomes(home: string): Promise<string[]> {
  const pointer = await readFile(join(home, '.lmstudio-home-pointer'), 'utf8').catch(() => '')
  const chosen = pointer.trim()
  return [
    ...(isAbsolute(chosen) ? [chosen] : []),
    join(home, '.lmstudio'),
    join(home, '.cache', 'lm-studio'),
  ]
}

function unique(folders: readonly (string | undefined)[]): string[] {
  return [...new Set(folders.filter(folder => folder !== undefined))]
}

/** Those of the folders that are there. */
export async function existing(folders: readonly string[]): Promise<string[]> {
  const found = await Promise.all(
    folders.map(folder =>
      stat(folder).then(
        stats => stats.isDirectory(),
        () => false,
      ),
    ),
  )
  return folders.filter((_, index) => found[index])
}
