/** daemon: run the node in the foreground, in this process's place. */

import type { Command } from 'commander'
import type { Context } from '../context.ts'
import { becomeDaemon } from '../daemon-process.ts'
import { pageEnd } from '../help.ts'

export function define(command: Command, context: Context): void {
  networkOptions(command)
  gatewayOptions(command)
  limitOptions(command)
  command
    .description(
      'Runs the node until SIGTERM or Ctrl-C, logging to stderr; prints its addresses when ready. This ' +
        'is what a service manager starts.',
    )
    .addHelpText('after', () =>
      pageEnd({
        notes: [
          'Each flag is also a key of config.toml in the home (storage.models for --storage-models) and ' +
            'an environment variable (COMMONWEIGHT_STORAGE_MODELS); flags win over variables, variables ' +
            'over the file. commonweight config shows which value came from where.',
        ],
        examples: [
          { command: 'daemon', about: 'as configured' },
          {
            command: 'daemon --listen /ip4/127.0.0.1/tcp/0 --no-mdns --log-level debug',
            about: 'for a look, on this machine only',
          },
        ],
        exits: ['STORAGE', 'CONFLICT'],
      }),
    )
    .action(async (options: Readonly<Record<string, unknown>>) => {
      context.exitCode = await becomeDaemon([
        ...globalArgs(command, context),
        ...argsOf(command, options),
      ])
    })
}

function networkOptions(command: Command): void {
  command
    .option('--listen <MULTIADDR>', 'address to listen on; may be repeated', collect)
    .option('--announce <MULTIADDR>', 'address to tell others instead; may be repeated', collect)
    .option('--bootstrap <MULTIADDR>', 'peer to connect to at the start; may be repeated', collect)
    .option('--network <KIND>', 'auto, public or lan: which addresses are told to others')
    .option('--mdns', 'find peers on the local network')
    .option('--no-mdns', 'do not')
    .option('--relay', 'be a relay for peers behind NAT')
    .option('--no-relay', 'do not')
    .option('--lane', 'carry chunks on TLS connections beside libp2p')
    .option('--no-lane', 'carry them on libp2p streams only')
}

function gatewayOptions(command: Command): void {
  command
    .option('--http <ADDRESS>', 'HOST:PORT of the gateway for clients of a hub, or off')
    .option(
      '--allow-host <NAME>',
      'further name the gateway is reached by; may be repeated',
      collect,
    )
    .option(
      '--cors-origin <ORIGIN>',
      'web pages of this origin may read from the gateway; may be repeated',
      collect,
    )
    .option(
      '--gateway-keep <HOW>',
      'cache, pin or none: what the gateway does with what it fetched',
    )
    .option('--gateway-cache-bytes <BYTES>', 'evict beyond so many bytes of it; or off')
}

function limitOptions(command: Command): void {
  command
    .option(
      '--max-down <RATE>',
      'fetch at most so many bytes per second, as in 10MiB or 500KB; or off',
    )
    .option('--max-up <RATE>', 'serve at most so many bytes per second; or off')
    .option('--limit-lan', 'the limits hold for peers on the local network too')
    .option('--no-limit-lan', 'they do not')
    .option('--storage-models <DIR>', 'where pulls without --to go')
    .option('--storage-reserve-bytes <BYTES>', 'bytes that pulls leave free on a disk')
    .option('--storage-reserve-fraction <FRACTION>', 'part of a disk that pulls leave free')
    .option('--webseed-allow-private', 'let web seeds be hosts of this machine and its network')
    .option('--no-webseed-allow-private', 'do not')
    .option('--log-level <LEVEL>', 'debug, info, warn or error')
    .option('--log-json', 'log as JSON, one object a line')
    .option('--no-log-json', 'log for people')
}

function collect(value: string, before: string[] = []): string[] {
  return [...before, value]
}

/** The flags as they were given, for the daemon's own parser; what was not given is not passed. */
export function argsOf(command: Command, options: Readonly<Record<string, unknown>>): string[] {
  const args: string[] = []
  for (const [key, value] of Object.entries(options)) {
    if (command.getOptionValueSource(key) !== 'cli') continue
    const name = key.replaceAll(/[A-Z]/g, letter => `-${letter.toLowerCase()}`)
    if (typeof value === 'boolean') args.push(value ? `--${name}` : `--no-${name}`)
    else for (const one of [value].flat()) args.push(`--${name}=${String(one)}`)
  }
  return args
}

function globalArgs(command: Command, { flags }: Context): string[] {
  return [
    ...homeArgs(command),
    ...(flags.json ? ['--json'] : []),
    ...(flags.quiet ? ['--quiet'] : []),
    ...(flags.color ? [] : ['--no-color']),
  ]
}

/** Only a home named by flag: the daemon reads the variable itself, and config tells which it was. */
export function homeArgs(command: Command): string[] {
  const { home } = command.parent?.opts<{ home?: string }>() ?? {}
  return home === undefined ? [] : [`--home=${home}`]
}
