/**
 * Files of a cache that nobody has read: which held model they are, if they are what the cache says. A dry
 * run tells by it what adoption would find, without reading them.
 */

import type { FileClaim, FoundModel } from '../../caches/found.ts'
import { toHex } from '../../core/bytes.ts'
import type { CID } from '../../core/cid.ts'
import type { FoundFile } from '../../ingest/folder.ts'
import { commitOf } from '../../manifest/git-commit.ts'
import { decodeManifest, type Manifest, type ManifestFile } from '../../manifest/manifest.ts'
import type { HeldModel, Store } from '../../store/store.ts'
import { fits } from './join.ts'

export type UnreadStore = Pick<Store, 'filesOf' | 'manifestBlock' | 'model' | 'models'>

/** `likely`: by names and sizes, where the cache says no more of some file. */
export type Guess = 'sure' | 'likely'

export class UnreadFiles {
  readonly #store: UnreadStore
  /** Models by path and size of their files; made when it is first asked for. */
  #models: Map<string, Set<CID>> | undefined

  constructor(store: UnreadStore) {
    this.#store = store
  }

  /** Undefined when no held model can be meant. */
  heldAs(found: FoundModel): Guess | undefined {
    let guess: Guess | undefined
    for (const cid of this.#candidates(found)) {
      const model = this.#store.model(cid)
      const block = this.#store.manifestBlock(cid)
      if (model === undefined || block === undefined) continue
      const match = matchOf(found, decodeManifest(block), model)
      if (match === 'sure') return match
      guess ??= match
    }
    return guess
  }

  /** Those that have its largest file, which the fewest have. */
  #candidates({ files }: FoundModel): Iterable<CID> {
    const [largest] = files.toSorted((a, b) => b.size - a.size)
    this.#models ??= this.#index()
    return largest === undefined ? [] : (this.#models.get(keyOf(largest)) ?? [])
  }

  #index(): Map<string, Set<CID>> {
    const models = new Map<string, Set<CID>>()
    for (const { manifest } of this.#store.models()) {
      for (const file of this.#store.filesOf(manifest)) {
        const key = keyOf(file)
        const having = models.get(key)
        if (having === undefined) models.set(key, new Set([manifest]))
        else having.add(manifest)
      }
    }
    return models
  }
}

function keyOf({ path, size }: { readonly path: string; readonly size: number }): string {
  return `${size} ${path}`
}

function matchOf(found: FoundModel, manifest: Manifest, model: HeldModel): Guess | undefined {
  if (!wouldBe(found, manifest, model)) return undefined
  const listed = new Map(manifest.files.map(file => [file.path, file]))
  const matches = found.files.map(file =>
    matchOfFile(file, listed.get(file.path), found.claims.get(file.path)),
  )
  if (matches.includes(undefined)) return undefined
  return matches.includes('likely') ? 'likely' : 'sure'
}

/** Whether adoption would call them this model, or a part of it, if the files are the same. */
function wouldBe(found: FoundModel, manifest: Manifest, model: HeldModel): boolean {
  const { files, whole } = found
  const { source } = manifest
  const isAll = manifest.files.length === files.length
  if (whole?.type === undefined) {
    const mayBePart = found.cache === 'hf' && whole === undefined
    const isPart = mayBePart && fits(found, model, manifest, files.length)
    return isPart || (source === undefined && isAll)
  }
  const { commit, repo, type } = whole
  if (source !== undefined) {
    return source.commit === commit && source.repo === repo && source.type === type
  }
  // One that a gateway made up.
  return isAll && commitOf(manifest.files, model.manifest.toString()).id === commit
}

function matchOfFile(
  { size }: FoundFile,
  file: ManifestFile | undefined,
  claim: FileClaim | undefined,
): Guess | undefined {
  if (file?.size !== size) return undefined
  if (claim?.sha256 !== undefined) {
    return claim.sha256 === toHex(file.sha256) ? 'sure' : undefined
  }
  if (claim?.gitOid === undefined || file.gitOid === undefined) return 'likely'
  return claim.gitOid === file.gitOid ? 'sure' : undefined
}
