/** The hub that a model came from as a web seed: named in links, for as long as it still has the files. */

import type { CID } from '../../core/cid.ts'
import { type HubRepo, resolvePath } from '../../hub/ref.ts'
import { sourceTypes } from '../../manifest/source.ts'
import type { Store } from '../../store/store.ts'
import { readFacts } from './hub-facts.ts'

/** None where strangers could not ask: a gated repository, a hub of one's own network, one never asked. */
export function hubSeedsOf(store: Pick<Store, 'originOf'>, manifest: CID): string[] {
  const origin = store.originOf(manifest)
  const type = sourceTypes.find(each => each === origin?.type)
  if (origin === undefined || type === undefined) return []
  const isOpen = origin.upstream.startsWith('https://') && readFacts(origin.facts).gated === null
  const repo: HubRepo = { type, repo: origin.repo }
  return isOpen ? [`${new URL(origin.upstream).origin}${resolvePath(repo, origin.revision)}`] : []
}
