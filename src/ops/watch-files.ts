/**
 * What happens to files behind our back: at start and every few minutes each is looked at, and what
 * changed or vanished is withdrawn. Models whose index was lost are hashed again.
 */

import type { Clock } from '../core/clock.ts'
import { isAbort, messageOf } from '../core/errors.ts'
import type { Logger } from '../core/log.ts'
import { minute } from '../core/units.ts'
import type { HashPool } from '../ingest/hash-file.ts'
import type { Net } from '../net/net.ts'
import type { Store } from '../store/store.ts'

export interface WatchDeps {
  readonly store: Pick<Store, 'addFiles' | 'clearLost' | 'filesOf' | 'lostModels' | 'refresh'>
  readonly net: Pick<Net, 'providedChanged'>
  readonly pool: HashPool
  readonly clock: Clock
  readonly log: Logger
}

/** A stat of 100,000 files takes a second; reads check the stamp anyway, so this only tidies. */
const refreshIntervalMs = 5 * minute

/** Runs until the signal aborts; problems are logged, because nobody waits for this. */
export async function watchFiles(deps: WatchDeps, signal: AbortSignal): Promise<void> {
  const { store, net, clock, log } = deps
  try {
    await rebuildLost(deps, signal)
    for (;;) {
      await store.refresh(undefined, { signal })
      net.providedChanged()
      await clock.sleep(refreshIntervalMs, signal)
    }
  } catch (error) {
    if (!isAbort(error)) log.error('watching the files stopped', { error: messageOf(error) })
  }
}

/** After a damaged index was moved aside: the files are still there, only what is known of them is not. */
async function rebuildLost(deps: WatchDeps, signal: AbortSignal): Promise<void> {
  const { store, net, log } = deps
  const lost = store.lostModels()
  if (lost.length === 0) return
  log.warn('the index was lost: hashing the files of all models again', { models: lost.length })
  for (const { manifest, name } of lost) {
    for (const { place } of store.filesOf(manifest)) await rehash(deps, place, signal)
    store.clearLost(manifest)
    net.providedChanged()
    log.info('model indexed again', { manifest: manifest.toString(), name })
  }
}

async function rehash(
  { store, pool, log }: WatchDeps,
  place: string,
  signal: AbortSignal,
): Promise<void> {
  try {
    store.addFiles([await pool.hashFile(place, { signal })])
  } catch (error) {
    if (isAbort(error)) throw error
    log.warn('a file of a held model cannot be read', { place, error: messageOf(error) })
  }
}
