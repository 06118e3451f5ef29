/**
 * The configuration that a daemon started now would have, one setting a line: a program of its own, so that
 * `commonweight config` needs no daemon, and only this folder reads the file and the variables.
 */

import { exitCodeOf } from '../src/core/errors.ts'
import { loadConfig } from './config.ts'
import { sayError } from './speak.ts'

const { argv, env } = process
try {
  const { entries } = await loadConfig({ argv: argv.slice(2), env })
  for (const entry of entries) process.stdout.write(`${JSON.stringify(entry)}\n`)
} catch (error) {
  sayError(error, true)
  process.exitCode = exitCodeOf(error)
}
