/** Opening, migrating and checking a SQLite file. */

import { chmod, readdir, stat } from 'node:fs/promises'
import { DatabaseSync } from 'node:sqlite'
import { expect, test } from 'vitest'
import { systemClock } from '../../../src/core/clock.ts'
import { StorageError } from '../../../src/core/errors.ts'
import { silentLog } from '../../../src/core/log.ts'
import { MiB } from '../../../src/core/units.ts'
import { openDatabase, type OpenedDatabase } from '../../../src/store/database.ts'
import { openScratchFolder } from '../../support/scratch-folder.ts'

const first = `
  CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT);
  CREATE TABLE word (text TEXT NOT NULL);
`
const second = "ALTER TABLE word ADD COLUMN language TEXT NOT NULL DEFAULT 'en'"

function open(path: string, migrations: readonly string[]): OpenedDatabase {
  const rest = { synchronous: 'NORMAL', cacheBytes: MiB } as const
  return openDatabase({ clock: systemClock, log: silentLog }, { path, migrations, ...rest })
}

test('takes a database of the version before through the steps it lacks', async () => {
  await using scratch = await openScratchFolder()
  const path = scratch.file('test.db')
  {
    using database = open(path, [first]).database
    database.run('INSERT INTO word (text) VALUES (?)', 'weights')
  }
  {
    using database = open(path, [first, second]).database
    expect(database.get('SELECT text, language FROM word')).toEqual({
      text: 'weights',
      language: 'en',
    })
  }
  expect(() => open(path, [first])).toThrow(StorageError)
})

test('leaves a database at its version when a step fails', async () => {
  await using scratch = await openScratchFolder()
  const path = scratch.file('test.db')
  open(path, [first]).database[Symbol.dispose]()
  const broken = 'CREATE TABLE more (n INTEGER); INSERT INTO nowhere VALUES (1)'
  expect(() => open(path, [first, broken])).toThrow(StorageError)
  using database = open(path, [first]).database
  expect(database.get("SELECT 1 FROM sqlite_schema WHERE name = 'more'")).toBeUndefined()
})

test('takes back all of a transaction that fails, and may be nested', async () => {
  await using scratch = await openScratchFolder()
  using database = open(scratch.file('test.db'), [first]).database
  const insert = (text: string | null): number =>
    database.run('INSERT INTO word (text) VALUES (?)', text)
  const failing = (): void =>
    database.transaction(() => {
      insert('one')
      database.transaction(() => insert('two'))
      insert(null)
    })
  expect(failing).toThrow(/NOT NULL/)
  expect(database.all('SELECT text FROM word')).toEqual([])
  database.transaction(() => insert('three'))
  expect(database.all('SELECT text FROM word')).toEqual([{ text: 'three' }])
})

test('moves nothing aside because another process holds the lock', async () => {
  await using scratch = await openScratchFolder()
  const path = scratch.file('test.db')
  open(path, [first]).database[Symbol.dispose]()
  const other = new DatabaseSync(path)
  other.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; INSERT INTO word VALUES (1)')
  expect(() => open(path, [first])).toThrow(StorageError)
  other.exec('COMMIT')
  other.close()
  expect(open(path, [first]).movedAside).toBeUndefined()
})

test("makes and keeps a database its owner's alone, whatever the umask", async () => {
  await using scratch = await openScratchFolder()
  const path = scratch.file('test.db')
  const modes = async (): Promise<string[]> => {
    const names = (await readdir(scratch.path)).filter(name => name.startsWith('test.db'))
    const stats = await Promise.all(names.map(name => stat(scratch.file(name))))
    return [...new Set(stats.map(({ mode }) => (mode & 0o777).toString(8)))]
  }
  const umask = process.umask(0)
  try {
    for (let start = 0; start < 2; start += 1) {
      using database = open(path, [first]).database
      database.run('INSERT INTO word (text) VALUES (?)', 'weights')
      database.backUp(scratch.file('test.db.backup'))
      expect(await modes()).toEqual(['600'])
      await chmod(path, 0o644)
    }
  } finally {
    process.umask(umask)
  }
})
