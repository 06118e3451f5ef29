/** A download of test files from fake sources into a real store, with time that passes as fast as it can. */

import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { CID } from '../../src/core/cid.ts'
import { silentLog } from '../../src/core/log.ts'
import { minute } from '../../src/core/units.ts'
import type { Store } from '../../src/store/store.ts'
import { download } from '../../src/transfer/download.ts'
import type {
  DownloadDeps,
  DownloadOptions,
  DownloadProgress,
  DownloadRequest,
  DownloadResult,
  WantedFile,
} from '../../src/transfer/request.ts'
import { FakeClock } from './fake-clock.ts'
import { FakeFinder, type FakeSource } from './fake-source.ts'
import { openScratchFolder, type ScratchFolder } from './scratch-folder.ts'
import { openTestStore, type TestFile } from './store-fixture.ts'
import { seededRandom } from './swarm-simulator.ts'

export interface DownloadFixture extends AsyncDisposable {
  readonly scratch: ScratchFolder
  readonly store: Store
  readonly clock: FakeClock
  readonly finder: FakeFinder
  readonly deps: DownloadDeps
  readonly notices: string[]
  readonly progress: DownloadProgress[]
  /** Where the model goes. */
  readonly folder: string
  options(more?: Partial<DownloadOptions>): DownloadOptions
  wanted(files: Readonly<Record<string, TestFile>>): WantedFile[]
  /** Runs a download of these files to its end. */
  download(
    files: Readonly<Record<string, TestFile>>,
    more?: Partial<DownloadOptions & DownloadRequest>,
  ): Promise<DownloadResult>
  /** Lets time pass until the work is done. */
  passTime<T>(work: Promise<T>): Promise<T>
  read(path: string): Promise<Buffer>
}

export async function openDownloadFixture(
  sources: readonly FakeSource[] = [],
): Promise<DownloadFixture> {
  const scratch = await openScratchFolder()
  const store = await openTestStore(scratch.path)
  const clock = new FakeClock()
  const finder = new FakeFinder(sources)
  const deps = { store, finder, clock, log: silentLog, random: seededRandom(1) }
  const folder = scratch.file('target')
  const notices: string[] = []
  const progress: DownloadProgress[] = []
  const options = (more: Partial<DownloadOptions> = {}): DownloadOptions => ({
    signal: new AbortController().signal,
    peers: [],
    patienceMs: 5 * minute,
    onProgress: told => void progress.push(told),
    onNotice: (level, message) => void notices.push(`${level}: ${message}`),
    ...more,
  })
  const wanted = (files: Readonly<Record<string, TestFile>>): WantedFile[] =>
    Object.entries(files).map(([path, { table, sha256, root }]) => {
      return { path, size: table.size, sha256, root, place: join(folder, path) }
    })
  const passTime = async <T>(work: Promise<T>): Promise<T> => {
    const done = new AbortController()
    const ended = work.finally(() => done.abort())
    ended.catch(() => undefined)
    while (!done.signal.aborted) await clock.advance(50)
    return ended
  }
  return {
    scratch,
    store,
    clock,
    finder,
    deps,
    notices,
    progress,
    folder,
    options,
    wanted,
    passTime,
    download(files, more = {}) {
      const keys: readonly CID[] = Object.values(files).map(({ root }) => root)
      const request = { keys, folder, files: wanted(files), ...more }
      return passTime(download(deps, request, options(more)))
    },
    read: path => readFile(join(folder, path)),
    async [Symbol.asyncDispose]() {
      await store[Symbol.asyncDispose]()
      await scratch[Symbol.asyncDispose]()
    },
  }
}
