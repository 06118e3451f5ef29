/**
 * What lies in the node's home is nobody's model: its key and databases must never be served, and no pull
 * may write its configuration. The models folder inside it is the exception.
 */

import { realpath } from 'node:fs/promises'
import { basename, dirname, join, sep } from 'node:path'
import { InvalidInputError } from '../core/errors.ts'

export interface HomeFolders {
  readonly home: string
  readonly modelsFolder: string
}

/** Throws InvalidInputError for a path that is, contains or lies in the home, wherever links lead. */
export async function refuseHome(folders: HomeFolders, path: string): Promise<void> {
  const { home, modelsFolder } = folders
  const real = await realpathOf(path)
  const isPulled = isInside(real, await realpathOf(modelsFolder)) || isInside(path, modelsFolder)
  if (isPulled || !(isInside(real, home) || isInside(home, real))) return
  throw new InvalidInputError(`${path} is, contains or lies in the home of this node (${home})`, {
    hint: 'keep models outside of the home; what is pulled without --to goes to its models folder',
  })
}

/** Where a path leads as far as it exists: a target of a pull need not be there yet. */
export async function realpathOf(path: string): Promise<string> {
  try {
    return await realpath(path)
  } catch {
    const above = dirname(path)
    return above === path ? path : join(await realpathOf(above), basename(path))
  }
}

/** By name alone: links are the caller's to resolve. */
export function isInside(path: string, folder: string): boolean {
  return path === folder || path.startsWith(folder.endsWith(sep) ? folder : `${folder}${sep}`)
}
