/** What the daemon says on its terminal: ready, on stdout, and why it could not start. */

import { inspect } from 'node:util'
import { CommonweightError, messageOf, systemCode } from '../src/core/errors.ts'
import type { Config } from './config.ts'
import type { Daemon } from './compose.ts'
import { errorBody } from './error-body.ts'

/** The reader of our output may leave, as the command does that started us: that ends nothing. */
export function survivePipes(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: Error) => {
      if (systemCode(error) !== 'EPIPE') throw error
    })
  }
}

export function sayReady(
  { output, paths, settings }: Config,
  { peerId, addresses }: Pick<Daemon, 'peerId' | 'addresses'>,
): void {
  if (output.json) {
    process.stdout.write(`${JSON.stringify({ type: 'ready', peerId, addresses })}\n`)
    return
  }
  if (output.quiet) return
  const list = addresses.map(address => `  ${address}\n`).join('')
  process.stdout.write(`ready as ${peerId} in ${paths.home}, reachable at\n${list}`)
  if (settings.bootstrap.length > 0) return
  const address = addresses.find(each => !loopback.test(each)) ?? addresses[0] ?? 'ADDRESS'
  process.stderr.write(
    'commonweight: no bootstrap is configured, so this node is alone until another one connects\n' +
      `hint: on another node: commonweight connect ${address}\n`,
  )
}

const loopback = /^\/(ip4\/127\.|ip6\/::1\/)/

export function sayError(error: unknown, json: boolean): void {
  const body = errorBody(error)
  if (json) process.stdout.write(`${JSON.stringify(body)}\n`)
  const expected = error instanceof CommonweightError
  process.stderr.write(`commonweight: ${expected ? causes(error) : inspect(error)}\n`)
  if (body.hint !== undefined) process.stderr.write(`hint: ${body.hint}\n`)
}

/** With the system's reason when that is the cause: `reading FILE: EACCES: permission denied`. */
function causes(error: Error): string {
  const { cause } = error
  const isReason = systemCode(cause) !== undefined && !(cause instanceof CommonweightError)
  return isReason ? `${error.message}: ${messageOf(cause).split('\n', 1)[0]}` : error.message
}
