/**
 * The daemon's log, on stderr: a line people read, or pino's JSON with --log-json. Fields that could
 * hold a secret are removed whatever the caller passes.
 */

import { styleText } from 'node:util'
import { pino, stdSerializers } from 'pino'
import type { Logger } from '../src/core/log.ts'
import type { LogLevel } from './settings.ts'

/** Where lines go. process.stderr, in a daemon. */
export interface LogSink {
  write(text: string): unknown
}

export interface LogOptions {
  readonly level: LogLevel
  readonly json: boolean
  readonly color: boolean
}

const secretNames = ['privateKey', 'secret', 'token', 'authorization', 'password', 'passphrase']
/** A field's own value, and one level into an object that was passed whole. */
const secretPaths = [...secretNames, ...secretNames.map(name => `*.${name}`)]

export function openLog(sink: LogSink, options: LogOptions): Logger {
  const log = pino(
    {
      level: options.level,
      // pid and host name: systemd and container runtimes add them, and a person has only one.
      base: null,
      messageKey: 'message',
      formatters: { level: label => ({ level: label }) },
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      serializers: { error: stdSerializers.err, cause: stdSerializers.err },
      redact: { paths: secretPaths, remove: true },
    },
    options.json ? sink : { write: line => sink.write(humanLine(line, options.color)) },
  )
  return {
    debug: (message, fields) => log.debug(fields ?? {}, message),
    info: (message, fields) => log.info(fields ?? {}, message),
    warn: (message, fields) => log.warn(fields ?? {}, message),
    error: (message, fields) => log.error(fields ?? {}, message),
  }
}

const colors: Readonly<Record<string, 'gray' | 'blue' | 'yellow' | 'red'>> = {
  debug: 'gray',
  info: 'blue',
  warn: 'yellow',
  error: 'red',
}

/** `2026-11-24T20:27:00.000Z info  pulled manifest=bafy… files=3`, and below it the stack of an error. */
export function humanLine(json: string, color: boolean): string {
  const { time, level, message, ...fields } = JSON.parse(json) as Record<string, unknown>
  const name = String(level)
  const label = color
    ? styleText(colors[name] ?? 'gray', name.padEnd(5), { validateStream: false })
    : name.padEnd(5)
  let line = `${String(time)} ${label} ${printable(String(message))}`
  let stacks = ''
  for (const [key, value] of Object.entries(fields)) {
    const stack = stackOf(value)
    if (stack === undefined) line += ` ${key}=${shown(value)}`
    else stacks += `  ${key}: ${stack.replaceAll('\n', '\n  ')}\n`
  }
  return `${line}\n${stacks}`
}

function stackOf(value: unknown): string | undefined {
  if (typeof value !== 'object' || value === null || !('stack' in value)) return undefined
  return typeof value.stack === 'string' ? value.stack : undefined
}

/** Words as they are, everything else as JSON: a value can neither forge a line nor hide in one. */
function shown(value: unknown): string {
  if (typeof value === 'string' && /^[\w./:@+-]+$/.test(value)) return value
  return printable(JSON.stringify(value))
}

/** Text may come from a peer: no control character reaches the terminal. */
function printable(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, character => JSON.stringify(character).slice(1, -1))
}
