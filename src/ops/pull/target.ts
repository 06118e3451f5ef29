/** Where a pull puts its files: the folder asked for, where the model already is, or one of our own. */

import { dirname, join, sep } from 'node:path'
import { type CID, sameCid } from '../../core/cid.ts'
import { InvalidInputError } from '../../core/errors.ts'
import type { HeldModel, ModelOrigin, Store } from '../../store/store.ts'
import { isInside } from '../home-guard.ts'

export interface Target {
  /** Absolute. */
  readonly folder: string
  /** The model is kept elsewhere and stays there: only its files are wanted here too. */
  readonly isCopy: boolean
  /** What was seeded stays the user's, whatever of it is fetched again. */
  readonly origin: ModelOrigin
  /** Absolute place of a file of the manifest. */
  placeOf(path: string): string
}

export interface TargetWish {
  /** The manifest, or what names a single file. */
  readonly manifest: CID
  readonly name: string | undefined
  readonly to: string | undefined
}

/** Characters of a CID that tell two models of one name apart in a folder's name. */
const tagCharacters = 8

export async function chooseTarget(
  deps: { readonly store: Store; readonly modelsFolder: string },
  wish: TargetWish,
): Promise<Target> {
  const { store, modelsFolder } = deps
  const model = store.model(wish.manifest)
  if (model !== undefined) await store.refresh(wish.manifest)
  const own =
    model === undefined || isElsewhere(store, model)
      ? ownFolder(store, modelsFolder, wish)
      : folderOf(store, model)
  const folder = wish.to ?? own
  if (model === undefined || folder === own) {
    const origin = model?.origin ?? 'pulled'
    return { folder, isCopy: false, origin, placeOf: placesOf(store, model, folder) }
  }
  refuseInside(own, folder)
  const isWhole = store.model(wish.manifest)?.state === 'complete'
  return { folder, isCopy: isWhole, origin: 'pulled', placeOf: path => placeIn(folder, path) }
}

/**
 * A file of a model that is here already stays where it is; the others go to the folder, also those that
 * were outside of it, in the cache of another program.
 */
function placesOf(
  store: Store,
  model: HeldModel | undefined,
  folder: string,
): (path: string) => string {
  const held = model === undefined ? [] : store.filesOf(model.manifest)
  const kept = held.filter(({ place, state }) => state === 'held' || isInside(place, folder))
  const places = new Map(kept.map(({ path, place }) => [path, place]))
  return path => places.get(path) ?? placeIn(folder, path)
}

/** Manifest paths use `/` and were validated when the manifest was decoded. */
function placeIn(folder: string, path: string): string {
  return join(folder, ...path.split('/'))
}

/** Named after the model, unless another model of that name was there first. */
export function ownFolder(
  store: Pick<Store, 'models'>,
  modelsFolder: string,
  { manifest, name }: Pick<TargetWish, 'manifest' | 'name'>,
): string {
  const cid = manifest.toString()
  if (name === undefined) return join(modelsFolder, cid)
  const folder = placeIn(modelsFolder, name)
  const isTaken = store
    .models()
    .some(
      other =>
        (other.folder === folder || other.name === name) && !sameCid(other.manifest, manifest),
    )
  return isTaken ? `${folder}-${cid.slice(-tagCharacters)}` : folder
}

/** Its files lie in the cache of another program: nothing is fetched into that. */
function isElsewhere(store: Store, { manifest, folder }: HeldModel): boolean {
  return store.filesOf(manifest).every(({ place }) => !isInside(place, folder))
}

/** A seeded single file is its own folder in the store: what is pulled goes beside it. */
function folderOf(store: Store, model: HeldModel): string {
  const isFile = store.filesOf(model.manifest).some(({ place }) => place === model.folder)
  return isFile ? dirname(model.folder) : model.folder
}

function refuseInside(own: string, folder: string): void {
  if (!folder.startsWith(`${own}${sep}`)) return
  throw new InvalidInputError(`${folder} lies inside the model's own folder ${own}`, {
    hint: 'choose a folder outside of it with --to',
  })
}
