/** Which files of a manifest are wanted: --include and --exclude, as globs over manifest paths. */

import picomatch from 'picomatch'
import { InvalidInputError } from '../core/errors.ts'
import type { ManifestFile } from '../manifest/manifest.ts'

export interface Selection {
  readonly include: readonly string[]
  readonly exclude: readonly string[]
}

/** Throws InvalidInputError when nothing is left. */
export function selectFiles(files: readonly ManifestFile[], globs: Selection): ManifestFile[] {
  return selectPaths(files, globs)
}

/** The same of anything that has paths. */
export function selectPaths<T extends { readonly path: string }>(
  files: readonly T[],
  globs: Selection,
): T[] {
  const { include, exclude } = globs
  const isIncluded = include.length === 0 ? () => true : matcherOf(include)
  const isExcluded = matcherOf(exclude)
  const wanted = files.filter(({ path }) => isIncluded(path) && !isExcluded(path))
  if (wanted.length === 0) {
    const some = files.slice(0, 5).map(({ path }) => path)
    throw new InvalidInputError('no file of the model matches --include and --exclude', {
      hint: `the model has ${files.length} files: ${some.join(', ')}${files.length > 5 ? ' …' : ''}`,
    })
  }
  return wanted
}

/** Whether a model is meant, by its name; case does not matter there. */
export function namesModel({ include, exclude }: Selection): (name: string) => boolean {
  const isIncluded = include.length === 0 ? () => true : matcherOf(include, { nocase: true })
  const isExcluded = matcherOf(exclude, { nocase: true })
  return name => isIncluded(name) && !isExcluded(name)
}

/** A glob without a slash matches the last part of a path anywhere, as people expect of `*.safetensors`. */
function matcherOf(globs: readonly string[], { nocase = false } = {}): (path: string) => boolean {
  const matchers = globs.map(glob =>
    picomatch(glob, { dot: true, nocase, basename: !glob.includes('/') }),
  )
  return path => matchers.some(isMatch => isMatch(path))
}
