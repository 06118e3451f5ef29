/** Programs of others: those that are installed, and those that are made once under .cache/. */

import { execFile } from 'node:child_process'
import { mkdir, stat, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { promisify } from 'node:util'
import type { TestContext } from 'vitest'
import { messageOf } from '../../src/core/errors.ts'
import { minute } from '../../src/core/units.ts'
import { madeOnce } from './made-once.ts'

const run = promisify(execFile)
const cache = resolve(import.meta.dirname, '../../.cache/interop')
const timeout = 5 * minute

export type Program =
  | {
      readonly found: true
      /** What it printed; rejects when it fails, with what it said. For Node the first word is a module. */
      run(...args: readonly string[]): Promise<string>
    }
  | { readonly found: false; readonly reason: string }

export type FoundProgram = Extract<Program, { found: true }>

/** Skips the test when it is not here, and says why. */
export function needed(program: Program, context: TestContext): FoundProgram {
  if (!program.found) context.skip(program.reason)
  return program
}

/** One on the PATH. */
export async function installed(name: string, versionFlag = '--version'): Promise<Program> {
  try {
    await run(name, [versionFlag], { timeout })
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

/**
 * One of ours in Rust, in a folder beside this file. What it is built of takes a minute or two, so it is
 * kept outside the repository: a fresh clone has it already.
 */
export async function rustProgram(name: string): Promise<Program> {
  const target = join(homedir(), '.cache/commonweight-interop/cargo')
  const cwd = join(import.meta.dirname, name)
  const env = { ...process.env, CARGO_TARGET_DIR: target }
  try {
    await run('cargo', ['build', '--quiet', '--locked'], { cwd, env, timeout })
  } catch (error) {
    const [reason = ''] = messageOf(error).split('\n')
    return { found: false, reason: `no cargo that builds ${name}: ${reason}` }
  }
  return { found: true, run: (...args) => output(join(target, 'debug', name), args) }
}

/** Packages of npm, `name@version`, with a Node that runs modules over them. */
export async function nodeWith(packages: readonly string[]): Promise<Program> {
  const folder = join(cache, packages.join('+').replaceAll(/[^\w.+-]/gu, '_'))
  try {
    await madeOnce(folder, async () => {
      await mkdir(folder, { recursive: true })
      await writeFile(join(folder, 'package.json'), '{"private":true}')
      const npm = ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--save-exact']
      await run('npm', [...npm, ...packages], { cwd: folder, timeout })
    })
  } catch (error) {
    const [reason = ''] = messageOf(error).split('\n')
    return { found: false, reason: `no ${packages.join(', ')}: ${reason}` }
  }
  const node = ['--input-type=module', '--eval']
  return {
    found: true,
    run: (...args) => output(process.execPath, [...node, ...args], folder),
  }
}

async function output(
  command: string,
  args: readonly string[],
  cwd = process.cwd(),
): Promise<string> {
  const { stdout } = await run(command, args, { cwd, timeout, maxBuffer: 2 ** 24 })
  return stdout
}

async function modifiedMs(path: string): Promise<number> {
  return stat(path).then(
    ({ mtimeMs }) => mtimeMs,
    () => 0,
  )
}
