/**
 * Completion scripts, generated from the program itself. What an argument may be is told by the name
 * it has in the help: REF is a model held here, PATH a file, DIR a folder.
 */

import type { Argument, Command, Option } from 'commander'

export const shells = ['bash', 'zsh', 'fish'] as const
export type Shell = (typeof shells)[number]

/** The commands a script completes for. */
const commands = ['commonweight', 'cw'] as const

type Kind = 'ref' | 'file' | 'folder' | 'shell' | 'verb'

interface Flag {
  /** With the dashes. */
  readonly long: string
  readonly about: string
  /** Undefined for a flag without a value. */
  readonly value:
    | {
        readonly name: string
        readonly kinds: readonly Kind[]
        /** It may be left out. */
        readonly optional: boolean
        /** When only these are taken. */
        readonly choices: readonly string[]
      }
    | undefined
}

interface VerbWords {
  readonly name: string
  readonly about: string
  readonly flags: readonly Flag[]
  readonly argument:
    | { readonly name: string; readonly kinds: readonly Kind[]; many: boolean }
    | undefined
}

interface Words {
  readonly globals: readonly Flag[]
  readonly verbs: readonly VerbWords[]
}

/** The script for a shell; every verb of `program` must have been defined. */
export function completionScript(program: Command, shell: Shell): string {
  const words = wordsOf(program)
  switch (shell) {
    case 'bash':
      return bashScript(words)
    case 'zsh':
      return zshScript(words)
    case 'fish':
      return fishScript(words)
  }
}

function wordsOf(program: Command): Words {
  const shown = program.createHelp().visibleCommands(program)
  return {
    globals: flagsOf(program),
    verbs: shown.map(command => ({
      name: command.name(),
      about: command.summary(),
      flags: flagsOf(command),
      argument: argumentOf(command.registeredArguments[0]),
    })),
  }
}

function flagsOf(command: Command): Flag[] {
  return command.createHelp().visibleOptions(command).map(flagOf)
}

function flagOf(option: Option): Flag {
  const name = /[<[](.+)[>\]]/.exec(option.flags)?.[1]
  return {
    long: option.long ?? '',
    about: option.description,
    value:
      name === undefined
        ? undefined
        : {
            name,
            kinds: kindsOf(name),
            optional: option.optional,
            choices: option.argChoices ?? [],
          },
  }
}

function argumentOf(argument: Argument | undefined): VerbWords['argument'] {
  if (argument === undefined) return undefined
  const name = argument.name()
  return { name, kinds: kindsOf(name), many: argument.variadic }
}

const kindsByName: Readonly<Record<string, Kind>> = {
  REF: 'ref',
  PATH: 'file',
  DIR: 'folder',
  SHELL: 'shell',
  VERB: 'verb',
}

/** `REF|PATH` is both; what has no kind, like MULTIADDR, nobody can complete. */
function kindsOf(name: string): Kind[] {
  return name.split('|').flatMap(each => kindsByName[each] ?? [])
}

function longs(flags: readonly Flag[]): string {
  return flags.map(({ long }) => long).join(' ')
}

// bash. Written for 3.2, which macOS still has: no mapfile, no associative arrays.

function bashScript({ globals, verbs }: Words): string {
  const names = verbs.map(({ name }) => name).join(' ')
  const globalValues = globals.flatMap(flag => bashFlagCase('*', flag))
  const verbValues = verbs.flatMap(({ name, flags }) =>
    flags.flatMap(flag => bashFlagCase(name, flag)),
  )
  const flagCases = verbs.map(
    ({ name, flags }) => `      ${name}) _commonweight_words "${longs([...flags, ...globals])}" ;;`,
  )
  const argumentCases = verbs.flatMap(({ name, argument }) =>
    argument === undefined ? [] : [`    ${name}) ${bashKinds(argument.kinds)} ;;`],
  )
  return `# bash completion for commonweight

_commonweight_words() {
  local IFS=$' \\t\\n'
  COMPREPLY+=($(compgen -W "$1" -- "$cur"))
}

_commonweight_ref() {
  local IFS=$'\\n'
  COMPREPLY+=($(compgen -W "$("\${COMP_WORDS[0]}" complete-ref 2>/dev/null)" -- "$cur"))
}

_commonweight_file() {
  local IFS=$'\\n'
  compopt -o filenames 2>/dev/null
  COMPREPLY+=($(compgen -f -- "$cur"))
}

_commonweight_folder() {
  local IFS=$'\\n'
  compopt -o filenames 2>/dev/null
  COMPREPLY+=($(compgen -d -- "$cur"))
}

_commonweight_shell() { _commonweight_words "${shells.join(' ')}"; }

_commonweight_verb() { _commonweight_words "${names}"; }

_commonweight() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD - 1]} verb='' i
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    case \${COMP_WORDS[i]} in
    ${bashValueFlags(globals)}) ((i++)) ;;
    -*) ;;
    *) verb=\${COMP_WORDS[i]} && break ;;
    esac
  done
  case "$verb $prev" in
${[...verbValues, ...globalValues].map(line => `    ${line}`).join('\n')}
  esac
  if [[ $cur == -* ]]; then
    case $verb in
${flagCases.join('\n')}
      *) _commonweight_words "${longs(globals)}" ;;
    esac
    return
  fi
  case $verb in
    '') _commonweight_verb ;;
${argumentCases.join('\n')}
  esac
}

complete -F _commonweight ${commands.join(' ')}
`
}

function bashFlagCase(verb: string, { long, value }: Flag): string[] {
  if (value === undefined) return []
  const pattern = verb === '*' ? `*" ${long}"` : `"${verb} ${long}"`
  const words = value.choices.join(' ')
  const does = words === '' ? bashKinds(value.kinds) : `_commonweight_words "${words}"`
  return [`${pattern}) ${does}; return ;;`]
}

function bashKinds(kinds: readonly Kind[]): string {
  return kinds.length === 0 ? ':' : kinds.map(kind => `_commonweight_${kind}`).join('; ')
}

function bashValueFlags(flags: readonly Flag[]): string {
  return flags
    .filter(({ value }) => value !== undefined)
    .map(({ long }) => long)
    .join('|')
}

// zsh.

function zshScript({ globals, verbs }: Words): string {
  const list = verbs.map(({ name, about }) => `    ${zshQuoted(`${name}:${about}`)}`)
  const cases = verbs.map(({ name, flags, argument }) => {
    const specs = [
      ...flags.map(zshFlag),
      ...(argument === undefined ? [] : [zshArgument(argument)]),
    ]
    return `        ${name}) _arguments $globals ${specs.join(' ')} ;;`
  })
  return `#compdef ${commands.join(' ')}
# zsh completion for commonweight

_commonweight_ref() {
  local -a refs
  refs=(\${(f)"$(_call_program refs $service complete-ref 2>/dev/null)"})
  (( $#refs )) && compadd -a refs
}

_commonweight_verb() {
  local -a verbs
  verbs=(
${list.join('\n')}
  )
  _describe verb verbs
}

_commonweight_ref_or_file() {
  _commonweight_ref
  _files
}

_commonweight() {
  local curcontext="$curcontext" state
  local -a globals
  globals=(
${globals.map(flag => `    ${zshFlag(flag)}`).join('\n')}
  )
  _arguments -C $globals '1: :_commonweight_verb' '*:: :->argument'
  case $state in
    argument)
      case $words[1] in
${cases.join('\n')}
      esac
      ;;
  esac
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
  _commonweight "$@"
else
  compdef _commonweight ${commands.join(' ')}
fi
`
}

function zshFlag({ long, about, value }: Flag): string {
  const text = about.replaceAll(/[[\]:]/g, String.raw`\$&`)
  const colon = value?.optional === true ? '::' : ':'
  const end = value === undefined ? '' : `${colon}${value.name}:${zshValue(value)}`
  // A star: whether a flag may be repeated is for the program to say.
  return zshQuoted(`*${long}[${text}]${end}`)
}

function zshValue({ kinds, choices }: NonNullable<Flag['value']>): string {
  return choices.length > 0 ? `(${choices.join(' ')})` : zshAction(kinds)
}

function zshArgument({ name, kinds, many }: NonNullable<VerbWords['argument']>): string {
  return zshQuoted(`${many ? '*' : '1'}:${name}:${zshAction(kinds)}`)
}

function zshAction(kinds: readonly Kind[]): string {
  if (kinds.length > 1) return '_commonweight_ref_or_file'
  const [kind] = kinds
  if (kind === undefined) return ' '
  switch (kind) {
    case 'ref':
      return '_commonweight_ref'
    case 'file':
      return '_files'
    case 'folder':
      return '_files -/'
    case 'shell':
      return `(${shells.join(' ')})`
    case 'verb':
      return '_commonweight_verb'
  }
}

function zshQuoted(text: string): string {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`
}

// fish.

function fishScript({ globals, verbs }: Words): string {
  const lines = [
    '# fish completion for commonweight',
    '',
    'function __commonweight_ref',
    '    set -l command (commandline -opc)[1]',
    '    $command complete-ref 2>/dev/null',
    'end',
    '',
    'complete -c commonweight -f',
    ...globals.map(flag => `complete -c commonweight ${fishFlag(flag)}`),
  ]
  for (const { name, about, flags, argument } of verbs) {
    const given = `-n '__fish_seen_subcommand_from ${name}'`
    lines.push(
      '',
      `complete -c commonweight -n __fish_use_subcommand -a ${name} -d ${fishQuoted(about)}`,
      ...flags.map(flag => `complete -c commonweight ${given} ${fishFlag(flag)}`),
    )
    if (argument !== undefined && argument.kinds.length > 0) {
      lines.push(`complete -c commonweight ${given} ${fishKinds(argument.kinds, verbs)}`)
    }
  }
  const others = commands.filter(command => command !== 'commonweight')
  lines.push('', ...others.map(command => `complete -c ${command} -w commonweight`))
  return `${lines.join('\n')}\n`
}

function fishFlag({ long, about, value }: Flag): string {
  // What may be left out is told from the next word by nobody but the program.
  const isTaken = value !== undefined && !value.optional
  const takes = isTaken ? ` -r ${fishValue(value)}`.trimEnd() : ''
  return `-l ${long.replace(/^--/, '')}${takes} -d ${fishQuoted(about)}`
}

function fishValue({ kinds, choices }: NonNullable<Flag['value']>): string {
  return choices.length > 0 ? `-a '${choices.join(' ')}'` : fishKinds(kinds, [])
}

function fishKinds(kinds: readonly Kind[], verbs: readonly VerbWords[]): string {
  return kinds.map(kind => fishKind(kind, verbs)).join(' ')
}

function fishKind(kind: Kind, verbs: readonly VerbWords[]): string {
  switch (kind) {
    case 'ref':
      return "-a '(__commonweight_ref)'"
    case 'file':
      return '-F'
    case 'folder':
      return "-a '(__fish_complete_directories)'"
    case 'shell':
      return `-a '${shells.join(' ')}'`
    case 'verb':
      return `-a '${verbs.map(({ name }) => name).join(' ')}'`
  }
}

function fishQuoted(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", String.raw`\'`)}'`
}
