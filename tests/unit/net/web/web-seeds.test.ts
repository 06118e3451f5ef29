import { expect, test } from 'vitest'
import { InvalidInputError } from '../../../../src/core/errors.ts'
import { silentLog } from '../../../../src/core/log.ts'
import { second } from '../../../../src/core/units.ts'
import {
  checkWebSeedHosts,
  checkWebSeeds,
  openWebSeeds,
  type WebSeedList,
} from '../../../../src/net/web/web-seeds.ts'
import { FakeClock } from '../../../support/fake-clock.ts'
import { FakeFinder, FakeSource } from '../../../support/fake-source.ts'
import { testFile } from '../../../support/store-fixture.ts'

const options = { allowPrivate: false, agent: 'test' }
const files = ['a.bin', 'b.bin'].map(path => ({ path, size: 10, root: testFile(path, [10]).root }))
const tree = 'https://a.example/model/'

function open(list: Partial<WebSeedList>) {
  const notices: string[] = []
  const onNotice = (_: string, message: string): void => void notices.push(message)
  const deps = { clock: new FakeClock(), log: silentLog, onNotice }
  return { notices, seeds: openWebSeeds(deps, { named: [], hinted: [], files, ...list }, options) }
}

test('one that the user named must be right', () => {
  expect(() => open({ named: ['https://127.0.0.1/'] })).toThrow(InvalidInputError)
  expect(() => open({ named: ['https://a.example/one.bin'] })).toThrow('one file')
  expect(() => checkWebSeeds(['http://a.example/'], options)).toThrow('is not https')
  checkWebSeeds([tree], options)
})

const names: Readonly<Record<string, readonly string[]>> = {
  'a.example': ['8.8.8.8'],
  'home.example': ['10.0.0.1'],
  'both.example': ['8.8.8.8', '10.0.0.1'],
  'near.example': ['169.254.0.7'],
}

function checkHosts(
  url: string,
  { allowPrivate = false, signal = new AbortController().signal, clock = new FakeClock() } = {},
): Promise<void> {
  const lookup = (host: string): Promise<readonly string[]> => {
    if (host === 'silent.example') return new Promise(() => undefined)
    return names[host] ? Promise.resolve(names[host]) : Promise.reject(new Error('ENOTFOUND'))
  }
  return checkWebSeedHosts({ clock, lookup }, [tree, url], { ...options, allowPrivate }, signal)
}

test('the host of one that the user named must be public, unless others are allowed', async () => {
  await checkHosts('https://a.example/x?sig=1')
  for (const host of ['home.example', 'both.example']) {
    await expect(checkHosts(`https://${host}/m/`)).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      message: `the web seed https://${host}/m/ leads to a private address`,
      hint: expect.stringContaining('webseed.allow_private'),
    })
    await checkHosts(`http://${host}/m/`, { allowPrivate: true })
  }
  const allowed = { allowPrivate: true }
  await expect(checkHosts('http://a.example/', allowed)).rejects.toThrow('asked for by http')
  await expect(checkHosts('https://home.example/x?on=1', allowed)).rejects.toThrow('has a query')
  const near = checkHosts('http://near.example/', allowed)
  await expect(near).rejects.toMatchObject({ code: 'INVALID_INPUT' })
  await expect(near).rejects.toThrow('link-local')
})

test('a host that is not found now may be later', async () => {
  await checkHosts('https://unknown.example/')
  const clock = new FakeClock()
  const silent = checkHosts('https://silent.example/', { clock })
  await clock.advance(5 * second)
  await silent
  const stop = new AbortController()
  const stopped = checkHosts('https://silent.example/', { signal: stop.signal })
  stop.abort(new Error('stopped'))
  await expect(stopped).rejects.toThrow('stopped')
})

test('one of a link is left out when it is not', () => {
  const { seeds, notices } = open({ hinted: ['https://[::1]/', 'https://a.example/x', tree] })
  expect(seeds.sources.map(({ id }) => id)).toEqual([tree])
  expect(notices).toHaveLength(2)
})

test('one named twice is one source', () => {
  const { seeds } = open({ named: [tree, 'https://A.example:443/model/'], hinted: [tree] })
  expect(seeds.sources).toHaveLength(1)
})

test('one file may have a URL of its own', () => {
  const { seeds } = open({ named: ['https://a.example/x?sig=1'], files: files.slice(0, 1) })
  expect(seeds.sources.map(({ id }) => id)).toEqual(['https://a.example/x'])
})

test('web seeds are found first, then the others; a banned one is not found again', async () => {
  const { seeds } = open({ named: [tree, 'https://b.example/'] })
  const peer = new FakeSource('peer', [])
  const finder = seeds.finderOver(new FakeFinder([peer]))
  const found = async (wanted: number): Promise<string[]> => {
    const ids: string[] = []
    const finding = finder.find([], { peers: [], signal: new AbortController().signal })
    for await (const each of finding) {
      if (each.type === 'source') ids.push(each.source.id)
      if (ids.length === wanted) break
    }
    return ids
  }
  expect(await found(3)).toEqual([tree, 'https://b.example/', 'peer'])
  seeds.sources[0]?.ban(new Error('it lied'))
  expect(await found(2)).toEqual(['https://b.example/', 'peer'])
})

test('all are closed when the download is over', () => {
  const { seeds } = open({ named: [tree] })
  seeds[Symbol.dispose]()
  expect(seeds.sources.every(({ closed }) => closed.aborted)).toBe(true)
})
