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

/** Of this link alone, and what is as near in some clouds. BlockList takes IPv4-mapped addresses for IPv4. */
const linkLocal4 = subnets('ipv4', [
  ['169.254.0.0', 16],
  // Alibaba's metadata service.
  ['100.100.100.200', 32],
])
const linkLocal6 = subnets('ipv6', [
  ['fe80::', 10],
  // 169.254/16 by NAT64, by 6to4, and as an IPv4-compatible address.
  ['64:ff9b::a9fe:0', 112],
  ['2002:a9fe::', 32],
  ['::a9fe:0', 112],
  // The metadata services of AWS and Google by IPv6.
  ['fd00:ec2::254', 128],
  ['fd20:ce::254', 128],
])

/**
 * A cloud gives a machine its credentials at such an address, and no hub or web seed is there: it is never
 * asked, whatever the operator allows.
 */
export function isLinkLocal(address: string): boolean {
  const [bare = ''] = address.split('%')
  const family = isIP(bare)
  if (family === 4) return linkLocal4.check(bare)
  return family === 6 && (linkLocal4.check(bare, 'ipv6') || linkLocal6.check(bare, 'ipv6'))
}

/**
 * The address that a URL names as one, or undefined for a name. All spellings of an IPv4 address
 * (127.1, 0x7f.1, 2130706433, 0177.0.0.1) are one here: URL wrote it in the usual way.
 */
export function literalOf({ hostname }: URL): string | undefined {
  const bare = hostname.startsWith('[') ? hostname.slice(1, -1) : hostname
  return isIP(bare) === 0 ? undefined : bare
}

/**
 * private when any address of the host is: which of them will be used is not known yet. Rejects with
 * ProtocolError when one is link-local.
 */
export async function zoneOfHost(url: URL, lookup: Lookup): Promise<Zone> {
  const literal = literalOf(url)
  const addresses = literal === undefined ? await lookup(url.hostname) : [literal]
  if (addresses.some(isLinkLocal)) throw linkLocalFault(url.host)
  return isAllPublic(addresses) ? 'public' : 'private'
}

/**
 * The look-up of the connections to hosts of one zone: who answers once with a public address and then
 * with a private one is found out here, since what this returns is what is connected to.
 */
export function guardedLookup(lookup: Lookup, zone: Zone): LookupFunction {
  const checked = async (host: string): Promise<readonly string[]> => {
    const addresses = await lookup(host)
    const fault = faultOfAddresses(addresses, zone, host)
    if (fault !== undefined) throw fault
    return addresses
  }
  return (host, { all = false }, callback) => void answer(checked(host), all, callback)
}

/** Why a host that was judged to be in that zone must not be spoken to at these addresses. */
export function faultOfAddresses(
  addresses: readonly string[],
  zone: Zone,
  host: string,
): ProtocolError | undefined {
  if (addresses.some(isLinkLocal)) return linkLocalFault(host)
  if (zone === 'private' || isAllPublic(addresses)) return undefined
  return new ProtocolError(`${host} was public and now leads to a private address`)
}

function linkLocalFault(host: string): ProtocolError {
  return new ProtocolError(`${host} leads to ${linkLocalPlace}`)
}

export const linkLocalPlace = 'a link-local address: nothing is asked there'

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
