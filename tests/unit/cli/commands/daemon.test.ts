import { Command } from 'commander'
import { expect, test } from 'vitest'
import { argsOf, define } from '../../../../cli/commands/daemon.ts'
import type { Context } from '../../../../cli/context.ts'

/** What the daemon's own parser would get for these words. */
function passed(...words: string[]): string[] {
  const command = new Command('daemon')
  define(command, {} as Context)
  let args: string[] = []
  command.action((options: Record<string, unknown>) => {
    args = argsOf(command, options)
  })
  command.parse(words, { from: 'user' })
  return args
}

test('passes on what was given and nothing else', () => {
  expect(passed()).toEqual([])
  expect(passed('--log-level', 'debug')).toEqual(['--log-level=debug'])
})

test('passes every one of a repeated flag, in order', () => {
  expect(passed('--listen', '/ip4/1.2.3.4/tcp/1', '--listen', '/ip6/::1/tcp/2')).toEqual([
    '--listen=/ip4/1.2.3.4/tcp/1',
    '--listen=/ip6/::1/tcp/2',
  ])
})

test('passes a negated flag as one', () => {
  expect(passed('--no-mdns', '--relay')).toEqual(['--no-mdns', '--relay'])
})

test('passes a value that begins with dashes as a value', () => {
  expect(passed('--storage-models=--odd')).toEqual(['--storage-models=--odd'])
})

test('passes the limits by their own names', () => {
  expect(passed('--max-down', '10MiB', '--max-up', 'off', '--limit-lan')).toEqual([
    '--max-down=10MiB',
    '--max-up=off',
    '--limit-lan',
  ])
})
