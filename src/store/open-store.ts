/** Opens the store: its two databases, and the parts that share them, in the order they need each other. */

import type { Clock } from '../core/clock.ts'
import type { Logger } from '../core/log.ts'
import { MiB } from '../core/units.ts'
import { bootId } from './boot-id.ts'
import { Cache } from './cache.ts'
import { ChunkIndex } from './chunk-index.ts'
import { ChunkReader } from './chunk-reader.ts'
import { openDatabase } from './database.ts'
import { DiskStore } from './disk-store.ts'
import { isInside } from './files.ts'
import { Removal } from './gc.ts'
import { Holdings } from './holdings.ts'
import { indexMigrations, stateMigrations } from './migrations.ts'
import { Models } from './models.ts'
import { OpenFiles } from './open-files.ts'
import { Partials } from './partials.ts'
import type { GrowingHashes } from './prefix-hash.ts'
import type { Owner } from './repair.ts'
import { requireSpace, type Reserve } from './space.ts'
import { StateDb } from './state-db.ts'
import type { StorePaths } from './store-paths.ts'
import type { Store } from './store.ts'

export interface StoreDeps {
  readonly clock: Clock
  readonly log: Logger
  /** Of a whole file, off the main thread. */
  wholeSha256(place: string, signal?: AbortSignal): Promise<Uint8Array>
  /** Hashes files while they are downloaded; at the end only when left out. */
  readonly growing?: GrowingHashes
}

/** The rows of 1M chunks go in a third faster than with SQLite's own 2 MiB. */
const indexCacheBytes = 16 * MiB
/** The rows of 40,000 files: what does not fit is written twice. Taken when it is needed. */
const stateCacheBytes = 16 * MiB

export async function openStore(deps: StoreDeps, options: StorePaths & Reserve): Promise<Store> {
  const { clock, log } = deps
  const boot = await bootId()
  await using stack = new AsyncDisposableStack()
  const opened = openDatabase(deps, {
    path: options.index,
    migrations: indexMigrations,
    synchronous: 'NORMAL',
    cacheBytes: indexCacheBytes,
  })
  const indexDb = stack.use(opened.database)
  const stateOpened = openDatabase(deps, {
    path: options.state,
    migrations: stateMigrations,
    synchronous: 'FULL',
    cacheBytes: stateCacheBytes,
    backup: true,
  })
  const stateDb = stack.use(stateOpened.database)
  const { movedAside, restored } = stateOpened
  if (movedAside !== undefined || restored) {
    const message = restored
      ? 'models, names and pins are back to those of the last start: check that none is missing'
      : 'models, names and pins are lost: seed or pull the models again'
    log.error(message, { movedAside })
  }
  const index = new ChunkIndex(indexDb)
  const state = new StateDb(stateDb, options.index)
  state.noteIndex(index.id)
  const holdings = new Holdings({ clock, index, state, log, boot })
  const files = stack.use(new OpenFiles())
  const models = new Models({ clock, index, state, holdings })
  const forgetReads = (place: string): void => {
    holdings.forgetSeen(place)
    files.forget(place)
  }
  const partials = new Partials({
    index,
    holdings,
    boot,
    checkReserve: folder => requireSpace(folder, 0, options),
    wholeSha256: (place, signal) => deps.wholeSha256(place, signal),
    growing: deps.growing,
    ownerOf: place => ownerOf(state, options.models, place),
    forgetReads,
  })
  const modelsFolder = options.models
  const removal = new Removal({ index, state, holdings, models, partials, files, modelsFolder })
  // Closed before the databases: it has times to save.
  const cache = stack.use(new Cache({ clock, index, state, holdings }))
  const reader = new ChunkReader({ index, holdings, files, cache })
  const read = { files, reader, forgetReads }
  const parts = { index, state, cache, holdings, models, partials, removal, ...read }
  return new DiskStore(parts, options, stack.move())
}

async function ownerOf(state: StateDb, modelsFolder: string, place: string): Promise<Owner> {
  if (await isInside(modelsFolder, place)) return 'home'
  const models = state.modelsAt(place)
  return models.length > 0 && models.every(({ origin }) => origin === 'pulled') ? 'pull' : 'user'
}
