/** This program's version, from its package.json: one folder up in a clone, two in dist. */

import { readFileSync } from 'node:fs'
import { findPackageJSON } from 'node:module'

export function readVersion(): string {
  const path = findPackageJSON(import.meta.url)
  if (path === undefined) throw new Error('package.json of commonweight is missing')
  const { version } = JSON.parse(readFileSync(path, 'utf8')) as { version: string }
  return version
}
