/**
 * Files of caches and manifests that are held already: a part of a known model is no model of its own,
 * and a model that lacks files has those that turned up.
 */

import type { NoticeEvent } from '../../api/contract.ts'
import type { FoundModel } from '../../caches/found.ts'
import { toHex } from '../../core/bytes.ts'
import { type CID, sameCid } from '../../core/cid.ts'
import type { HashedFile } from '../../ingest/hash-file.ts'
import { decodeManifest, type Manifest } from '../../manifest/manifest.ts'
import type { HeldModel, Store } from '../../store/store.ts'

export type JoinStore = Pick<Store, 'addModel' | 'filesOf' | 'manifestBlock' | 'model' | 'models'>

export class Joining {
  readonly #store: JoinStore
  /** The manifests that want a file, by its SHA-256; made when it is first asked for. */
  #wanting: Map<string, Set<CID>> | undefined
  /** Places of files, by the text of their root. */
  readonly #turnedUp = new Map<string, string>()

  constructor(store: JoinStore) {
    this.#store = store
  }

  turnedUp(files: Iterable<Pick<HashedFile, 'place' | 'root'>>): void {
    for (const { root, place } of files) this.#turnedUp.set(root.toString(), place)
  }

  /**
   * The held model of which these files are a part: when the cache says that some are missing or that
   * they are of the very commit, or when the model was adopted from this place and was more then.
   */
  partOf(found: FoundModel, files: ReadonlyMap<string, HashedFile>): HeldModel | undefined {
    if (found.cache !== 'hf' || found.whole !== undefined) return undefined
    const fitting = [...this.#candidates(files)].flatMap(cid => {
      const model = this.#store.model(cid)
      const manifest = this.#manifest(cid)
      if (model === undefined || manifest === undefined) return []
      const isPart = fits(found, model, manifest, files.size) && hasFiles(manifest, files)
      return isPart ? [model] : []
    })
    // Copies of a repository have the same files: the one of this name counts before others.
    const title = found.title.toLowerCase()
    return fitting.find(({ name }) => name?.toLowerCase() === title) ?? fitting[0]
  }

  /** Tells of each model that has files now that it lacked. */
  join(onEvent: (event: NoticeEvent) => void): void {
    if (this.#turnedUp.size === 0) return
    const store = this.#store
    for (const model of store.models()) {
      if (model.state === 'complete') continue
      const all = store.filesOf(model.manifest)
      // A pull that goes on, or will, uses what is here by itself.
      if (all.some(({ state }) => state === 'partial')) continue
      const files = all.flatMap(file => {
        const place = this.#turnedUp.get(file.root.toString())
        const isLacking = file.state === 'missing' || file.state === 'changed'
        if (place === undefined || place === file.place || !isLacking) return []
        const { path, size, sha256, root } = file
        return [{ path, place, size, sha256, root }]
      })
      const block = store.manifestBlock(model.manifest)
      if (files.length === 0 || block === undefined) continue
      store.addModel({ ...model, block, files })
      const name = model.name ?? model.manifest.toString()
      const message = `${name} has ${files.length} files now that it lacked`
      onEvent({ type: 'notice', level: 'info', message })
    }
  }

  /** Those that want the rarest of these files. */
  #candidates(files: ReadonlyMap<string, HashedFile>): Iterable<CID> {
    const wanting = (this.#wanting ??= this.#index())
    let fewest: ReadonlySet<CID> | undefined
    for (const { sha256 } of files.values()) {
      const manifests = wanting.get(toHex(sha256))
      if (manifests === undefined) return []
      if (fewest === undefined || manifests.size < fewest.size) fewest = manifests
    }
    return fewest ?? []
  }

  #index(): Map<string, Set<CID>> {
    const wanting = new Map<string, Set<CID>>()
    const store = this.#store
    for (const { manifest } of store.models()) {
      for (const { sha256 } of store.filesOf(manifest)) {
        const key = toHex(sha256)
        const manifests = wanting.get(key)
        if (manifests === undefined) wanting.set(key, new Set([manifest]))
        else manifests.add(manifest)
      }
    }
    return wanting
  }

  #manifest(cid: CID): Manifest | undefined {
    const block = this.#store.manifestBlock(cid)
    return block === undefined ? undefined : decodeManifest(block)
  }
}

function hasFiles({ files }: Manifest, wanted: ReadonlyMap<string, HashedFile>): boolean {
  const listed = new Map(files.map(({ path, root }) => [path, root]))
  return [...wanted].every(([path, { root }]) => {
    const other = listed.get(path)
    return other !== undefined && sameCid(other, root)
  })
}

/** Whether files that the manifest lists are the model, or a part of it, to adoption. */
export function fits(
  { isPart, commit, folder }: FoundModel,
  model: HeldModel,
  manifest: Manifest,
  filesHere: number,
): boolean {
  const { source, files } = manifest
  const isCommit = source !== undefined && source.commit === commit
  // What has as many files is this very model, unless it knows more of them.
  const fewest = isCommit ? filesHere : filesHere + 1
  return files.length >= fewest && (isPart || isCommit || model.folder === folder)
}
