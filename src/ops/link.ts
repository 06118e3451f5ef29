/** The link that lets somebody else pull a model from here. */

import type { Net } from '../net/net.ts'
import type { HeldModel } from '../store/store.ts'
import { formatLink } from './ref.ts'

/** A link is passed on by hand: two addresses are enough to reach us, the DHT knows the rest. */
const addressesMax = 2
const isLoopback = /^\/(?:ip4\/127\.|ip6\/::1\/)/u

export function linkTo(net: Pick<Net, 'addresses'>, model: HeldModel): string {
  const { manifest, name } = model
  const addresses = net.addresses()
  // A link is for another machine: loopback is named only by a node that has nothing else.
  const others = addresses.filter(address => !isLoopback.test(address))
  const peers = (others.length > 0 ? others : addresses).slice(0, addressesMax)
  return formatLink({ manifest, name, peers, webSeeds: [] })
}
