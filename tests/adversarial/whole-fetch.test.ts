/** Files whose chunks nobody tells, from web servers that may lie about them; real sockets, threads and files. */

import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { systemClock } from '../../src/core/clock.ts'
import { silentLog } from '../../src/core/log.ts'
import { MiB, second } from '../../src/core/units.ts'
import { type HashPool, openHashPool } from '../../src/ingest/hash-file.ts'
import { openWebSeeds } from '../../src/net/web/web-seeds.ts'
import { openWholeFetch } from '../../src/ops/pull/whole-fetch.ts'
import { download } from '../../src/transfer/download.ts'
import type { DownloadProgress } from '../../src/transfer/request.ts'
import { FakeFinder, FakeSource } from '../support/fake-source.ts'
import { filesBelow, seededBytes, tensorFile } from '../support/model-files.ts'
import { until } from '../support/poll.ts'
import { openScratchFolder } from '../support/scratch-folder.ts'
import { fileOf, openTestStore, type TestFile } from '../support/store-fixture.ts'
import { openWebServer, type WebExchange } from '../support/web-server.ts'

/** Its plan follows from the tensors: cut at every MiB, it would have another root. */
const bytes = tensorFile({
  a: seededBytes('whole a', 3 * MiB + 5),
  b: seededBytes('whole b', 2 * MiB),
  c: seededBytes('whole c', 300_000),
})
const path = 'model.safetensors'

let pool: HashPool
let file: TestFile
beforeAll(async () => {
  pool = openHashPool()
  await using scratch = await openScratchFolder()
  const place = scratch.file(path)
  await writeFile(place, bytes)
  const { table } = await pool.hashFile(place)
  const parts = Array.from({ length: table.count }, (_, index) => {
    const { offset, length } = table.ref(index)
    return bytes.subarray(offset, offset + length)
  })
  file = fileOf(parts)
})
afterAll(() => pool[Symbol.asyncDispose]())

interface Pull {
  readonly finder: FakeFinder
  readonly notices: string[]
  readonly progress: DownloadProgress[]
  readonly stop: AbortController
  /** Resolves with the sources, once all is there and right. */
  readonly done: Promise<ReadonlyMap<string, number>>
}

type World = Awaited<ReturnType<typeof openWorld>>

async function openWorld() {
  await using opening = new AsyncDisposableStack()
  const scratch = opening.use(await openScratchFolder())
  const store = opening.use(await openTestStore(scratch.path))
  const open = opening.move()
  const folder = scratch.file('target')
  return { store, folder, [Symbol.asyncDispose]: () => open.disposeAsync() }
}

function startPull({ store, folder }: World, urls: readonly string[]): Pull {
  const notices: string[] = []
  const progress: DownloadProgress[] = []
  const stop = new AbortController()
  const finder = new FakeFinder()
  const { root, sha256, table } = file
  const wanted = { path, size: table.size, sha256, root, place: join(folder, path) }
  const onNotice = (_: string, message: string): void => void notices.push(message)
  const deps = { store, clock: systemClock, log: silentLog, random: Math.random, onNotice }
  const run = async (): Promise<ReadonlyMap<string, number>> => {
    using seeds = openWebSeeds(
      deps,
      { named: urls, hinted: [], files: [wanted] },
      { allowPrivate: true, agent: 'commonweight/test' },
    )
    const fetchWhole = openWholeFetch({ store, pool }, { folder, allowance: undefined })
    const { sources } = await download(
      { ...deps, finder: seeds.finderOver(finder), fetchWhole },
      { keys: [root], folder, files: [wanted] },
      {
        signal: stop.signal,
        peers: [],
        patienceMs: 30 * second,
        onProgress: told => void progress.push(told),
        onNotice,
      },
    )
    expect(bytes.equals(await readFile(wanted.place))).toBe(true)
    expect(await filesBelow(folder)).toEqual([path])
    expect(store.chunkTable(root)?.count).toBe(table.count)
    return new Map(sources.map(source => [source.id, source.bytes]))
  }
  const done = run()
  done.catch(() => undefined)
  // The first round of looking for peers is over, in vain.
  void until('peers are looked for', () =>
    Promise.resolve(finder.keys.length > 0 || undefined),
  ).then(() => finder.round())
  return { finder, notices, progress, stop, done }
}

const wrongBytes = (exchange: WebExchange): void => {
  const { start, end } = exchange.range ?? { start: 0, end: 0 }
  const part = Buffer.from(bytes.subarray(start, end))
  part[0] = (part[0] ?? 0) ^ 1
  const range = `bytes ${start}-${end - 1}/${bytes.length}`
  exchange.response.writeHead(206, { 'content-range': range }).end(part)
}

test('the bytes make the table, by the tensors they have, and every byte is fetched once', async () => {
  // Slow enough for its progress to be told.
  await using server = await openWebServer({ [path]: bytes }, ({ range, serve }) => {
    setTimeout(serve, ((range?.start ?? 0) / MiB) * 150)
  })
  await using world = await openWorld()
  const { done, progress } = startPull(world, [server.url])
  expect(await done).toEqual(new Map([[server.url, bytes.length]]))
  expect(server.requests.length).toBe(Math.ceil(bytes.length / MiB))
  expect(progress.some(({ phase, bytesDone }) => phase === 'fetching' && bytesDone > 0)).toBe(true)
  expect(Math.max(...progress.map(({ bytesDone }) => bytesDone))).toBe(bytes.length)
})

test('a liar is banned for the whole file, nothing of it stays, and the next one serves', async () => {
  await using liar = await openWebServer({ [path]: bytes }, wrongBytes)
  await using honest = await openWebServer({ [path]: bytes })
  await using world = await openWorld()
  const { done, notices, progress } = startPull(world, [liar.url, honest.url])
  const sources = await done
  expect(sources.get(honest.url)).toBe(bytes.length)
  expect(notices.filter(text => text.startsWith('banned'))).toEqual([
    expect.stringContaining(`banned ${liar.url}: ${path}: its bytes make the root`),
  ])
  expect(Math.max(...progress.map(({ bytesDone }) => bytesDone))).toBe(bytes.length)
})

test('what a liar left in an earlier run is not blamed on who completes it', async () => {
  await using world = await openWorld()
  await using liar = await openWebServer({ [path]: bytes }, exchange => {
    // The first half, wrong; of the rest, nothing comes.
    if ((exchange.range?.start ?? 0) < bytes.length / 2) wrongBytes(exchange)
  })
  const first = startPull(world, [liar.url])
  const half = 3 * MiB
  await until('the wrong half is here', () =>
    Promise.resolve(first.progress.some(({ bytesDone }) => bytesDone >= half) || undefined),
  )
  first.stop.abort(new Error('stopped by the user'))
  await expect(first.done).rejects.toThrow('stopped by the user')
  await using honest = await openWebServer({ [path]: bytes })
  const second = startPull(world, [honest.url])
  await second.done
  expect(second.notices.filter(text => text.startsWith('banned'))).toEqual([])
})

test('what is here of it when the pull is stopped is not fetched again', async () => {
  await using world = await openWorld()
  let isOpen = false
  await using server = await openWebServer({ [path]: bytes }, ({ range, serve }) => {
    if (isOpen || (range?.start ?? 0) < bytes.length / 2) serve()
  })
  const first = startPull(world, [server.url])
  await until('half is here', () =>
    Promise.resolve(first.progress.some(({ bytesDone }) => bytesDone >= 3 * MiB) || undefined),
  )
  first.stop.abort(new Error('stopped by the user'))
  await expect(first.done).rejects.toThrow('stopped by the user')
  isOpen = true
  const sources = await startPull(world, [server.url]).done
  expect(sources.get(server.url)).toBeLessThanOrEqual(bytes.length - 3 * MiB)
})

test('gives way to a peer that tells the chunks', async () => {
  await using world = await openWorld()
  await using server = await openWebServer({ [path]: bytes }, ({ range, serve }) => {
    if ((range?.start ?? 0) === 0) serve()
  })
  const { done, finder, progress } = startPull(world, [server.url])
  await until('it is under way', () =>
    Promise.resolve(progress.some(({ bytesDone }) => bytesDone >= MiB) || undefined),
  )
  finder.add(new FakeSource('peer', [file]))
  const sources = await done
  expect(sources.get('peer')).toBeGreaterThan(bytes.length / 2)
})
