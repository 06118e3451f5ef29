/** Flags over variables over the file over defaults, and what is refused. */

import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { loadConfig } from '../../../daemon/config.ts'
import type { Config } from '../../../daemon/config.ts'
import { settingKeys } from '../../../daemon/settings.ts'
import { InvalidInputError } from '../../../src/core/errors.ts'
import { GiB } from '../../../src/core/units.ts'
import { somePeer } from '../../support/fake-node.ts'

let home = ''

beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'config-'))
})
afterEach(() => rm(home, { recursive: true }))

async function load({
  flags = [],
  env = {},
  file,
}: { flags?: string[]; env?: Record<string, string>; file?: string } = {}): Promise<Config> {
  if (file !== undefined) await writeFile(join(home, 'config.toml'), file)
  return loadConfig({ argv: ['--home', home, ...flags], env })
}

function from(config: Config, key: string): [unknown, string, string] {
  const entry = config.entries.find(each => each.key === key)
  return [entry?.value, entry?.source ?? '', entry?.from ?? '']
}

test('has a default for every setting', async () => {
  const config = await load()
  expect(config.settings.listen).toEqual(['/ip4/0.0.0.0/tcp/4011', '/ip6/::/tcp/4011'])
  expect(config.settings.bootstrap).toEqual([])
  expect(config.settings['storage.reserve_bytes']).toBe(10 * GiB)
  expect(config.entries.map(({ key }) => key)).toEqual(['home', ...settingKeys])
  expect(config.entries.slice(1).every(({ source }) => source === 'default')).toBe(true)
})

test('takes a value from the highest layer that has it, and says from where', async () => {
  const file = '[log]\nlevel = "error"\njson = true\n[storage]\nreserve_fraction = 0.1\n'
  const env = { COMMONWEIGHT_LOG_LEVEL: 'warn', COMMONWEIGHT_LOG_JSON: 'false' }
  const config = await load({ flags: ['--log-level', 'debug'], env, file })
  const path = join(home, 'config.toml')
  expect(from(config, 'log.level')).toEqual(['debug', 'flag', '--log-level'])
  expect(from(config, 'log.json')).toEqual([false, 'environment', 'COMMONWEIGHT_LOG_JSON'])
  expect(from(config, 'storage.reserve_fraction')).toEqual([0.1, 'file', path])
  expect(from(config, 'mdns')).toEqual([true, 'default', 'default'])
})

test('a budget of the cache is bytes or off', async () => {
  expect((await load()).settings['gateway.cache_bytes']).toBeNull()
  const file = '[gateway]\nkeep = "none"\ncache_bytes = "500 GiB"'
  expect((await load({ file })).settings).toMatchObject({
    'gateway.keep': 'none',
    'gateway.cache_bytes': 500 * GiB,
  })
  const env = { COMMONWEIGHT_GATEWAY_CACHE_BYTES: '1000' }
  expect((await load({ file, env })).settings['gateway.cache_bytes']).toBe(1000)
  const flags = ['--gateway-cache-bytes', 'off']
  expect((await load({ file, flags })).settings['gateway.cache_bytes']).toBeNull()
})

test('is frozen', async () => {
  const config = await load()
  expect(Object.isFrozen(config) && Object.isFrozen(config.settings)).toBe(true)
})

test('reads lists from repeated flags, from a variable with commas, and from the file', async () => {
  const addresses = ['/ip4/127.0.0.1/tcp/1', '/ip4/127.0.0.1/tcp/2']
  const flags = addresses.flatMap(address => ['--listen', address])
  expect((await load({ flags })).settings.listen).toEqual(addresses)
  const env = { COMMONWEIGHT_LISTEN: addresses.join(', ') }
  expect((await load({ env })).settings.listen).toEqual(addresses)
  expect((await load({ file: `listen = ${JSON.stringify(addresses)}` })).settings.listen).toEqual(
    addresses,
  )
  expect((await load({ file: 'listen = []' })).settings.listen).toEqual([])
})

test.for([
  [['--no-mdns'], {}, false],
  [['--mdns'], { COMMONWEIGHT_MDNS: 'false' }, true],
  [['--mdns=false'], {}, false],
  [[], { COMMONWEIGHT_MDNS: '0' }, false],
  [[], { COMMONWEIGHT_MDNS: '' }, true],
] as const)('understands %s with %s', async ([flags, env, expected]) => {
  expect((await load({ flags: [...flags], env })).settings.mdns).toBe(expected)
})

test.for([
  ['10 GiB', 10 * GiB],
  ['0', 0],
  ['1.5KiB', 1536],
] as const)('reads %s as bytes', async ([text, bytes]) => {
  const env = { COMMONWEIGHT_STORAGE_RESERVE_BYTES: text }
  expect((await load({ env })).settings['storage.reserve_bytes']).toBe(bytes)
  const file = `storage.reserve_bytes = ${JSON.stringify(text)}`
  expect((await load({ file })).settings['storage.reserve_bytes']).toBe(bytes)
})

test('counts a path in the file from the home, and one in a flag from where the user stands', async () => {
  const inFile = await load({ file: 'storage.models = "weights"' })
  expect(inFile.paths.models).toBe(join(home, 'weights'))
  const tilde = await load({ file: 'storage.models = "~/weights"' })
  expect(tilde.paths.models).toBe(join(homedir(), 'weights'))
  const flag = await load({ flags: ['--storage-models', 'weights'] })
  expect(flag.paths.models).toBe(join(process.cwd(), 'weights'))
  expect((await load({ file: '' })).paths.models).toBe(join(home, 'models'))
})

test('finds the home by flag, then variable, then default', async () => {
  const env = { COMMONWEIGHT_HOME: home }
  expect((await loadConfig({ argv: [], env })).paths.home).toBe(home)
  const other = join(home, 'other')
  const config = await loadConfig({ argv: ['--home', other], env })
  expect(from(config, 'home')).toEqual([other, 'flag', '--home'])
  expect((await loadConfig({ argv: [], env: {} })).paths.home).toBe(
    join(homedir(), '.commonweight'),
  )
})

test('keeps how to talk apart from the settings', async () => {
  const { output } = await load({ flags: ['--json', '--no-color'] })
  expect(output).toEqual({ json: true, quiet: false, color: false })
  expect((await load({ env: { NO_COLOR: '1' } })).output.color).toBe(false)
  expect((await load()).output.color).toBe(true)
})

async function refusal(options: Parameters<typeof load>[0]): Promise<InvalidInputError> {
  const error: unknown = await load(options).then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  if (error instanceof InvalidInputError) return error
  throw new Error('it was not refused', { cause: error })
}

test.for([
  ['listn = []', 'listn', 'listen'],
  ['[storage]\nreserve_byte = 1', 'storage.reserve_byte', 'storage.reserve_bytes'],
  ['storage = 5', 'storage', 'storage.reserve_bytes'],
  ['[log.level]\nx = 1', 'log.level', 'log.level'],
  ['[gateway]\nport = 1', 'gateway', ''],
  ['home = "/x"', 'home', ''],
] as const)('refuses the file %j', async ([file, key, nearestKey]) => {
  const error = await refusal({ file })
  expect(error.message).toContain(key)
  expect(`${error.hint} ${error.message}`).toContain(nearestKey)
})

test('names line and column of malformed TOML', async () => {
  const error = await refusal({ file: 'mdns = true\nlisten = [\n  "a",,\n]\n' })
  expect(error.message).toMatch(/config\.toml line 3, column \d+: /)
  expect(error.message).not.toContain('\n')
})

test.for([
  [['--listn', '/ip4/127.0.0.1/tcp/1'], '--listen'],
  [['--no-listen'], '--listen'],
  [['--log-levl=debug'], '--log-level'],
] as const)('refuses the flags %s and names the nearest', async ([flags, known]) => {
  expect((await refusal({ flags: [...flags] })).hint).toContain(known)
})

test.for([
  [['--listen'], 'needs a value'],
  [['--no-mdns=true'], 'takes no value'],
  [['stray'], 'stray'],
  [['--log-level', 'loud'], 'log.level from --log-level'],
  [['--listen', 'localhost:4011'], 'localhost:4011'],
  [['--listen', ''], 'needs a value'],
  [['--bootstrap', '/ip4/1.2.3.4/tcp/4011'], '/p2p/PEERID'],
  [['--storage-reserve-fraction', '1.5'], '0.9'],
  [['--storage-reserve-fraction', 'half'], 'number'],
  [['--storage-reserve-bytes', '10 bananas'], '10 GiB'],
  [['--storage-reserve-bytes', '-1'], '10 GiB'],
  [['--cors-origin', '*'], 'origin'],
  [['--cors-origin', 'null'], 'origin'],
  [['--cors-origin', 'https://app.lab.example/'], 'origin'],
  [['--cors-origin', 'https://APP.lab.example'], 'origin'],
  [['--cors-origin', 'app.lab.example'], 'origin'],
  [['--cors-origin', 'file:///'], 'origin'],
  [['--gateway-keep', 'all'], 'cache'],
  [['--gateway-cache-bytes', 'much'], '500 GiB'],
  [['--mdns=maybe'], 'must be true or false'],
  [['--network', 'wan'], 'lan'],
] as const)('refuses the flags %s', async ([flags, words]) => {
  expect((await refusal({ flags: [...flags] })).message).toContain(words)
})

test.for(['mdns = "yes"', 'listen = "/ip4/127.0.0.1/tcp/1"', 'storage.reserve_bytes = 1.5'])(
  'refuses the wrong kind of value in %s and names the file',
  async file => {
    expect((await refusal({ file })).message).toContain(join(home, 'config.toml'))
  },
)

test('takes a bootstrap that says which peer it is', async () => {
  const address = `/dns4/peer.example/tcp/4011/p2p/${somePeer}`
  expect((await load({ flags: ['--bootstrap', address] })).settings.bootstrap).toEqual([address])
})

test('warns of a variable that looks like ours, and goes on', async () => {
  const env = { COMMONWEIGHT_LISTN: 'x', COMMONWEIGHT_PORT_4011_TCP: 'tcp://10.0.0.1:4011' }
  const { warnings } = await load({ env })
  expect(warnings).toHaveLength(2)
  expect(warnings[0]).toContain('COMMONWEIGHT_LISTEN')
})

test('hands programs that it runs what finds them, and nothing else', async () => {
  const env = { PATH: '/bin', HOME: '/home/ada', HF_TOKEN: 'hf_secret', GIT_DIR: '/elsewhere' }
  expect((await load({ env })).programEnv).toEqual({ PATH: '/bin', HOME: '/home/ada' })
})

test('takes the limits of the bandwidth from everywhere, as people write them', async () => {
  const file = '[bandwidth]\nmax_down = "10 MiB"\nmax_up = 200000\nlimit_lan = true\n'
  const { settings } = await load({ file })
  expect([settings['bandwidth.max_down'], settings['bandwidth.max_up']]).toEqual([
    10 * 1024 * 1024,
    200_000,
  ])
  expect(settings['bandwidth.limit_lan']).toBe(true)
  const env = { COMMONWEIGHT_BANDWIDTH_MAX_DOWN: '500KB' }
  const config = await load({ file, env, flags: ['--max-up', 'off', '--no-limit-lan'] })
  expect(from(config, 'bandwidth.max_down')).toEqual([
    500_000,
    'environment',
    'COMMONWEIGHT_BANDWIDTH_MAX_DOWN',
  ])
  expect(from(config, 'bandwidth.max_up')).toEqual([null, 'flag', '--max-up'])
  expect(config.settings['bandwidth.limit_lan']).toBe(false)
})

test.for(['0', '10Mb', '1KiB', 'none'])(
  'refuses %o as a limit, and says what is allowed',
  async rate => {
    const loaded = load({ flags: ['--max-down', rate] })
    await expect(loaded).rejects.toThrow(InvalidInputError)
    await expect(loaded).rejects.toThrow(/bandwidth\.max_down from --max-down: /)
  },
)
