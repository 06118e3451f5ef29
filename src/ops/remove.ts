/** rm: forgets a model, or a name that is bound to a link; what is being fetched is not taken away from under it. */

import type { RemovedView } from '../api/contract.ts'
import { ConflictError } from '../core/errors.ts'
import type { Net } from '../net/net.ts'
import type { Store } from '../store/store.ts'
import type { NodeGateway } from './gateway/gateway.ts'
import { unbindName } from './gateway/names.ts'
import { findModel } from './models.ts'
import { forgetPulls } from './pull/pending.ts'
import { removedView } from './views.ts'

export interface RemoveDeps {
  readonly store: Store
  readonly net: Pick<Net, 'providedChanged'>
  readonly gateway: Pick<NodeGateway, 'isFetching'>
}

export async function remove(
  { store, net, gateway }: RemoveDeps,
  ref: string,
  { files }: { readonly files: boolean },
): Promise<RemovedView> {
  const unbound = unbindName(store, ref)
  if (unbound !== undefined) {
    return removedView(unbound, { filesDeleted: 0, bytesFreed: 0, kept: [] })
  }
  const { manifest, name } = findModel(store, ref)
  const cid = manifest.toString()
  const refs = [name, `hf:${name}`]
  forgetPulls(store, ({ ref: asked }) => asked.includes(cid) || refs.includes(asked))
  try {
    const removed = await store.removeModel(manifest, { deleteFiles: files })
    net.providedChanged()
    return removedView(manifest, removed)
  } catch (error) {
    const isOfReader = error instanceof ConflictError && gateway.isFetching(manifest)
    throw isOfReader ? fetchedError(name ?? cid, error) : error
  }
}

function fetchedError(shown: string, cause: unknown): ConflictError {
  return new ConflictError(`${shown} is being fetched for a program that reads it here`, {
    cause,
    hint: 'end the program that asked the gateway for it, and try again half a minute later',
  })
}
