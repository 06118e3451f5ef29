/** A manifest by its CID: from the store when it is here, else from whoever has it. */

import type { CID } from '../core/cid.ts'
import { verifyBlock } from '../dag/verify.ts'
import { decodeManifest } from '../manifest/manifest.ts'
import { askSources } from './ask-sources.ts'
import type { DownloadDeps, DownloadOptions, FetchedManifest } from './request.ts'
import type { Source } from './source.ts'

/** NotFoundError when nobody has it; InvalidInputError when those bytes are not a manifest. */
export async function fetchManifest(
  deps: Pick<DownloadDeps, 'finder' | 'clock' | 'log'> & {
    readonly store: Pick<DownloadDeps['store'], 'manifestBlock'>
  },
  manifest: CID,
  options: Pick<DownloadOptions, 'signal' | 'peers' | 'patienceMs' | 'onNotice' | 'onUnreached'>,
): Promise<FetchedManifest> {
  const known = deps.store.manifestBlock(manifest)
  const block = known ?? (await fetchBlock())
  return { manifest: decodeManifest(block), block }

  function fetchBlock(): Promise<Uint8Array> {
    const question = {
      what: `the manifest ${manifest.toString()}`,
      keys: [manifest],
      ask: async (source: Source, signal: AbortSignal): Promise<Uint8Array> => {
        const bytes = await source.fetchManifest(manifest, { signal })
        return verifyBlock(manifest, bytes).bytes
      },
    }
    return askSources(deps, question, options)
  }
}
