/** The version of this program, from its package.json: one level up in a clone, two in `dist`. */

import { readFileSync } from 'node:fs'
import { findPackageJSON } from 'node:module'
import { z } from 'zod'

export function readVersion(): string {
  const path = findPackageJSON(import.meta.url)
  if (path === undefined) throw new Error('package.json of commonweight is missing')
  return z.object({ version: z.string() }).parse(JSON.parse(readFileSync(path, 'utf8'))).version
}
