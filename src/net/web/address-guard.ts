/**
 * Which addresses a web seed may lead to. Its URL comes from a link, and so from anybody: without this,
 * a link could make a node ask services of its own machine or network (docs/spec/web-seeds.md, section 3).
 */

import type { LookupAddress } from 'node:dns'
import { lookup as lookupAddresses } from 'node:dns/promises'
import { BlockList, isIP, type LookupFunction } from 'node:net'
import { ProtocolError } from '../../core/errors.ts'

/** private: anything that is not an ordinary address of the public internet. */
export type Zone = 'public' | 'private'

/** All addresses of a host name; rejects when it has none. */
export type Lookup = (host: string) => Promise<readonly string[]>

export const systemLookup: Lookup = async host => {
  const found = await lookupAddresses(host, { all: true })
  return found.map(({ address }) => address)
}

/** Of the IANA registry of special-purpose addresses, all that are not reachable from everywhere. */
const special4 = subnets('ipv4', [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.88.99.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  // Multicast, what is reserved, and broadcast.
  ['224.0.0.0', 3],
])

/**
 * All public IPv6 addresses lie here. What is outside needs no list: loopback, link-local, unique local,
 * IPv4-mapped, and NAT64, by which 64:ff9b::7f00:1 may be 127.0.0.1.
 */
const global6 = subnets('ipv6', [['2000::', 3]])
/** Inside of it: Teredo and other tunnels, 6to4 (2002:7f00:1:: is 127.0.0.1 by it), documentation. */
const special6 = subnets('ipv6', [
  ['2001::', 23],
  ['2001:db8::', 32],
  ['2002::', 16],
  ['3fff::', 20],
])

function subnets(family: 'ipv4' | 'ipv6', list: readonly (readonly [string, number])[]): BlockList {
  const subnetList = new BlockList()
  for (const [net, prefix] of list) subnetList.addSubnet(net, prefix, family)
  return subnetList
}

/** What is no IP address, or one with a zone index, is private: only a public one can be shown to be so. */
export function zoneOf(address: string): Zone {
  const family = isIP(address)
  if (family === 4) return special4.check(address) ? 'private' : 'public'
  const isPublic =
    family === 6 &&
    !address.includes('%') &&
    global6.check(address, 'ipv6') &&
    !special6.check(address, 'ipv6')
  return isPublic ? 'public' : 'private'
}

const linkLocal = new BlockList()
linkLocal.addSubnet('169.254.0.0', 16, 'ipv4')
linkLocal.addSubnet('fe80::', 10, 'ipv6')

/** Of this link alone: a cloud gives a machine its credentials there, and no hub or web seed is. */
export function isLinkLocal(address: string): boolean {
  const [bare = ''] = address.split('%')
  return isIP(bare) !== 0 && linkLocal.check(bare, isIP(bare) === 4 ? 'ipv4' : 'ipv6')
}

/**
 * The address that a URL names as one, or undefined for a name. All spellings of an IPv4 address
 * (127.1, 0x7f.1, 2130706433, 0177.0.0.1) are one here: URL wrote it in the usual way.
 */
export function literalOf({ hostname }: URL): string | undefined {
  const bare = hostname.startsWith('[') ? hostname.slice(1, -1) : hostname
  return isIP(bare) === 0 ? undefined : bare
}

/** private when any address of the host is: which of them will be used is not known yet. */
export async function zoneOfHost(url: URL, lookup: Lookup): Promise<Zone> {
  const literal = literalOf(url)
  const addresses = literal === undefined ? await lookup(url.hostname) : [literal]
  return isAllPublic(addresses) ? 'public' : 'private'
}

/**
 * The look-up of the connections that may only be public: who answers once with a public address and
 * then with a private one is found out here, since what this returns is what is connected to.
 */
export function publicLookup(lookup: Lookup): LookupFunction {
  return anyLookup(async host => {
    const addresses = await lookup(host)
    if (!isAllPublic(addresses)) throw movedInside(host)
    return addresses
  })
}

/** The same without a rule, for hosts that may be private. */
export function anyLookup(lookup: Lookup): LookupFunction {
  return (host, { all = false }, callback) => void answer(lookup(host), all, callback)
}

async function answer(
  looking: Promise<readonly string[]>,
  all: boolean,
  callback: Parameters<LookupFunction>[2],
): Promise<void> {
  let found: LookupAddress[]
  try {
    found = (await looking).map(address => ({ address, family: isIP(address) }))
  } catch (error) {
    callback(error as Error, '', 0)
    return
  }
  if (all) callback(null, found)
  else callback(null, found[0]?.address ?? '', found[0]?.family)
}

function isAllPublic(addresses: readonly string[]): boolean {
  return addresses.length > 0 && addresses.every(address => zoneOf(address) === 'public')
}

export function movedInside(host: string): ProtocolError {
  return new ProtocolError(`${host} was public and now leads to a private address`)
}
