import { readdir, readFile, writeFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { silentLog } from '../../../src/core/log.ts'
import { openNetworkDb } from '../../../src/net/network-db.ts'
import { FakeClock } from '../../support/fake-clock.ts'
import { openScratchFolder } from '../../support/scratch-folder.ts'

const deps = { log: silentLog, clock: new FakeClock() }
const put = `INSERT INTO meta VALUES ('a', 'b')`

function rows(path: string): number {
  using network = openNetworkDb(deps, path)
  return Number(network.db.prepare('SELECT count(*) AS n FROM meta').get()?.['n'])
}

test('keeps what was written', async () => {
  await using folder = await openScratchFolder()
  const path = folder.file('network.db')
  {
    using network = openNetworkDb(deps, path)
    network.db.exec(put)
  }
  expect(rows(path)).toBe(1)
})

test.for([
  ['no database', () => Buffer.from('this is not a database, and long enough to be looked at')],
  ['a database with a page overwritten', damagePage],
  ['one of a later version', (bytes: Buffer) => laterVersion(bytes)],
] as const)('moves %s aside and starts anew', async ([, damage]) => {
  await using folder = await openScratchFolder()
  const path = folder.file('network.db')
  {
    using network = openNetworkDb(deps, path)
    network.db.exec(put)
    network.db.exec('PRAGMA wal_checkpoint(TRUNCATE)')
  }
  const damaged = damage(await readFile(path))
  await writeFile(path, damaged)
  expect(rows(path)).toBe(0)
  const aside = (await readdir(folder.path)).find(name => /^network\.db\.damaged-\d+$/.test(name))
  expect(aside).toBeDefined()
  expect(await readFile(folder.file(aside ?? ''))).toEqual(damaged)
})

test('does not throw a database away that it may not open', async () => {
  await using folder = await openScratchFolder()
  // A folder in its place: SQLite says "unable to open", which is no damage.
  expect(() => openNetworkDb(deps, folder.path)).toThrow(/opening/)
  expect(await readdir(folder.path)).toEqual([])
})

function damagePage(bytes: Buffer): Buffer {
  const damaged = Buffer.from(bytes)
  // The second page on: the header still says that this is a database.
  damaged.fill(0xa5, 4096, damaged.length)
  return damaged
}

function laterVersion(bytes: Buffer): Buffer {
  const later = Buffer.from(bytes)
  later.writeUInt32BE(99, 60)
  return later
}
