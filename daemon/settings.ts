/**
 * Every setting of the daemon: its key, its default and what it may be. daemon/config.ts finds the
 * values; docs/operations.md shows this table to people.
 */

import { multiaddr } from '@multiformats/multiaddr'
import { z } from 'zod'
import { messageOf } from '../src/core/errors.ts'
import { bytesPerSecondMin, parseRate } from '../src/core/rate-limit.ts'
import { formatRate, GiB, parseBytes } from '../src/core/units.ts'

const logLevels = ['debug', 'info', 'warn', 'error'] as const
export type LogLevel = (typeof logLevels)[number]

/** More addresses than any machine has, and few enough to try them all. */
const addressesMax = 100
/** More names than a machine has. */
const hostNamesMax = 100
/** More pages than anybody writes for a gateway. */
const originsMax = 100

export interface Settings {
  readonly listen: readonly string[]
  readonly announce: readonly string[]
  readonly bootstrap: readonly string[]
  readonly network: 'auto' | 'public' | 'lan'
  readonly mdns: boolean
  readonly relay: boolean
  readonly lane: boolean
  /** HOST:PORT of the gateway for clients of a hub, or `off`. */
  readonly 'http.listen': string
  readonly 'http.allow_hosts': readonly string[]
  /** Origins of web pages that may read from the gateway. */
  readonly 'gateway.cors_origins': readonly string[]
  /** What becomes of the files that the gateway fetches for its readers. */
  readonly 'gateway.keep': 'cache' | 'none' | 'pin'
  /** Of those files together; null: as much as fits. */
  readonly 'gateway.cache_bytes': number | null
  /** Origin of a hub that is asked for what is not known here; `off` for none. */
  readonly 'gateway.upstream': string
  /** Bytes per second; null: no limit. */
  readonly 'bandwidth.max_down': number | null
  readonly 'bandwidth.max_up': number | null
  readonly 'bandwidth.limit_lan': boolean
  readonly 'storage.reserve_bytes': number
  readonly 'storage.reserve_fraction': number
  /** Null: the folder `models` of the home. */
  readonly 'storage.models': string | null
  /** Whether a web seed may be a host of this machine or its network. */
  readonly 'webseed.allow_private': boolean
  readonly 'log.level': LogLevel
  readonly 'log.json': boolean
}

export type SettingKey = keyof Settings

/** How a flag or a variable, which are text, becomes the value that the file would have held. */
type SettingKind = 'list' | 'word' | 'path' | 'boolean' | 'number' | 'bytes' | 'rate'

export interface Setting<K extends SettingKey> {
  readonly kind: SettingKind
  readonly schema: z.ZodType<Settings[K]>
  readonly initial: Settings[K]
  /** The name after `--`, when it is not made of the key. */
  readonly flag?: string
}

export const settings: { readonly [K in SettingKey]: Setting<K> } = {
  // One TCP port to open in a firewall. WebSockets are for browsers, behind a name and a certificate:
  // whoever has those adds /ip4/127.0.0.1/tcp/4012/ws.
  listen: {
    kind: 'list',
    schema: addresses(),
    initial: ['/ip4/0.0.0.0/tcp/4011', '/ip6/::/tcp/4011'],
  },
  announce: { kind: 'list', schema: addresses(), initial: [] },
  // None ships: a network that needs a server of ours would end with it.
  bootstrap: { kind: 'list', schema: addresses({ peer: true }), initial: [] },
  network: { kind: 'word', schema: z.enum(['auto', 'public', 'lan']), initial: 'auto' },
  mdns: { kind: 'boolean', schema: z.boolean(), initial: true },
  relay: { kind: 'boolean', schema: z.boolean(), initial: false },
  lane: { kind: 'boolean', schema: z.boolean(), initial: true },
  'http.listen': {
    kind: 'word',
    schema: httpListen(),
    initial: '127.0.0.1:4080',
    flag: 'http',
  },
  // Names under which others reach a gateway that does not listen on loopback only.
  'http.allow_hosts': { kind: 'list', schema: hostNames(), initial: [], flag: 'allow-host' },
  // No page may unless it is named: whoever visits it would read with it.
  'gateway.cors_origins': { kind: 'list', schema: webOrigins(), initial: [], flag: 'cors-origin' },
  'gateway.keep': { kind: 'word', schema: z.enum(['cache', 'pin', 'none']), initial: 'cache' },
  // The reserve of the disk holds all the same, and the cache gives way to it.
  'gateway.cache_bytes': { kind: 'bytes', schema: byteBudget(), initial: null },
  // Who runs a gateway for a lab may want it; alone, `mirror` says what one wants to keep.
  'gateway.upstream': { kind: 'word', schema: hubOrigin(), initial: 'off', flag: 'upstream' },
  // Not for the LAN, where nobody's line gets full, unless it is asked for.
  'bandwidth.max_down': { kind: 'rate', schema: rate(), initial: null, flag: 'max-down' },
  'bandwidth.max_up': { kind: 'rate', schema: rate(), initial: null, flag: 'max-up' },
  'bandwidth.limit_lan': {
    kind: 'boolean',
    schema: z.boolean(),
    initial: false,
    flag: 'limit-lan',
  },
  // A file system that is full breaks more than downloads: the larger of the two stays free.
  'storage.reserve_bytes': { kind: 'bytes', schema: byteCount(), initial: 10 * GiB },
  'storage.reserve_fraction': {
    kind: 'number',
    schema: z.number().min(0).max(0.9),
    initial: 0.05,
  },
  'storage.models': { kind: 'path', schema: z.string().min(1).max(4096).nullable(), initial: null },
  // A link names web seeds, and anybody makes links.
  'webseed.allow_private': { kind: 'boolean', schema: z.boolean(), initial: false },
  'log.level': { kind: 'word', schema: z.enum(logLevels), initial: 'info' },
  'log.json': { kind: 'boolean', schema: z.boolean(), initial: false },
}

export const settingKeys = Object.keys(settings) as SettingKey[]

export function isSettingKey(key: string): key is SettingKey {
  return Object.hasOwn(settings, key)
}

/** `storage.reserve_bytes` → `storage-reserve-bytes`: the name after `--`. */
export function flagName(key: SettingKey): string {
  return settings[key].flag ?? key.replaceAll(/[._]/g, '-')
}

/** `storage.reserve_bytes` → `COMMONWEIGHT_STORAGE_RESERVE_BYTES`. */
export function variableName(key: SettingKey): string {
  return `${variablePrefix}${key.toUpperCase().replaceAll('.', '_')}`
}

export const variablePrefix = 'COMMONWEIGHT_'

export interface HttpAddress {
  readonly host: string
  readonly port: number
}

/** Undefined for `off`, and for what the schema refuses. */
export function parseHttpListen(text: string): HttpAddress | undefined {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/u.exec(text)
  const port = Number(match?.[3])
  const host = match?.[1] ?? match?.[2]
  return host === undefined || port > 65_535 ? undefined : { host, port }
}

function httpListen(): z.ZodType<string> {
  return z.string().refine(text => text === 'off' || parseHttpListen(text) !== undefined, {
    message: 'expected HOST:PORT such as 127.0.0.1:4080, or off',
  })
}

function hostNames(): z.ZodType<readonly string[]> {
  const name = z.string().regex(/^(?:[\w.-]{1,253}|\[[\da-fA-F:.]{2,45}\])$/u, {
    message: 'expected a host name or address, without a port',
  })
  return z.array(name).max(hostNamesMax)
}

function webOrigins(): z.ZodType<readonly string[]> {
  const origin = z.string().refine(isWebOrigin, {
    message: 'expected an origin as browsers send it, such as https://app.lab.example',
  })
  return z.array(origin).max(originsMax)
}

function hubOrigin(): z.ZodType<string> {
  return z.string().refine(text => text === 'off' || isWebOrigin(text), {
    message: 'expected the origin of a hub, such as https://huggingface.co, or off',
  })
}

/** Neither `*` nor `null`, which any page can have. */
function isWebOrigin(text: string): boolean {
  return /^https?:\/\//u.test(text) && URL.canParse(text) && new URL(text).origin === text
}

function addresses(options: { peer: boolean } = { peer: false }): z.ZodType<readonly string[]> {
  const address = z.string().superRefine((text, context) => {
    const fault = addressFault(text, options.peer)
    if (fault !== undefined) context.addIssue({ code: 'custom', message: fault })
  })
  return z.array(address).max(addressesMax)
}

function addressFault(text: string, peer: boolean): string | undefined {
  try {
    const parts = multiaddr(text).getComponents()
    if (parts.length === 0) return `${text} is an empty address`
    if (!peer || parts.some(({ name }) => name === 'p2p')) return undefined
    return `${text} does not say which peer it is: it must end in /p2p/PEERID`
  } catch (error) {
    return `${JSON.stringify(text)} is not a multiaddr (${messageOf(error)})`
  }
}

/** A number, or a number with its unit: `10 GiB`. */
function byteCount(): z.ZodType<number> {
  return z.unknown().transform((value, context) => {
    const bytes = typeof value === 'string' ? parseBytes(value) : value
    if (typeof bytes === 'number' && Number.isSafeInteger(bytes) && bytes >= 0) return bytes
    context.addIssue({
      code: 'custom',
      message: 'expected a number of bytes, or one with its unit as in "10 GiB"',
    })
    return z.NEVER
  })
}

/** A number of bytes; `off` is null. */
function byteBudget(): z.ZodType<number | null> {
  return z.union([z.literal('off').transform(() => null), byteCount()], {
    error: 'expected a number of bytes, one with its unit as in "500 GiB", or "off"',
  })
}

/** Bytes per second, as a number or as text; `off` is null. */
function rate(): z.ZodType<number | null> {
  return z.unknown().transform((value, context) => {
    if (Number.isSafeInteger(value) && (value as number) >= bytesPerSecondMin)
      return value as number
    try {
      if (typeof value === 'string') return parseRate(value)
    } catch (error) {
      context.addIssue({ code: 'custom', message: messageOf(error) })
      return z.NEVER
    }
    const least = formatRate(bytesPerSecondMin)
    const message = `expected bytes per second, at least ${least}, as in "10 MiB", or "off"`
    context.addIssue({ code: 'custom', message })
    return z.NEVER
  })
}
