import { expect, test } from 'vitest'
import { InvalidInputError } from '../../../../src/core/errors.ts'
import { silentLog } from '../../../../src/core/log.ts'
import { checkWebSeeds, openWebSeeds, type WebSeedList } from '../../../../src/net/web/web-seeds.ts'
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
