#!/usr/bin/env node
/**
 * The command's entry: find the verb, run it, set the exit code. Everything else is loaded after the
 * check of Node's version, because older versions cannot even parse it.
 */

import * as module from 'node:module'

const nodeVersionMin = [24, 12] as const

function isNodeTooOld(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  return major < nodeVersionMin[0] || (major === nodeVersionMin[0] && minor < nodeVersionMin[1])
}

async function main(): Promise<number> {
  if (isNodeTooOld(process.versions.node)) {
    process.stderr.write(
      `commonweight: Node ${process.versions.node} is too old; ${nodeVersionMin.join('.')} is needed\n` +
        'hint: install a newer Node, or from a clone run ./cw, which brings its own\n',
    )
    return 2
  }
  // Compiled code is kept in the temporary folder: a verb that asks the daemon starts a fifth faster.
  module.enableCompileCache()
  const { runProgram } = await import('./program.ts')
  const { stdout, stderr, env } = process
  return runProgram(process.argv.slice(2), { stdout, stderr, env, cwd: process.cwd() })
}

process.exitCode = await main()
