/**
 * A copy of dist/ that nobody rebuilds while the benchmark runs, and the command that starts it: what a
 * user has who installed the package.
 */

import { chmod, cp, mkdir, symlink, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { timeCommand } from './bench.ts'

const root = resolve(import.meta.dirname, '../..')

/** Builds what is stale, copies it below `folder`; returns the command. */
export async function freezeBuild(folder: string): Promise<string> {
  await timeCommand(join(root, 'cw'), ['--version'])
  const target = join(folder, 'build')
  await mkdir(target)
  await cp(join(root, 'dist'), join(target, 'dist'), { recursive: true })
  await cp(join(root, 'package.json'), join(target, 'package.json'))
  await symlink(join(root, 'node_modules'), join(target, 'node_modules'))
  const command = join(target, 'commonweight')
  const main = join(target, 'dist', 'cli', 'main.js')
  await writeFile(command, `#!/bin/sh\nexec '${process.execPath}' '${main}' "$@"\n`)
  await chmod(command, 0o755)
  return command
}
