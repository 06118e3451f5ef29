/** The link that lets somebody else pull a model from here. */

import type { Net } from '../net/net.ts'
import type { HeldModel } from '../store/store.ts'
import { formatLink } from './ref.ts'

/** A link is passed on by hand: two addresses are enough to reach us, the DHT knows the rest. */
const addressesMax = 2

export function linkTo(net: Pick<Net, 'addresses'>, model: HeldModel): string {
  const { manifest, name } = model
  return formatLink({
    manifest,
    name,
    peers: net.addresses().slice(0, addressesMax),
    webSeeds: [],
  })
}
