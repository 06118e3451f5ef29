/** Names that the gateway answers to, given by the user of this node. */

import type { NamedView } from '../../api/contract.ts'
import type { CID } from '../../core/cid.ts'
import { InvalidInputError } from '../../core/errors.ts'
import type { Store } from '../../store/store.ts'
import { findModel } from '../models.ts'
import { formatLink, parseRef } from '../ref.ts'

/** What clients of a hub accept as an id, after the type of what is no model. */
const hubName = /^(?:(?:datasets|spaces|kernels)\/)?[\w\-.]{1,96}(?:\/[\w\-.]{1,96})?$/u
const refusedParts = /--|\.\.|(?:^|\/)[-.]|[-.](?:$|\/)/u

export type NamingStore = Pick<Store, 'bindName' | 'filesOf' | 'model' | 'models' | 'setName'>

/** The model need not be held: then its link is remembered, and it is fetched when somebody asks. */
export function nameModel(store: NamingStore, name: string, text: string): NamedView {
  if (!hubName.test(name) || refusedParts.test(name)) {
    throw new InvalidInputError(`not a name that clients of a hub can ask for: ${name}`, {
      hint: 'a name is ORG/MODEL of letters, digits and . _ -',
    })
  }
  const ref = parseRef(text)
  if (ref.kind !== 'manifest') {
    const { manifest } = findModel(store, text)
    store.setName(manifest, name)
    return { type: 'named', name, manifest: manifest.toString(), held: true }
  }
  const { manifest } = ref
  const isHeld = store.model(manifest) !== undefined
  if (isHeld) store.setName(manifest, name)
  if (!isHeld || ref.peers.length + ref.webSeeds.length > 0) {
    store.bindName(name, { manifest, link: formatLink({ ...ref, name }) })
  }
  return { type: 'named', name, manifest: manifest.toString(), held: isHeld }
}

/** All that the gateway answers to. */
export function namesOf(store: Pick<Store, 'model' | 'names'>): NamedView[] {
  return store.names().map(({ name, manifest }) => ({
    type: 'named',
    name,
    manifest: manifest.toString(),
    held: store.model(manifest) !== undefined,
  }))
}

/** Forgets a name that is bound to a link and is no model's; returns what it meant, undefined for any other. */
export function unbindName(
  store: Pick<Store, 'findName' | 'models' | 'unbindName'>,
  text: string,
): CID | undefined {
  const ref = parseRef(text)
  if (ref.kind !== 'name' || store.models().some(({ name }) => name === ref.name)) return undefined
  const bound = store.findName(ref.name)
  if (bound?.name !== ref.name) return undefined
  store.unbindName(ref.name)
  return bound.manifest
}
