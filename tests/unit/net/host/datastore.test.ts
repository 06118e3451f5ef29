import type { DatabaseSync } from 'node:sqlite'
import { Key } from 'interface-datastore'
import { expect, test } from 'vitest'
import { type Logger, silentLog } from '../../../../src/core/log.ts'
import { openDatastore, type SqliteDatastore } from '../../../../src/net/host/datastore.ts'
import { openNetworkDb } from '../../../../src/net/network-db.ts'
import { FakeClock } from '../../../support/fake-clock.ts'

function open(log: Logger = silentLog): { store: SqliteDatastore; db: DatabaseSync } {
  const { db } = openNetworkDb({ log, clock: new FakeClock() }, ':memory:')
  return { store: openDatastore(db, log), db }
}

/** As a disk that takes no page more. */
function fill(db: DatabaseSync): void {
  const { page_count: pages } = db.prepare('PRAGMA page_count').get() as { page_count: number }
  db.exec(`PRAGMA max_page_count = ${pages}`)
}

async function keysUnder(store: SqliteDatastore, prefix: string): Promise<string[]> {
  const keys: string[] = []
  for await (const { key } of store.query({ prefix })) keys.push(key.toString())
  return keys
}

const value = Uint8Array.of(1, 2, 3)

test('gives back what was put, and libp2p\u2019s own error for what was not', async () => {
  const { store } = open()
  store.put(new Key('/a/b'), value)
  expect(Buffer.from(store.get(new Key('/a/b')))).toEqual(Buffer.from(value))
  expect(store.has(new Key('/a/b'))).toBe(true)
  store.delete(new Key('/a/b'))
  expect(store.has(new Key('/a/b'))).toBe(false)
  // libp2p tests for the name, not for the class.
  await expect(async () => store.get(new Key('/a/b'))).rejects.toMatchObject({
    name: 'NotFoundError',
  })
})

test('a prefix takes its own keys in order and nothing beside', async () => {
  const { store } = open()
  for (const key of ['/peers/b', '/peers/a', '/peersonal', '/dht/x', '/peers']) {
    store.put(new Key(key), value)
  }
  expect(await keysUnder(store, '/peers/')).toEqual(['/peers/a', '/peers/b'])
  expect(await keysUnder(store, '/peers')).toEqual(['/peers', '/peers/a', '/peers/b', '/peersonal'])
  expect(await keysUnder(store, '')).toHaveLength(5)
})

test('a query longer than a page yields each key once, and may write meanwhile', async () => {
  const { store } = open()
  for (let index = 0; index < 1000; index += 1) store.put(new Key(`/p/${index}`), value)
  const seen = new Set<string>()
  for await (const { key } of store.query({ prefix: '/p/' })) {
    seen.add(key.toString())
    store.delete(key)
  }
  expect(seen.size).toBe(1000)
  expect(await keysUnder(store, '/p/')).toEqual([])
})

test('filters, orders and limits as libp2p\u2019s peer store asks', async () => {
  const { store } = open()
  for (const name of ['c', 'a', 'b']) store.put(new Key(`/p/${name}`), value)
  const found: string[] = []
  const query = {
    prefix: '/p',
    filters: [({ key }: { key: Key }) => !key.toString().endsWith('a')],
    orders: [(a: { key: Key }, b: { key: Key }) => (a.key.toString() < b.key.toString() ? 1 : -1)],
    limit: 1,
  }
  for await (const { key } of store.query(query)) found.push(key.toString())
  expect(found).toEqual(['/p/c'])
})

test('a batch is all or nothing', async () => {
  const { store } = open()
  const batch = store.batch()
  batch.put(new Key('/a'), value)
  batch.put(new Key('/b'), undefined as unknown as Uint8Array)
  await expect(async () => batch.commit()).rejects.toThrow(/cannot be bound|NULL|undefined/iu)
  expect(store.has(new Key('/a'))).toBe(false)
  const good = store.batch()
  good.put(new Key('/a'), value)
  good.delete(new Key('/none'))
  await good.commit()
  expect(store.has(new Key('/a'))).toBe(true)
})

test('a full disk makes it forget what is put, says so once, and it writes again afterwards', async () => {
  const warnings: string[] = []
  const { store, db } = open({ ...silentLog, warn: text => void warnings.push(text) })
  store.put(new Key('/old'), value)
  fill(db)
  const large = new Uint8Array(100_000)
  for (let index = 0; index < 3; index += 1) store.put(new Key(`/new/${index}`), large)
  const batch = store.batch()
  batch.put(new Key('/in/batch'), large)
  await batch.commit()
  expect(warnings).toHaveLength(1)
  expect(await keysUnder(store, '')).toEqual(['/old'])

  db.exec('PRAGMA max_page_count = 100000')
  store.put(new Key('/new/0'), large)
  expect(await keysUnder(store, '')).toEqual(['/new/0', '/old'])
})
