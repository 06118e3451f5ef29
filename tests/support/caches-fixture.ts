/** A node's store beside a hub cache of a scratch folder, what is read counted; and adoption of such caches. */

import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { AdoptedEvent, AdoptionEvent, AdoptRequest } from '../../src/api/adoption.ts'
import { adoptRequestSchema } from '../../src/api/adoption.ts'
import { type Clock, systemClock } from '../../src/core/clock.ts'
import { silentLog } from '../../src/core/log.ts'
import { findFiles } from '../../src/ingest/folder.ts'
import type { HashPool } from '../../src/ingest/hash-file.ts'
import { type ImportedModel, importFiles } from '../../src/ingest/import-files.ts'
import { adopt, type AdoptDeps } from '../../src/ops/adopt/adopt.ts'
import type { Store } from '../../src/store/store.ts'
import { writeFiles } from './model-files.ts'
import { openScratchFolder, type ScratchFolder } from './scratch-folder.ts'
import { openTestStore } from './store-fixture.ts'

export interface CachesFixture extends AsyncDisposable {
  readonly scratch: ScratchFolder
  /** The hub cache; not there yet. */
  readonly root: string
  readonly home: string
  readonly modelsFolder: string
  readonly store: Store
  /** A test may put another one in its place. */
  pool: HashPool
  /** Places read to hash them, and to compare their SHA-256 alone. */
  readonly hashed: string[]
  readonly compared: string[]
  adoptDeps(clock?: Clock): AdoptDeps
  /** Of the hub cache when no folder is named. */
  adopt(request?: Partial<AdoptRequest>, signal?: AbortSignal): Promise<Adopted>
  /** A model of these files, which are written into the folder. */
  importModel(folder: string, files: Parameters<typeof writeFiles>[1]): Promise<ImportedModel>
}

export interface Adopted {
  readonly models: AdoptedEvent[]
  readonly notices: string[]
  readonly result: AdoptionEvent
}

export async function openCachesFixture(threads: HashPool): Promise<CachesFixture> {
  await using opening = new AsyncDisposableStack()
  const scratch = opening.use(await openScratchFolder())
  const home = scratch.file('home')
  const modelsFolder = join(home, 'models')
  await mkdir(home)
  const store = opening.use(await openTestStore(home))
  const hashed: string[] = []
  const compared: string[] = []
  const pool: HashPool = {
    ...threads,
    hashFiles(places, options) {
      hashed.push(...places)
      return threads.hashFiles(places, options)
    },
    sha256(place, options) {
      compared.push(place)
      return threads.sha256(place, options)
    },
  }
  const parts = opening.move()
  const root = scratch.file('hub')
  const fixture: CachesFixture = {
    scratch,
    root,
    home,
    modelsFolder,
    store,
    pool,
    hashed,
    compared,
    adoptDeps(clock = systemClock) {
      const net = { providedChanged: () => undefined }
      return { store, pool: fixture.pool, home, modelsFolder, net, clock, log: silentLog }
    },
    async adopt(request = { hf: [root] }, signal = new AbortController().signal) {
      const models: AdoptedEvent[] = []
      const notices: string[] = []
      hashed.length = 0
      const parsed = adoptRequestSchema.parse({ kind: 'adopt', ...request })
      const result = await adopt(fixture.adoptDeps(), parsed, {
        signal,
        onEvent(event) {
          if (event.type === 'adopted') models.push(event)
          if (event.type === 'notice') notices.push(event.message)
        },
      })
      return { models, notices, result }
    },
    async importModel(folder, files) {
      return importFiles({ pool: threads }, await findFiles([await writeFiles(folder, files)]))
    },
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  }
  return fixture
}
