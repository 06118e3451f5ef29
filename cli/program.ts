/** The verbs, in one list; parsing; and what becomes of an error. A verb is loaded when it is called. */

import { Command, CommanderError } from 'commander'
import { exitCodeOf, InvalidInputError } from '../src/core/errors.ts'
import { Context, type GlobalFlags } from './context.ts'
import { helpConfiguration } from './help.ts'
import { Output } from './output.ts'
import { wantsColor } from './style.ts'
import { readVersion } from './version.ts'

/** What each file of commands/ exports: the arguments, flags, help and action of its verb. */
interface VerbModule {
  define(command: Command, context: Context): void
}

type Verb = readonly [name: string, summary: string, load: () => Promise<VerbModule>]

const verbs: Readonly<Record<string, readonly Verb[]>> = {
  'Share and fetch:': [
    ['seed', 'share files where they lie', () => import('./commands/seed.ts')],
    ['adopt', 'share what other programs downloaded', () => import('./commands/adopt.ts')],
    ['pull', 'fetch a model; every byte is verified', () => import('./commands/pull.ts')],
    ['mirror', 'copy a repository of a hub', () => import('./commands/mirror.ts')],
    ['import', 'share a clone as the commit it is', () => import('./commands/import.ts')],
    ['link', 'print the link that others pull by', () => import('./commands/link.ts')],
    ['id', 'print the CIDs of files; needs no daemon', () => import('./commands/id.ts')],
  ],
  'What is held here:': [
    ['ls', 'list the models', () => import('./commands/ls.ts')],
    ['show', 'list the files of a model', () => import('./commands/show.ts')],
    ['verify', 'hash again what is on disk', () => import('./commands/verify.ts')],
    ['pin', 'promise to keep a model', () => import('./commands/pin.ts')],
    ['unpin', 'let gc delete a model', () => import('./commands/unpin.ts')],
    ['rm', 'forget a model', () => import('./commands/rm.ts')],
    ['gc', 'delete what nothing keeps', () => import('./commands/gc.ts')],
  ],
  'Other programs:': [
    ['name', 'name a model, as programs ask for it', () => import('./commands/name.ts')],
    ['run', 'run a program that loads models from here', () => import('./commands/run.ts')],
    ['env', 'print the variables that run sets', () => import('./commands/env.ts')],
  ],
  'The network:': [
    ['peers', 'list the connected peers', () => import('./commands/peers.ts')],
    ['providers', 'find who announces a model', () => import('./commands/providers.ts')],
    ['limit', 'limit the bandwidth', () => import('./commands/limit.ts')],
    ['connect', 'connect to a peer', () => import('./commands/connect.ts')],
  ],
  'The daemon:': [
    ['daemon', 'run the node in the foreground', () => import('./commands/daemon.ts')],
    ['status', 'show what the node is doing', () => import('./commands/status.ts')],
    ['operations', 'list what runs and ran', () => import('./commands/operations.ts')],
    ['attach', 'follow an operation that runs', () => import('./commands/attach.ts')],
    ['config', 'show each setting and who set it', () => import('./commands/config.ts')],
    ['stop', 'stop the daemon', () => import('./commands/stop.ts')],
  ],
  'This command:': [
    ['completion', 'print a completion script', () => import('./commands/completion.ts')],
    ['help', 'explain a verb', () => import('./commands/help.ts')],
  ],
}

/** For completion scripts alone: not shown in help. */
const hiddenVerbs: readonly Verb[] = [
  ['complete-ref', 'print local REFs', () => import('./commands/complete-ref.ts')],
]

const about = `Keeps open model weights alive: shares, fetches and verifies them, peer to peer.
A verb that needs the daemon starts one in the background when none runs.`

/** The process's half: what tests replace. */
export interface Io {
  readonly stdout: NodeJS.WriteStream
  readonly stderr: NodeJS.WriteStream
  readonly env: NodeJS.ProcessEnv
  readonly cwd: string
}

/** Runs one command line to its end and returns the exit code. */
export async function runProgram(argv: readonly string[], io: Io): Promise<number> {
  const program: Command = buildProgram(() => context.output)
  const defined = new WeakSet<Command>()
  // Once: `help help` comes by here twice.
  const define = async (command: Command): Promise<void> => {
    if (defined.has(command)) return
    defined.add(command)
    await defineVerb(command, context)
  }
  using context = new Context({
    flags: () => flagsOf(program, argv, io.env),
    output: flags => openOutput(flags, program.opts<{ home?: string }>().home, io),
    defineVerb: define,
    cwd: io.cwd,
  })
  program.hook('preSubcommand', (_, command) => define(command))
  ignoreClosedPipe(io.stdout)
  try {
    await program.parseAsync(argv, { from: 'user' })
    return context.exitCode
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return 0
    const failure = error instanceof CommanderError ? misuse(error, argv) : error
    context.output.error(failure)
    return exitCodeOf(failure)
  }
}

/** The program with the names of its verbs; what each accepts comes with `defineVerb`. */
function buildProgram(output: () => Output): Command {
  const program = new Command('commonweight')
    .description(about)
    .option('--home <DIR>', 'folder of the node (or COMMONWEIGHT_HOME; default ~/.commonweight)')
    .option('--json', 'print results as JSON, one object a line')
    .option('--quiet', 'no progress and no remarks')
    .option('--no-color', 'no colours (or NO_COLOR=1)')
    .version(readVersion(), '--version', 'print the version')
    .helpOption('-h, --help', 'show help')
    .helpCommand(false)
    .addHelpText('after', '\n`commonweight help VERB` shows its flags, examples and exit codes.')
    .exitOverride()
    .configureOutput({
      writeOut: text => output().text(text),
      writeErr: text => output().aside(text),
      // Errors are told once, by runProgram.
      outputError: () => undefined,
    })
    .configureHelp(helpConfiguration((format, text) => output().style(format, text)))
  for (const [heading, group] of Object.entries(verbs)) {
    program.commandsGroup(heading)
    for (const [name, summary] of group) program.command(name).summary(summary)
  }
  for (const [name, summary] of hiddenVerbs)
    program.command(name, { hidden: true }).summary(summary)
  return program
}

/** Loads a verb's file, which gives its command arguments, flags, help and action. */
async function defineVerb(command: Command, context: Context): Promise<void> {
  const all = [...Object.values(verbs).flat(), ...hiddenVerbs]
  const found = all.find(([name]) => name === command.name())
  if (found === undefined) throw new Error(`no verb ${command.name()}`)
  const [, , load] = found
  const module = await load()
  module.define(command, context)
}

function flagsOf(program: Command, argv: readonly string[], env: NodeJS.ProcessEnv): GlobalFlags {
  const { home, json, quiet, color } = program.opts<Partial<GlobalFlags>>()
  const homeVariable = env['COMMONWEIGHT_HOME']
  return {
    home: home ?? (homeVariable === '' ? undefined : homeVariable),
    // A line that cannot be parsed is still answered in the form it asked for.
    json: json ?? argv.includes('--json'),
    quiet: quiet ?? argv.includes('--quiet'),
    color: color ?? true,
  }
}

function openOutput(
  flags: GlobalFlags,
  home: string | undefined,
  { stdout, stderr, env }: Io,
): Output {
  const locale = env['LC_ALL'] ?? env['LC_CTYPE'] ?? env['LANG'] ?? ''
  return new Output({
    stdout,
    stderr,
    json: flags.json,
    quiet: flags.quiet,
    colorOut: wantsColor(flags.color, stdout),
    colorErr: wantsColor(flags.color, stderr),
    home,
    unicode: process.platform === 'win32' || /utf-?8/i.test(locale),
    monotonic: () => performance.now(),
  })
}

/** Commander's complaint in our words. */
function misuse(error: CommanderError, argv: readonly string[]): InvalidInputError {
  // The overview was shown instead of a message.
  if (error.code === 'commander.help') return new InvalidInputError('no verb was given')
  const [first = '', second] = error.message.split('\n')
  const message = first
    .replace(/^error: /, '')
    .replace(/^option '(--[a-z-]+)[^']*' argument '(.*)' is invalid\. /, '$1 $2: ')
    .replace(/^command-argument value '(.*)' is invalid for argument '(.*)'\. /, '$2 $1: ')
    .replace(/^option '(--[a-z-]+) <(.*)>' argument missing/, '$1 needs a value: $2')
    .replace('unknown command', 'unknown verb')
    .replace('unknown option', 'unknown flag')
    .replace('missing required argument', 'an argument is missing:')
    .replace(/\.$/, '')
  const similar = /^\(Did you mean (.*)\?\)$/.exec(second ?? '')?.[1]
  const verb = Object.values(verbs)
    .flat()
    .find(([name]) => argv.includes(name))?.[0]
  const general =
    verb === undefined
      ? 'commonweight help lists the verbs'
      : `commonweight help ${verb} shows what it takes`
  return new InvalidInputError(message, {
    hint: similar === undefined ? general : `did you mean ${similar}?`,
  })
}

/** `commonweight ls | head -1`: a reader that has enough is no error. */
function ignoreClosedPipe(stdout: NodeJS.WriteStream): void {
  stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error
  })
}
