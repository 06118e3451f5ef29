/** How help looks: capitals for what is filled in, examples, and the exit codes at the end of each page. */

import type { Command, Help, HelpConfiguration, Option } from 'commander'
import { type ErrorCode, errorTable, exitCodes } from '../src/core/errors.ts'
import type { Style } from './style.ts'

export interface Example {
  readonly command: string
  readonly about: string
}

export interface HelpPage {
  /** Paragraphs after the options; for what one line a flag cannot say. */
  readonly notes?: readonly string[]
  readonly examples: readonly Example[]
  /** The errors a caller can act on; success, bad input and interruption are always listed. */
  readonly exits: readonly (ErrorCode | 'PARTIAL')[]
}

const width = 96

const exitMeanings: Readonly<Record<ErrorCode | 'PARTIAL', string>> = {
  INVALID_INPUT: 'an argument, the config or a file is wrong',
  PARTIAL: 'a part succeeded',
  NOT_FOUND: 'no such model, CID or file, here or on the network',
  UNAVAILABLE: 'known, but nobody reachable serves it now',
  INTEGRITY: 'bytes do not match their hash',
  STORAGE: 'disk full, no permission, or another file system error',
  UNTRUSTED: 'a signature or key is not to be trusted',
  CONFLICT: 'in conflict with what is running or stored',
  LIMIT: 'a bound was exceeded',
  PROTOCOL: 'a peer broke the rules',
}

export const refAbout =
  'a manifest CID, a file root CID, sha256:HEX of a file, a cw:// link, or the name of a model held here'

/** What follows the options of a verb's page. */
export function pageEnd({ notes = [], examples, exits }: HelpPage): string {
  const sections = [
    ...notes.map(wrapParagraph),
    `Examples:\n${examples.map(formatExample).join('\n')}`,
    `Exit codes:\n${exitLines(exits).join('\n')}`,
  ]
  return `\n${sections.join('\n\n')}`
}

function formatExample({ command, about }: Example): string {
  return `  # ${about}\n  $ commonweight ${command}`
}

function exitLines(exits: HelpPage['exits']): string[] {
  const all = new Set<ErrorCode | 'PARTIAL'>(['INVALID_INPUT', ...exits])
  const rows = [...all].map(code => {
    const exit = code === 'PARTIAL' ? exitCodes.partial : errorTable[code].exit
    return [exit, exitMeanings[code]] as const
  })
  const sorted = [
    [exitCodes.ok, 'success'] as const,
    [exitCodes.bug, 'a bug in commonweight'] as const,
    ...rows,
    [exitCodes.interrupted, 'interrupted'] as const,
  ].toSorted((a, b) => a[0] - b[0])
  return sorted.map(([exit, meaning]) => `  ${String(exit).padEnd(3)}  ${meaning}`)
}

function wrapParagraph(text: string): string {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(/\s+/)) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line)
      line = ''
    }
    line = line === '' ? word : `${line} ${word}`
  }
  return [...lines, line].join('\n')
}

/** `--to <DIR>` is shown as `--to DIR`, `<PATH...>` as `PATH...`. */
function plain(term: string): string {
  return term.replaceAll(/[<>]/g, '')
}

export function helpConfiguration(style: Style): HelpConfiguration {
  return {
    helpWidth: width,
    showGlobalOptions: true,
    // Without commander's `(default: [])`: a default worth telling is in the description.
    optionDescription: (option: Option) => option.description,
    optionTerm: (option: Option) => plain(option.flags),
    subcommandTerm: (command: Command) => command.name(),
    commandUsage: usageOf,
    formatItemList(heading: string, items: string[], helper: Help) {
      const title = heading === 'Global Options:' ? 'Global options:' : heading
      return items.length === 0 ? [] : [helper.styleTitle(title), ...items, '']
    },
    styleTitle: text => style('bold', text),
  }
}

function usageOf(command: Command): string {
  if (command.parent === null) return `${command.name()} VERB ARGUMENT... [OPTION]...`
  const words = command.registeredArguments.map(argument => {
    const name = argument.variadic ? `${argument.name()}...` : argument.name()
    return argument.required ? name : `[${name}]`
  })
  const options = command.options.length > 0 ? ['[OPTION]...'] : []
  return [command.parent.name(), command.name(), ...words, ...options].join(' ')
}
