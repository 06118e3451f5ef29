/**
 * What a hub says of a model beside its files: refs, licence, who may have it, the model card's head, Xet
 * hashes. Kept beside the manifest, which must not depend on what may change.
 */

import { z } from 'zod'
import type { SourceView } from '../../api/contract.ts'
import type { ManifestSource } from '../../manifest/manifest.ts'
import { decodeManifest } from '../../manifest/manifest.ts'
import { sourceTypes } from '../../manifest/source.ts'
import type { HubFile, HubInfo, HubRefs } from '../../hub/answers.ts'
import { MiB } from '../../core/units.ts'
import type { CID } from '../../core/cid.ts'
import type { Origin, Store } from '../../store/store.ts'

/** Cards of a few KiB are usual; a longer one is left out. */
const cardBytesMax = MiB

const factsSchema = z.object({
  licence: z.string().nullable().catch(null),
  gated: z.enum(['auto', 'manual']).nullable().catch(null),
  lastModified: z.string().nullable().catch(null),
  tags: z.array(z.string()).catch([]),
  refs: z.record(z.string(), z.string()).catch({}),
  cardData: z.unknown().optional(),
  /** Xet hashes by path. */
  xet: z.record(z.string(), z.string()).catch({}),
})
export type HubFacts = z.infer<typeof factsSchema>

/** Of what was never asked about. */
export const noFacts: HubFacts = {
  licence: null,
  gated: null,
  lastModified: null,
  tags: [],
  refs: {},
  cardData: null,
  xet: {},
}

export function factsOf(
  info: HubInfo,
  refs: HubRefs | undefined,
  files: readonly HubFile[],
): HubFacts {
  const cardText = JSON.stringify(info.cardData ?? null)
  const xet = files.flatMap(({ path, xetHash }) => (xetHash === undefined ? [] : [[path, xetHash]]))
  return {
    licence: info.licence ?? null,
    gated: info.gated === false ? null : info.gated,
    lastModified: info.lastModified ?? null,
    tags: [...info.tags],
    refs: { ...refs?.tags, ...refs?.branches },
    cardData: cardText.length > cardBytesMax ? null : info.cardData,
    xet: Object.fromEntries(xet) as Record<string, string>,
  }
}

/** What was stored; of another version what is understood. */
export function readFacts(text: string): HubFacts {
  return factsSchema.parse(parseJson(text))
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch {
    return {}
  }
}

/** Where a model came from: what is stored beside it, or what its manifest says. Null when nobody knows. */
export function sourceView(
  store: Pick<Store, 'manifestBlock' | 'originOf'>,
  manifest: CID,
): SourceView | null {
  const origin = store.originOf(manifest)
  if (origin !== undefined) return originView(origin)
  const block = store.manifestBlock(manifest)
  const source = block === undefined ? undefined : decodeManifest(block).source
  return source === undefined ? null : claimView(source)
}

/** By path, those that can be one. */
export function xetHashesOf(
  store: Pick<Store, 'originOf'>,
  manifest: CID,
): ReadonlyMap<string, string> {
  const origin = store.originOf(manifest)
  return xetOf(origin === undefined ? noFacts : readFacts(origin.facts))
}

export function xetOf({ xet }: HubFacts): ReadonlyMap<string, string> {
  return new Map(Object.entries(xet).filter(([, text]) => /^[0-9a-f]{64}$/u.test(text)))
}

function originView(origin: Origin): SourceView {
  const { hub, repo, upstream, seenAtMs, isWhole } = origin
  const type = sourceTypes.find(each => each === origin.type) ?? 'model'
  const commit = origin.revision
  const view = factsView({ hub, repo, type, commit, upstream, seenAtMs }, readFacts(origin.facts))
  return { ...view, whole: isWhole }
}

/** Of a whole commit. */
export function factsView(
  from: ManifestSource & { readonly upstream: string; readonly seenAtMs: number | null },
  { xet, ...facts }: HubFacts,
): SourceView {
  const { hub, repo, type, commit, upstream, seenAtMs } = from
  return {
    type: 'source',
    hub,
    repo,
    kind: type,
    commit,
    whole: true,
    upstream: upstream === '' ? null : upstream,
    seenAtMs,
    ...facts,
    cardData: facts.cardData ?? null,
    xetHashes: Object.keys(xet).length,
  }
}

/** Nothing but what the manifest claims. */
function claimView(source: ManifestSource): SourceView {
  return factsView({ ...source, upstream: '', seenAtMs: null }, noFacts)
}
