/** Programs of others: those that are installed, and those that are made once under .cache/. */

import { execFile } from 'node:child_process'
import { mkdir, stat } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { messageOf } from '../../src/core/errors.ts'
import { minute } from '../../src/core/units.ts'

const run = promisify(execFile)
const cache = resolve(import.meta.dirname, '../../.cache/interop')
const timeout = 5 * minute

export type Program =
  | {
      readonly found: true
      /** What it printed. Rejects when it fails, with what it said. */
      run(...args: readonly string[]): Promise<string>
    }
  | { readonly found: false; readonly reason: string }

/** One on the PATH. */
export async function installed(name: string): Promise<Program> {
  try {
    await run(name, ['--version'], { timeout })
  } catch {
    return { found: false, reason: `no ${name}: install it from the packages of the system` }
  }
  return { found: true, run: (...args) => output(name, args) }
}

/** One of ours in Go, in a folder beside this file. */
export async function goProgram(name: string): Promise<Program> {
  const source = join(import.meta.dirname, name)
  const binary = join(cache, basename(name))
  try {
    if ((await modifiedMs(binary)) < (await modifiedMs(join(source, 'main.go')))) {
      await mkdir(cache, { recursive: true })
      await run('go', ['build', '-o', binary, '.'], { cwd: source, timeout })
    }
  } catch (error) {
    const [reason = ''] = messageOf(error).split('\n')
    return { found: false, reason: `no Go that builds ${name}: ${reason}` }
  }
  return { found: true, run: (...args) => output(binary, args) }
}

async function output(command: string, args: readonly string[]): Promise<string> {
  const { stdout } = await run(command, args, { timeout, maxBuffer: 2 ** 24 })
  return stdout
}

async function modifiedMs(path: string): Promise<number> {
  return stat(path).then(
    ({ mtimeMs }) => mtimeMs,
    () => 0,
  )
}
