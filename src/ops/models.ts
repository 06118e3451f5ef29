/** Models held here, by what a user calls them. */

import { type CID, rawCid, sameCid } from '../core/cid.ts'
import { equalBytes } from '../core/bytes.ts'
import { InvalidInputError, NotFoundError } from '../core/errors.ts'
import type { HeldFile, HeldModel, Store } from '../store/store.ts'
import { parseRef, type Ref } from './ref.ts'

export type ModelStore = Pick<Store, 'model' | 'models' | 'filesOf'>

/** The model a REF means; NotFoundError when it is not held, InvalidInputError for a file in several. */
export function findModel(store: ModelStore, text: string): HeldModel {
  const ref = parseRef(text)
  const found = modelsFor(store, ref)
  const [model] = found
  if (model === undefined) {
    throw new NotFoundError(`no model ${text} is held here`, {
      hint: 'commonweight ls shows what is held; commonweight pull LINK fetches a model',
    })
  }
  if (found.length > 1) {
    const manifests = found.map(({ manifest }) => manifest.toString()).join(', ')
    throw new InvalidInputError(`${text} is in ${found.length} models: ${manifests}`, {
      hint: 'name one of them by its manifest',
    })
  }
  return model
}

function modelsFor(store: ModelStore, ref: Ref): HeldModel[] {
  switch (ref.kind) {
    case 'manifest':
      return [store.model(ref.manifest)].filter(model => model !== undefined)
    case 'name':
      return store.models().filter(({ name }) => name === ref.name)
    case 'file':
      return modelsWith(store, file => sameCid(file.root, ref.root))
    case 'sha256':
      return modelsWith(store, file => equalBytes(file.sha256, ref.digest))
  }
}

function modelsWith(store: ModelStore, isWanted: (file: HeldFile) => boolean): HeldModel[] {
  return store.models().filter(({ manifest }) => store.filesOf(manifest).some(isWanted))
}

/** What providers of a REF announce: the manifest, or the file by its root or its SHA-256. */
export function keysOf(store: ModelStore, ref: Ref): CID[] {
  switch (ref.kind) {
    case 'manifest':
      return [ref.manifest]
    case 'file':
      return [ref.root]
    case 'sha256':
      return [rawCid(ref.digest)]
    case 'name':
      return [findModel(store, ref.name).manifest]
  }
}
