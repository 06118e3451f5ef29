/**
 * Which servers each key goes to, with few lookups: keys are taken in the order of Kademlia's space,
 * and all servers of a region are found once for all keys in it. A network of S servers costs about
 * S / 10 lookups for any number of keys, where a lookup per key would take days for a library.
 */

import {
  compareDistance,
  flipBit,
  kadIdOf,
  type Located,
  nearest,
  replication,
  sharedBits,
} from './kad-space.ts'

/** Beyond the 20 that must hold a record: servers that leave, and Sybils nearest to the key. */
export const extraHolders = 10
/** With fewer keys in a region than exploring it takes lookups, each key gets a lookup of its own. */
const keysPerRegionMin = 7
/** A region holds some 60 servers; a network that needs more lookups than this is not an honest one. */
const lookupsPerRegionMax = 32
/** Places are found by trying: 2^16 tries are 100 ms, and such a network has a million servers. */
const exploredBitsMax = 16

export interface Region<Server> {
  readonly servers: readonly Located<Server>[]
  readonly keys: readonly Located<Uint8Array>[]
}

/** The servers nearest to a key, at most `replication`, all of them live. */
export type Lookup<Server> = (key: Uint8Array) => Promise<readonly Located<Server>[]>

/** Covers all keys once, region by region. `isSmall`: fewer servers are known than hold one record. */
export async function* sweepRegions<Server>(
  keys: readonly Uint8Array[],
  lookup: Lookup<Server>,
  isSmall: () => boolean,
): AsyncGenerator<Region<Server>> {
  const sorted = keys
    .map(item => ({ place: kadIdOf(item), item }))
    .sort((a, b) => Buffer.compare(a.place, b.place))
  for (let at = 0; ;) {
    const first = sorted[at]
    if (first === undefined) return
    const found = await lookup(first.item)
    if (found.length < replication && isSmall()) {
      // These are all the servers there are.
      yield { servers: found, keys: sorted.slice(at) }
      return
    }
    const isPartial = found.length < replication
    const { region, bits } = regionAround(sorted, at, found)
    if (isPartial || region.length < keysPerRegionMin) {
      yield { servers: found, keys: [first] }
      at += 1
      continue
    }
    yield { servers: await serversIn(first, bits, { found, lookup }), keys: region }
    at += region.length
  }
}

/** Each key's servers: the nearest ones, and some more. */
export function holdersOf<Server>(
  key: Located<Uint8Array>,
  servers: readonly Located<Server>[],
): Located<Server>[] {
  return nearest(key.place, servers, replication + extraHolders)
}

/**
 * All `found` share some bits with the key, so the region of that many bits holds at least
 * `replication` servers and each key in it finds its nearest ones inside. Twice as large pays better.
 */
function regionAround<Server>(
  sorted: readonly Located<Uint8Array>[],
  at: number,
  found: readonly Located<Server>[],
): { region: Located<Uint8Array>[]; bits: number } {
  const place = sorted[at]?.place ?? new Uint8Array()
  const bits = Math.max(0, coveredFrom(place, found) - 2)
  const region: Located<Uint8Array>[] = []
  for (const key of sorted.slice(at)) {
    if (sharedBits(place, key.place) < bits) break
    region.push(key)
  }
  return { region, bits }
}

/** Every server that shares at least this many bits with `place` is in `found`. */
function coveredFrom<Server>(place: Uint8Array, found: readonly Located<Server>[]): number {
  return Math.min(...found.map(server => sharedBits(place, server.place))) + 1
}

async function serversIn<Server>(
  key: Located<Uint8Array>,
  bits: number,
  { found, lookup }: { found: readonly Located<Server>[]; lookup: Lookup<Server> },
): Promise<Located<Server>[]> {
  const known = new Map<string, Located<Server>>()
  const learn = (servers: readonly Located<Server>[]): void => {
    for (const server of servers) known.set(Buffer.from(server.place).toString('hex'), server)
  }
  learn(found)
  // Cubes still to be looked at: all places that share that many bits with `place`.
  const open: { place: Uint8Array; bits: number }[] = []
  const openSiblings = (place: Uint8Array, from: number, covered: number): void => {
    for (let bit = from; bit < covered; bit += 1) {
      open.push({ place: flipBit(place, bit), bits: bit + 1 })
    }
  }
  openSiblings(key.place, bits, coveredFrom(key.place, found))
  for (let lookups = 0; lookups < lookupsPerRegionMax; lookups += 1) {
    const cube = open.pop()
    if (cube === undefined) break
    if (cube.bits > exploredBitsMax) continue
    const target = keyIn(cube.place, cube.bits)
    const servers = await lookup(target)
    learn(servers)
    if (servers.length < replication) continue
    const place = kadIdOf(target)
    openSiblings(place, cube.bits, coveredFrom(place, servers))
  }
  return [...known.values()].sort((a, b) => compareDistance(key.place, a.place, b.place))
}

/** Some key whose place shares `bits` with `place`: places are hashes, so it is found by trying. */
function keyIn(place: Uint8Array, bits: number): Uint8Array {
  const key = new Uint8Array(34)
  key.set([0x12, 32])
  const counter = new DataView(key.buffer)
  for (let tries = 0; ; tries += 1) {
    counter.setUint32(2, tries)
    if (sharedBits(kadIdOf(key), place) >= bits) return key
  }
}
