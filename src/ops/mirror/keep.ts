/** What was fetched of a hub's commit becomes a model: its manifest, its name, and what the hub says of it. */

import type { MirroredEvent } from '../../api/contract.ts'
import type { HubFile, HubInfo } from '../../hub/answers.ts'
import { hubName, type HubRepo, hubUrl, repoPath } from '../../hub/ref.ts'
import { commitOf } from '../../manifest/git-commit.ts'
import {
  type ManifestFile,
  type ManifestSource,
  sealManifest,
  type SealedManifest,
} from '../../manifest/manifest.ts'
import type { Clock } from '../../core/clock.ts'
import type { Net } from '../../net/net.ts'
import type { NewFile } from '../../store/new-file.ts'
import type { HeldModel, NewModel, Store } from '../../store/store.ts'
import type { HubFacts } from './hub-facts.ts'
import { hubSeedsOf } from './hub-seed.ts'
import { linkTo } from '../link.ts'
import { isName } from '../ref.ts'

export interface KeepDeps {
  readonly store: Pick<Store, 'addModel' | 'fileAt' | 'findName' | 'originOf' | 'putOrigin'>
  readonly net: Pick<Net, 'addresses' | 'providedChanged'>
  readonly clock: Clock
}

/** A file of the commit, at its place and checked. */
export interface Obtained {
  readonly from: HubFile
  readonly file: NewFile
}

export interface KeptCommit {
  readonly info: HubInfo
  readonly folder: string
  /** These are all files of the commit. */
  readonly isWhole: boolean
  readonly obtained: readonly Obtained[]
  readonly facts: HubFacts
  /** Where the hub was asked. */
  readonly upstream: string
  readonly pinned: boolean
  readonly seeding: boolean
  /** It gets the repository's name, if that may be. */
  readonly isNamed: boolean
  readonly onNotice: OnNotice
}

export type OnNotice = (level: 'info' | 'warn', message: string) => void

export function keepCommit(
  deps: KeepDeps,
  kept: KeptCommit,
): Pick<MirroredEvent, 'link' | 'manifest' | 'name'> {
  const { store } = deps
  const { info, folder, isWhole, obtained, facts, upstream, pinned, seeding } = kept
  const { type, repo } = info
  const sealed = seal(kept)
  const manifest = sealed.cid.toString()
  const model: NewModel = {
    manifest: sealed.cid,
    block: sealed.block,
    name: kept.isNamed ? mirrorName(deps, { ...kept, type, repo, manifest }) : undefined,
    origin: 'pulled',
    folder,
    pinned,
    seeding,
    files: obtained.map(({ from, file }) => {
      const { place, sha256, root } = file
      return { path: from.path, place, size: from.size, sha256, root }
    }),
  }
  // Those that gc forgot meanwhile, because no model wanted them yet.
  const forgotten = obtained
    .map(({ file }) => file)
    .filter(({ place, stamp }) => store.fileAt(place, stamp) === undefined)
  const held = store.addModel(model, forgotten)
  return keepOrigin(deps, held, { info, isWhole, facts, upstream })
}

/** What the hub said of a model that is here. */
export function keepOrigin(
  deps: KeepDeps,
  held: HeldModel,
  { info, isWhole, facts, upstream }: Pick<KeptCommit, 'facts' | 'info' | 'isWhole' | 'upstream'>,
): Pick<MirroredEvent, 'link' | 'manifest' | 'name'> {
  const { store, net, clock } = deps
  const { manifest, name = null } = held
  store.putOrigin({
    manifest,
    hub: hubName,
    type: info.type,
    repo: info.repo,
    revision: info.commit,
    upstream,
    isWhole,
    seenAtMs: clock.now(),
    facts: JSON.stringify(facts),
  })
  net.providedChanged()
  const link = linkTo(net, held, hubSeedsOf(store, manifest))
  return { manifest: manifest.toString(), name, link }
}

function seal({ info, isWhole, obtained }: KeptCommit): SealedManifest {
  const plain = sealManifest(obtained.map(entry => manifestFile(entry, false)))
  if (!isWhole) return plain
  // A gateway makes up a commit for a model that never had one: that is the model itself.
  const made = commitOf(plain.manifest.files, plain.cid.toString())
  if (made.id === info.commit) return plain
  return sealManifest(
    obtained.map(entry => manifestFile(entry, true)),
    sourceOf(info),
  )
}

function manifestFile({ from, file }: Obtained, isWhole: boolean): ManifestFile {
  const { sha256, root } = file
  const plain = { path: from.path, size: from.size, sha256, root }
  return isWhole ? { ...plain, gitOid: from.gitOid, lfs: from.sha256 !== undefined } : plain
}

function sourceOf({ type, repo, commit }: HubInfo): ManifestSource {
  return { hub: hubName, repo, type, commit }
}

export interface NameWish extends HubRepo {
  readonly manifest: string
  readonly isWhole: boolean
  /** Who says that it is of this repository; empty when nobody was asked. */
  readonly upstream: string
  readonly onNotice: OnNotice
}

/**
 * The newest whole mirror has the repository's name. It takes it from an older one, which came from the same
 * place or from one less sure than the hub, and from no other model: anybody may answer for a hub.
 */
export function mirrorName(
  { store }: { readonly store: Pick<Store, 'findName' | 'originOf'> },
  wish: NameWish,
): string | undefined {
  const { manifest, isWhole, upstream, onNotice } = wish
  const name = repoPath(wish)
  // Hubs allow names that ours do not.
  if (!isName(name)) return undefined
  const holder = store.findName(name)
  if (holder === undefined || holder.manifest.toString() === manifest) return name
  const older = holder.manifest.toString()
  const origin = store.originOf(holder.manifest)
  const isOlder = origin?.type === wish.type && origin.repo === wish.repo
  if (isWhole && isOlder && (origin.upstream === upstream || upstream === hubUrl)) {
    onNotice('info', `${name} names a newer revision now; it named ${older}`)
    return name
  }
  onNotice(
    'warn',
    `${name} is the name of another model here: this one is kept without it. commonweight name ${name} ${manifest} gives it this name`,
  )
  return undefined
}
