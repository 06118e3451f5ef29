/**
 * What is told of databases that were found damaged: for as long as the damaged file lies where it was moved
 * to, so that it is not overlooked by who was not there when it happened, and ends when a person deletes it.
 */

import { readdirSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { systemCode } from '../core/errors.ts'
import type { StorePaths } from './store-paths.ts'

/** One sentence for each database, of the newest damaged file of it. */
export function damageWarnings({ state, index }: Pick<StorePaths, 'state' | 'index'>): string[] {
  const warnings: string[] = []
  const lost = newestAside(state)
  if (lost !== undefined) {
    warnings.push(
      `${state} was damaged: models, names and pins may be missing; seed or pull those that ls ` +
        `does not show, then delete ${lost}`,
    )
  }
  const rebuilt = newestAside(index)
  if (rebuilt !== undefined) {
    warnings.push(
      `${index} was damaged: the files of all models are hashed again, and what is not shown as ` +
        `complete after that is to be pulled or seeded again; then delete ${rebuilt}`,
    )
  }
  return warnings
}

function newestAside(path: string): string | undefined {
  const prefix = `${basename(path)}.damaged-`
  const names = namesIn(dirname(path)).filter(name => /^\d+$/.test(name.slice(prefix.length)))
  const newest = names
    .filter(name => name.startsWith(prefix))
    .toSorted()
    .at(-1)
  return newest === undefined ? undefined : join(dirname(path), newest)
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch (error) {
    if (systemCode(error) === undefined) throw error
    return []
  }
}
