/** Seed: files where they lie become a model that is pinned, announced and served. Nothing is copied. */

import { dirname, sep } from 'node:path'
import type { SeededEvent, SeedRequest } from '../api/contract.ts'
import type { Clock } from '../core/clock.ts'
import { sameCid } from '../core/cid.ts'
import type { Logger } from '../core/log.ts'
import { findFiles } from '../ingest/folder.ts'
import type { HashPool } from '../ingest/hash-file.ts'
import { openImport } from '../ingest/import-files.ts'
import type { Net } from '../net/net.ts'
import type { NewModel, Store } from '../store/store.ts'
import { refuseHome } from './home-guard.ts'
import { linkTo } from './link.ts'
import { openMeter } from './meter.ts'
import type { OperationOptions } from './operation.ts'
import { parseName } from './ref.ts'

export interface SeedDeps {
  readonly store: Pick<Store, 'addModel' | 'filesAt' | 'models'>
  readonly net: Pick<Net, 'addresses' | 'providedChanged'>
  readonly pool: HashPool
  readonly clock: Clock
  readonly log: Logger
  readonly home: string
  /** Inside the home, and the one folder of it that may be seeded. */
  readonly modelsFolder: string
}

export async function seed(
  deps: SeedDeps,
  request: SeedRequest,
  options: OperationOptions,
): Promise<SeededEvent> {
  const { store, net, pool, clock, log } = deps
  const { signal } = options
  const name = request.name === undefined ? undefined : parseName(request.name)
  const meter = openMeter(clock, options.onEvent)

  pool.warm()
  for (const path of request.paths) await refuseHome(deps, path)
  await using importing = openImport(
    { pool, known: files => store.filesAt(files) },
    { signal, onProgress: progress => meter.report({ phase: 'hashing', peers: 0, ...progress }) },
  )
  // The first files are hashed while the last ones are still looked for.
  await findFiles(request.paths, {
    signal: importing.signal,
    onFiles: files => importing.add(files),
  })
  const imported = await importing.finish()

  const placements = imported.files.map(({ path, file }) => {
    const { place, stamp, sha256, root } = file
    return { path, place, size: stamp.size, sha256, root }
  })
  const model: NewModel = {
    manifest: imported.cid,
    block: imported.block,
    name,
    origin: 'seeded',
    folder: folderOf(request.paths),
    pinned: true,
    seeding: true,
    files: placements,
  }
  noticeMovedName(store, model, options)
  const held = store.addModel(model, imported.fresh)
  net.providedChanged()
  log.info('model seeded', { manifest: imported.cid.toString(), name, bytes: imported.bytes })
  return {
    type: 'seeded',
    manifest: imported.cid.toString(),
    name: held.name ?? null,
    files: imported.files.length,
    bytes: imported.bytes,
    link: linkTo(net, held),
  }
}

/** A name belongs to the model that got it last: who seeds a new revision wants that, and is told. */
function noticeMovedName(
  store: SeedDeps['store'],
  { name, manifest }: NewModel,
  { onEvent }: OperationOptions,
): void {
  const before = store.models().find(other => other.name === name && name !== undefined)
  if (before === undefined || sameCid(before.manifest, manifest)) return
  const message = `${name} now names this model; it named ${before.manifest.toString()}, which is kept`
  onEvent({ type: 'notice', level: 'warn', message })
}

/** The folder (or single file) given, or the deepest folder that holds all that was given. */
function folderOf(paths: readonly string[]): string {
  const [first = '', ...others] = paths
  let common = first
  for (const other of others) {
    while (
      other !== common &&
      !other.startsWith(withSeparator(common)) &&
      common !== dirname(common)
    ) {
      common = dirname(common)
    }
  }
  return common
}

function withSeparator(folder: string): string {
  return folder.endsWith(sep) ? folder : `${folder}${sep}`
}
