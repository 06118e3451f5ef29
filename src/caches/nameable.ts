/** Whether a manifest may have a path: what may not is left out of a model, or keeps it from being one. */

import { InvalidInputError } from '../core/errors.ts'
import { parsePath } from '../manifest/paths.ts'

export function isNameable(path: string): boolean {
  try {
    parsePath(path)
    return true
  } catch (error) {
    if (error instanceof InvalidInputError) return false
    throw error
  }
}
