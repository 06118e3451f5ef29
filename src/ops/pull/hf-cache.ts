/** The last step of a pull with --hf-cache: what was fetched is put where offline tools look for it. */

import type { PullRequest } from '../../api/contract.ts'
import { type HubLayout, hubLayout } from '../../caches/hub-layout.ts'
import type { CID } from '../../core/cid.ts'
import type { Clock } from '../../core/clock.ts'
import type { Manifest, ManifestFile } from '../../manifest/manifest.ts'
import { fillHubCache, type HubCacheDeps } from './fill-hub-cache.ts'
import { openMeter } from '../meter.ts'
import type { OperationOptions } from '../operation.ts'

export interface PullHubCacheDeps extends HubCacheDeps {
  readonly clock: Clock
}

export interface PlannedHubCache {
  /** Absolute. */
  readonly root: string
  readonly layout: HubLayout
}

/** Undefined when it was not asked for. Throws InvalidInputError before anything is fetched. */
export function planHubCache(
  { hfCache }: PullRequest,
  manifest: Manifest,
  about: { readonly cid: CID; readonly name: string | undefined },
): PlannedHubCache | undefined {
  return hfCache === undefined ? undefined : { root: hfCache, layout: hubLayout(manifest, about) }
}

/** Returns the folder of the snapshot. */
export async function writeToHubCache(
  deps: PullHubCacheDeps,
  wish: PlannedHubCache & {
    readonly files: readonly (ManifestFile & { readonly place: string })[]
  },
  { signal, onEvent }: OperationOptions,
): Promise<string> {
  const meter = openMeter(deps.clock, onEvent)
  const bytesTotal = wish.files.reduce((sum, { size }) => sum + size, 0)
  let filesDone = 0
  let bytesDone = 0
  return fillHubCache(deps, wish, {
    signal,
    onFile(bytes) {
      filesDone += 1
      bytesDone += bytes
      const totals = { filesTotal: wish.files.length, bytesTotal, peers: 0 }
      meter.report({ phase: 'publishing', filesDone, bytesDone, ...totals })
    },
    onNotice: message => onEvent({ type: 'notice', level: 'info', message }),
  })
}
