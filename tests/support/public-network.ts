/**
 * Run inside a network namespace whose loopback has public addresses: a first node that also
 * relays, one that joins it, and one at home that nobody outside can dial. Prints what each knows as one JSON object.
 */

import { multiaddr } from '@multiformats/multiaddr'
import { aKey, openTestHost, openTestNet, until } from './dht-cluster.ts'

const first = '8.8.8.8'
const second = '9.9.9.9'
const home = '10.1.2.3'

await using a = await openTestNet({
  listen: ['/ip4/0.0.0.0/tcp/4011'],
  keys: [aKey('a')],
  relay: true,
})
const bootstrap = [`/ip4/${first}/tcp/4011/p2p/${a.net.peerId}`]
await using b = await openTestNet({
  listen: [`/ip4/${second}/tcp/4012`, `/ip4/${home}/tcp/4012`],
  bootstrap,
  keys: [aKey('b')],
})
await until(() => a.net.dht().peers === 1 && b.net.dht().peers === 1)
await until(() => a.net.announcing().due === 0 && b.net.announcing().due === 0)
await using c = await openTestHost({ listen: [`/ip4/${home}/tcp/4013`], bootstrap })
const { libp2p } = c.host
await libp2p.dial(multiaddr(bootstrap[0]))
await until(() => c.host.table.size >= 1 && c.host.addresses().length > 0)

const found: Record<string, readonly string[]> = {}
for (const name of ['a', 'b']) {
  const asker = name === 'a' ? b : a
  const signal = AbortSignal.timeout(5000)
  for await (const provider of asker.net.providers(aKey(name), signal)) {
    found[name] = provider.addresses
  }
}
const heard = await libp2p.peerStore.all()
const result = {
  found,
  modes: [a.net.dht().mode, b.net.dht().mode, c.host.kad.getMode()],
  homeTells: c.host.addresses().map(String),
  heard: heard.flatMap(peer => peer.addresses.map(address => address.multiaddr.toString())),
}
process.stdout.write(`${JSON.stringify(result)}\n`)
