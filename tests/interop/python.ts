/** A Python with packages from PyPI, made once under .cache/: the real writers of the formats we read. */

import { execFile } from 'node:child_process'
import { dirname, join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { messageOf } from '../../src/core/errors.ts'
import { minute } from '../../src/core/units.ts'
import { madeOnce } from './made-once.ts'

const run = promisify(execFile)
const cache = resolve(import.meta.dirname, '../../.cache/interop')

export type Python =
  | {
      readonly found: true
      /** Where its commands lie. */
      readonly bin: string
      run(script: string, args: readonly string[]): Promise<string>
    }
  | { readonly found: false; readonly reason: string }

/** The packages, `name==version`, in an environment of their own. */
export async function pythonWith(packages: readonly string[]): Promise<Python> {
  const folder = join(cache, packages.join('+').replaceAll(/[^\w.+-]/g, '_'))
  const python = join(folder, 'bin', 'python')
  const timeout = 5 * minute
  try {
    await madeOnce(folder, async () => {
      await run('python3', ['-m', 'venv', folder], { timeout })
      const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check']
      await run(python, [...pip, ...packages], { timeout })
    })
  } catch (error) {
    const [reason = ''] = messageOf(error).split('\n')
    return { found: false, reason: `no Python with ${packages.join(', ')}: ${reason}` }
  }
  return {
    found: true,
    bin: dirname(python),
    async run(script, args) {
      const { stdout } = await run(python, ['-c', script, ...args], { timeout })
      return stdout
    },
  }
}
