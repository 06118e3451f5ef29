/** The link that lets somebody else pull a model from here. */

import type { LinkView } from '../api/contract.ts'
import { InvalidInputError } from '../core/errors.ts'
import { decodeManifest } from '../manifest/manifest.ts'
import type { Net } from '../net/net.ts'
import { checkWebSeeds, type WebSeedOptions } from '../net/web/web-seeds.ts'
import type { HeldModel, Store } from '../store/store.ts'
import { hubSeedsOf } from './mirror/hub-seed.ts'
import { findModel, type ModelStore } from './models.ts'
import { formatLink, linkWebSeedsMax } from './ref.ts'

/** A link is passed on by hand: two addresses are enough to reach us, the DHT knows the rest. */
const addressesMax = 2
const isLoopback = /^\/(?:ip4\/127\.|ip6\/::1\/)/u

export interface LinkDeps {
  readonly store: ModelStore & Pick<Store, 'manifestBlock' | 'originOf'>
  readonly net: Pick<Net, 'addresses'>
  readonly webSeeds: WebSeedOptions
}

/** The link to a model held here, with web seeds that are checked as a pull does. */
export function linkOf(deps: LinkDeps, ref: string, webSeeds: readonly string[]): LinkView {
  const { store, net } = deps
  const model = findModel(store, ref)
  const { manifest, name } = model
  if (webSeeds.length > linkWebSeedsMax) {
    throw new InvalidInputError(`${webSeeds.length} web seeds are too many for a link`, {
      hint: `it has at most ${linkWebSeedsMax}: name those that are likely to last`,
    })
  }
  const block = store.manifestBlock(manifest)
  if (block !== undefined) checkWebSeeds(webSeeds, deps.webSeeds, decodeManifest(block).files)
  // Those that were named come first: a link has room for a few.
  const urls = [...new Set([...webSeeds, ...hubSeedsOf(store, manifest)])]
  return {
    type: 'link',
    link: linkTo(net, model, urls),
    manifest: manifest.toString(),
    name: name ?? null,
  }
}

export function linkTo(
  net: Pick<Net, 'addresses'>,
  model: HeldModel,
  webSeeds: readonly string[] = [],
): string {
  const { manifest, name } = model
  const addresses = net.addresses()
  // A link is for another machine: loopback is named only by a node that has nothing else.
  const others = addresses.filter(address => !isLoopback.test(address))
  const peers = (others.length > 0 ? others : addresses).slice(0, addressesMax)
  return formatLink({ manifest, name, peers, webSeeds })
}
