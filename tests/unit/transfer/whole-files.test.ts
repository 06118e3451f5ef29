/** Which web server is asked for which whole file, and who is to blame. */

import { expect, test } from 'vitest'
import { IntegrityError, StorageError, UnavailableError } from '../../../src/core/errors.ts'
import { silentLog } from '../../../src/core/log.ts'
import { second } from '../../../src/core/units.ts'
import type { FetchWhole } from '../../../src/transfer/request.ts'
import type { Source, SourceId } from '../../../src/transfer/source.ts'
import { WholeFiles } from '../../../src/transfer/whole-files.ts'
import { FakeClock, settle } from '../../support/fake-clock.ts'
import { FakeSource } from '../../support/fake-source.ts'
import { testFile } from '../../support/store-fixture.ts'

const files = ['a', 'b'].map(name => testFile(`whole-files/${name}`, [700, 300]))

/** Holds as much of each file as it says; that comes at once, as of a web server. */
function webSeed(id: SourceId, chunks = 2): Source {
  const source: Source = new FakeSource(id)
  return Object.assign(source, {
    kind: 'web-seed',
    watch: ((watched, onHave) => {
      for (const { root } of watched) onHave({ root, gained: [[0, chunks]], lost: [] })
    }) satisfies Source['watch'],
  })
}

function openRun(sources: readonly Source[], fetchWhole: FetchWhole) {
  const clock = new FakeClock()
  const unknown = new Set(files.keys())
  const events: string[] = []
  const stop = new AbortController()
  const left = [...sources]
  const whole = new WholeFiles({
    fetchWhole,
    clock,
    log: silentLog,
    sources: () => [...left],
    unknown: () => [...unknown],
    wanted(file) {
      const { root, sha256, table } = files[file] as (typeof files)[0]
      return { path: `${file}`, size: table.size, sha256, root, place: `/${file}` }
    },
    onStart: (file, { id }) => events.push(`start ${file} ${id}`),
    onBytes: (file, { id }, bytes) => events.push(`${bytes} bytes ${file} ${id}`),
    onDiscarded: file => events.push(`discarded ${file}`),
    onTable(file) {
      events.push(`table ${file}`)
      unknown.delete(file)
    },
    onLie(source) {
      events.push(`lie ${source.id}`)
      left.splice(left.indexOf(source), 1)
    },
  })
  const ended = whole.run(stop.signal)
  ended.catch(() => undefined)
  return { clock, unknown, events, stop, whole, ended }
}

function tableOf(path: string) {
  const file = files[Number(path)]
  if (file === undefined) throw new Error(`no file ${path}`)
  return file.table
}

test('one file after the other, and never of a peer or of a server without ranges', async () => {
  const sources = [new FakeSource('peer'), webSeed('no ranges', 1), webSeed('web')]
  const { events, ended } = openRun(sources, async ({ file, onBytes }) => {
    onBytes(file.size)
    return Promise.resolve(tableOf(file.path))
  })
  await ended
  expect(events).toEqual([
    'start 0 web',
    '1000 bytes 0 web',
    'table 0',
    'start 1 web',
    '1000 bytes 1 web',
    'table 1',
  ])
})

test('who lies is told of, and the next server is asked for the same file', async () => {
  const { events, ended } = openRun([webSeed('liar'), webSeed('web')], ({ file, source }) =>
    source.id === 'liar'
      ? Promise.reject(new IntegrityError('another root'))
      : Promise.resolve(tableOf(file.path)),
  )
  await ended
  expect(events).toEqual([
    'start 0 liar',
    'lie liar',
    'discarded 0',
    'start 0 web',
    'table 0',
    'start 1 web',
    'table 1',
  ])
})

test('a server that cannot go on is asked again after a while, and what it gave is kept', async () => {
  let isBusy = true
  const { clock, events, ended } = openRun([webSeed('web')], ({ file }) =>
    isBusy ? Promise.reject(new UnavailableError('busy')) : Promise.resolve(tableOf(file.path)),
  )
  await settle()
  expect(events).toEqual(['start 0 web', 'start 1 web'])
  isBusy = false
  await clock.advance(2 * second)
  await ended
  expect(events.slice(2)).toEqual(['start 0 web', 'table 0', 'start 1 web', 'table 1'])
})

test('gives way when the chunks are told, and goes on with the next file', async () => {
  const { events, ended, unknown, whole } = openRun([webSeed('web')], ({ file, unneeded }) => {
    if (file.path === '1') return Promise.resolve(tableOf('1'))
    return new Promise((_, reject) =>
      unneeded.addEventListener('abort', () => reject(unneeded.reason as Error)),
    )
  })
  await settle()
  expect(whole.isFetching).toBe(true)
  whole.known(1)
  expect(events).toEqual(['start 0 web'])
  unknown.delete(0)
  whole.known(0)
  await ended
  expect(events).toEqual(['start 0 web', 'discarded 0', 'start 1 web', 'table 1'])
  expect(whole.isFetching).toBe(false)
})

test('a fault of this machine is nobody else’s, and ends it', async () => {
  const failed = openRun([webSeed('web')], () => Promise.reject(new StorageError('disk full')))
  await expect(failed.ended).rejects.toThrow('disk full')
  expect(failed.events).toEqual(['start 0 web'])
})

test('ends with the download', async () => {
  const { ended, events, stop } = openRun(
    [webSeed('web')],
    ({ signal }) =>
      new Promise((_, reject) =>
        signal.addEventListener('abort', () => reject(signal.reason as Error)),
      ),
  )
  await settle()
  stop.abort(new Error('stopped by the user'))
  await expect(ended).rejects.toThrow('stopped by the user')
  expect(events).toEqual(['start 0 web'])
})
