/**
 * The daemon's configuration: flags over COMMONWEIGHT_* over config.toml over defaults, in one frozen
 * Config that remembers where each value came from. The only place that reads env and config files.
 */

import { readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { parse as parseToml, TomlError } from 'smol-toml'
import type { ConfigEntry } from '../src/api/contract.ts'
import { defaultHome, homePaths } from '../src/api/home.ts'
import type { HomePaths } from '../src/api/home.ts'
import { valueFault } from '../src/api/schema-faults.ts'
import { InvalidInputError, messageOf, StorageError, systemCode } from '../src/core/errors.ts'
import { MiB } from '../src/core/units.ts'
import type { LogOptions } from './log.ts'
import { nearest } from './nearest.ts'
import {
  flagName,
  isSettingKey,
  settingKeys,
  settings,
  variableName,
  variablePrefix,
} from './settings.ts'
import type { SettingKey, Settings } from './settings.ts'

/** A configuration is a page of text; more is another file by mistake. */
const configBytesMax = MiB

/** How the daemon talks on its terminal: asked for by flag each time, never configured. */
interface Output {
  readonly json: boolean
  readonly quiet: boolean
  readonly color: boolean
}

export interface Config {
  readonly paths: HomePaths
  readonly settings: Readonly<Settings>
  /** Each value with what set it, as `commonweight config` shows them. */
  readonly entries: readonly ConfigEntry[]
  readonly output: Output
  /** For programs that the daemon runs: nothing of its own, such as tokens. */
  readonly programEnv: Readonly<Record<string, string>>
  /** Worth a line in the log: a variable that looks like ours and is not. */
  readonly warnings: readonly string[]
}

export interface ConfigSources {
  /** What follows the program's name. */
  readonly argv: readonly string[]
  readonly env: Readonly<Record<string, string | undefined>>
}

type Source = ConfigEntry['source']

/** A value as one layer gives it, not yet checked. */
interface Given {
  readonly value: unknown
  readonly source: Source
  /** The flag, variable or file. */
  readonly from: string
}

type Layer = ReadonlyMap<SettingKey, Given>

export async function loadConfig({ argv, env }: ConfigSources): Promise<Config> {
  const flags = parseFlags(argv)
  const home = findHome(flags.home, env)
  const paths = homePaths(String(home.value))
  const layers = [flags.layer, variables(env), await fileLayer(paths)]
  const found = new Map(settingKeys.map(key => [key, settle(key, layers)]))
  const values = Object.fromEntries([...found].map(([key, given]) => [key, given.value]))
  const models = (values as unknown as Settings)['storage.models']
  const shown = [
    { type: 'setting' as const, key: 'home', ...home, value: paths.home },
    ...[...found].map(([key, given]) => ({ type: 'setting' as const, key, ...given })),
  ]
  return Object.freeze({
    paths: models === null ? paths : { ...paths, models },
    settings: Object.freeze(values as unknown as Settings),
    entries: Object.freeze(shown),
    output: { ...flags.output, color: flags.output.color && (env['NO_COLOR'] ?? '') === '' },
    programEnv: programEnvOf(env),
    warnings: unknownVariables(env),
  })
}

/** What a program needs to be found, and to know its user. */
const programVariables = ['PATH', 'HOME', 'USERPROFILE', 'SYSTEMROOT', 'XDG_CONFIG_HOME'] as const

function programEnvOf(env: ConfigSources['env']): Record<string, string> {
  const kept = programVariables.flatMap(name => {
    const value = env[name]
    return value === undefined ? [] : [[name, value] as const]
  })
  return Object.fromEntries(kept)
}

/** How to log to a terminal or, with less to look at, to anything else. */
export function logOptions({ settings: values, output }: Config, isTerminal: boolean): LogOptions {
  const color = output.color && isTerminal
  return { level: values['log.level'], json: values['log.json'], color }
}

function findHome(flag: string | undefined, env: ConfigSources['env']): Given {
  if (flag !== undefined) return { value: flag, source: 'flag', from: '--home' }
  const variable = `${variablePrefix}HOME`
  const value = env[variable]
  if (value !== undefined && value !== '') return { value, source: 'environment', from: variable }
  return { value: defaultHome(), source: 'default', from: 'default' }
}

/** The first layer that has the key wins; its value must be right even if another would have been. */
function settle(key: SettingKey, layers: readonly Layer[]): Given {
  const given = layers.map(layer => layer.get(key)).find(value => value !== undefined)
  if (given === undefined)
    return { value: settings[key].initial, source: 'default', from: 'default' }
  const parsed = settings[key].schema.safeParse(given.value)
  if (parsed.success) return { ...given, value: parsed.data }
  throw new InvalidInputError(valueFault(parsed.error, `${key} from ${given.from}`), {
    hint: `correct it in ${given.from}`,
  })
}

// Flags.

const outputFlags = ['json', 'quiet', 'no-color'] as const

function parseFlags(argv: readonly string[]): {
  layer: Layer
  home: string | undefined
  output: Output
} {
  const { tokens } = parseArgs({
    args: [...argv],
    options: flagOptions(),
    strict: false,
    tokens: true,
  })
  const layer = new Map<SettingKey, Given>()
  const seen = new Set<string>()
  let home: string | undefined
  for (const token of tokens) {
    if (token.kind === 'option-terminator') continue
    if (token.kind === 'positional') throw unexpected(token.value)
    const { name, value } = token
    if (name === 'home') home = required('home', value)
    else if ((outputFlags as readonly string[]).includes(name)) seen.add(name)
    else addFlag(layer, name, value)
  }
  const output = {
    json: seen.has('json'),
    quiet: seen.has('quiet'),
    color: !seen.has('no-color'),
  }
  return { layer, home, output }
}

function flagOptions(): Record<string, { type: 'string' | 'boolean' }> {
  const options: Record<string, { type: 'string' | 'boolean' }> = { home: { type: 'string' } }
  for (const name of outputFlags) options[name] = { type: 'boolean' }
  for (const key of settingKeys) {
    const type = settings[key].kind === 'boolean' ? 'boolean' : 'string'
    options[flagName(key)] = { type }
    if (type === 'boolean') options[`no-${flagName(key)}`] = { type }
  }
  return options
}

function addFlag(layer: Map<SettingKey, Given>, name: string, value: string | undefined): void {
  const key = settingKeys.find(each => flagName(each) === name.replace(/^no-/, ''))
  if (key === undefined) throw unknownFlag(name)
  const { kind } = settings[key]
  const from = `--${name}`
  const negated = name !== flagName(key)
  if (kind === 'boolean') {
    if (negated && value !== undefined) throw new InvalidInputError(`${from} takes no value`)
    const given = negated ? false : value === undefined ? true : fromText(key, value)
    layer.set(key, { value: given, source: 'flag', from })
    return
  }
  if (negated) throw unknownFlag(name)
  const text = required(name, value)
  // Repeated list flags add up; of any other the last one counts.
  const before = kind === 'list' ? ((layer.get(key)?.value ?? []) as string[]) : []
  const given = kind === 'list' ? [...before, text] : fromText(key, text)
  layer.set(key, { value: given, source: 'flag', from })
}

function required(name: string, value: string | undefined): string {
  if (value === undefined || value === '') throw new InvalidInputError(`--${name} needs a value`)
  return value
}

function unexpected(word: string): InvalidInputError {
  return new InvalidInputError(`the daemon takes no argument: ${word}`, {
    hint: 'see commonweight daemon --help',
  })
}

function unknownFlag(name: string): InvalidInputError {
  const known = ['home', ...outputFlags, ...settingKeys.map(flagName)]
  return new InvalidInputError(`unknown flag --${name}`, {
    hint: `did you mean --${nearest(name, known)}?`,
  })
}

// Variables.

function variables(env: ConfigSources['env']): Layer {
  const layer = new Map<SettingKey, Given>()
  for (const key of settingKeys) {
    const from = variableName(key)
    const text = env[from]
    // Set to nothing is how compose files and unit files spell "not set".
    if (text === undefined || text === '') continue
    layer.set(key, { value: fromText(key, text), source: 'environment', from })
  }
  return layer
}

/** Not an error: Kubernetes puts COMMONWEIGHT_PORT and others there for a service of our name. */
function unknownVariables(env: ConfigSources['env']): string[] {
  const known = [`${variablePrefix}HOME`, ...settingKeys.map(variableName)]
  return Object.keys(env)
    .filter(name => name.startsWith(variablePrefix) && !known.includes(name))
    .map(
      name => `the variable ${name} sets nothing; the nearest one known is ${nearest(name, known)}`,
    )
}

/** Text becomes the kind of value the setting holds, or stays text that its schema refuses. */
function fromText(key: SettingKey, text: string): unknown {
  const { kind } = settings[key]
  switch (kind) {
    case 'list':
      return text
        .split(',')
        .map(part => part.trim())
        .filter(part => part !== '')
    case 'boolean':
      return { true: true, '1': true, false: false, '0': false }[text] ?? text
    case 'number':
      return text.trim() === '' || Number.isNaN(Number(text)) ? text : Number(text)
    case 'path':
      return resolve(text)
    case 'bytes':
    case 'rate':
    case 'word':
      return text
  }
}

// The file.

async function fileLayer(paths: HomePaths): Promise<Layer> {
  const text = await readConfigFile(paths.config)
  const layer = new Map<SettingKey, Given>()
  if (text === undefined) return layer
  for (const [key, raw] of flatten(parseFile(paths.config, text), '')) {
    if (!isSettingKey(key)) throw unknownKey(paths.config, key)
    const isPath = settings[key].kind === 'path' && typeof raw === 'string'
    const value = isPath ? resolveInHome(paths.home, raw) : raw
    layer.set(key, { value, source: 'file', from: paths.config })
  }
  return layer
}

async function readConfigFile(path: string): Promise<string | undefined> {
  try {
    const bytes = await readFile(path)
    if (bytes.length > configBytesMax) throw new InvalidInputError(`${path} is over 1 MiB`)
    return bytes.toString('utf8')
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined
    if (error instanceof InvalidInputError) throw error
    throw new StorageError(`reading ${path}`, { cause: error })
  }
}

function parseFile(path: string, text: string): Record<string, unknown> {
  try {
    return parseToml(text)
  } catch (error) {
    if (!(error instanceof TomlError)) throw error
    const reason = messageOf(error).split('\n')[0]
    throw new InvalidInputError(`${path} line ${error.line}, column ${error.column}: ${reason}`, {
      cause: error,
      hint: 'the format is TOML: https://toml.io',
    })
  }
}

/** `[storage] reserve_bytes = 1` → `storage.reserve_bytes`: 1. */
function* flatten(table: Record<string, unknown>, prefix: string): Generator<[string, unknown]> {
  for (const [name, value] of Object.entries(table)) {
    const key = `${prefix}${name}`
    const isGroup = settingKeys.some(known => known.startsWith(`${key}.`))
    if (isGroup && isTable(value)) yield* flatten(value, `${key}.`)
    else yield [key, value]
  }
}

function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function unknownKey(path: string, key: string): InvalidInputError {
  return new InvalidInputError(`${path} has an unknown key: ${key}`, {
    hint: `did you mean ${nearest(key, settingKeys)}?`,
  })
}

/** In the file a path counts from the home, and `~/` means what it means in a shell. */
function resolveInHome(home: string, path: string): string {
  return path.startsWith('~/') ? join(homedir(), path.slice(2)) : resolve(home, path)
}
