/** Which files of a cache need not be hashed: those that are as they were when they were. */

import type { FoundModel } from '../../caches/found.ts'
import type { HashedFile } from '../../ingest/hash-file.ts'
import type { Store } from '../../store/store.ts'

export type KnownStore = Pick<Store, 'filesAt' | 'filesOf' | 'findName'>

/** By path in the model. */
export function knownFiles(store: KnownStore, found: FoundModel): ReadonlyMap<string, HashedFile> {
  const at = new Map(store.filesAt(found.files).map(file => [file.place, file]))
  const isKnown = found.files.every(({ place }) => at.has(place))
  const pinned = isKnown ? new Map<string, HashedFile>() : pinnedFiles(store, found)
  const known = found.files.flatMap(({ path, place }) => {
    const file = at.get(place) ?? pinned.get(path)
    if (file === undefined) return []
    return [[path, file.place === place ? file : { ...copyOf(file), place }] as const]
  })
  return new Map(known)
}

/**
 * Those that have a second name in the model of the same name: a pin links files, and the index forgets
 * the names in the cache, which no model wants. The same stamp means the same inode.
 */
function pinnedFiles(
  store: KnownStore,
  { name, files }: FoundModel,
): ReadonlyMap<string, HashedFile> {
  const model = name === undefined ? undefined : store.findName(name)
  if (model?.addedAtMs === undefined) return new Map()
  const places = new Map(store.filesOf(model.manifest).map(({ path, place }) => [path, place]))
  const wanted = files.flatMap(({ path, stamp }) => {
    const place = places.get(path)
    return place === undefined ? [] : [{ path, place, stamp }]
  })
  const paths = new Map(wanted.map(({ path, place }) => [place, path]))
  return new Map(store.filesAt(wanted).map(file => [paths.get(file.place) as string, file]))
}

/** Field by field: a file of one chunk makes its table when it is asked for. */
function copyOf({ stamp, sha256, root, table }: HashedFile): Omit<HashedFile, 'place'> {
  return { stamp, sha256, root, table }
}
