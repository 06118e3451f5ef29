import { randomBytes } from 'node:crypto'
import { expect, test } from 'vitest'
import { kadIdOf, type Located, nearest, replication } from '../../../../src/net/dht/kad-space.ts'
import {
  extraHolders,
  holdersOf,
  type Region,
  sweepRegions,
} from '../../../../src/net/dht/sweep.ts'

/** A network whose lookups are perfect: the nearest twenty of all servers. */
function network(size: number) {
  const servers = Array.from({ length: size }, () => {
    const place = kadIdOf(randomBytes(34))
    return { place, item: Buffer.from(place).toString('hex') }
  })
  const counts = { lookups: 0 }
  const lookup = (key: Uint8Array): Promise<Located<string>[]> => {
    counts.lookups += 1
    return Promise.resolve(nearest(kadIdOf(key), servers, replication))
  }
  return { servers, counts, lookup, isSmall: () => size < replication }
}

function keysOf(count: number): Uint8Array[] {
  return Array.from({ length: count }, () => randomBytes(34))
}

async function regionsOf(keys: Uint8Array[], { lookup, isSmall }: ReturnType<typeof network>) {
  const regions: Region<string>[] = []
  for await (const region of sweepRegions(keys, lookup, isSmall)) regions.push(region)
  return regions
}

test('covers every key once', async () => {
  const keys = keysOf(500)
  const regions = await regionsOf(keys, network(300))
  const covered = regions.flatMap(region => region.keys.map(({ item }) => item))
  expect(new Set(covered)).toEqual(new Set(keys))
  expect(covered).toHaveLength(keys.length)
})

test.for([
  [300, 500],
  [1000, 1000],
  [25, 100],
  [100, 3],
] as const)('in %i servers each of %i keys goes to its nearest twenty', async ([size, count]) => {
  const net = network(size)
  for (const region of await regionsOf(keysOf(count), net)) {
    for (const key of region.keys) {
      const chosen = new Set(holdersOf(key, region.servers).map(({ item }) => item))
      const ideal = nearest(key.place, net.servers, replication)
      expect(ideal.filter(({ item }) => !chosen.has(item))).toEqual([])
      expect(chosen.size).toBeLessThanOrEqual(replication + extraHolders)
    }
  }
})

test('keys in numbers are left with ten servers more', async () => {
  const [region] = await regionsOf(keysOf(1000), network(1000))
  const chosen = region?.keys.map(key => holdersOf(key, region.servers).length)
  expect(new Set(chosen)).toEqual(new Set([30]))
})

test('lookups are bounded by the servers, not by the keys', async () => {
  const few = network(1000)
  await regionsOf(keysOf(5000), few)
  const many = network(1000)
  await regionsOf(keysOf(20_000), many)
  expect(many.counts.lookups).toBeLessThan(200)
  expect(many.counts.lookups).toBeLessThan(few.counts.lookups * 1.5)
})

test('a network smaller than one record\u2019s holders takes one lookup', async () => {
  const small = network(12)
  const regions = await regionsOf(keysOf(1000), small)
  expect(small.counts.lookups).toBe(1)
  expect(regions).toHaveLength(1)
  expect(regions[0]?.servers).toHaveLength(12)
})

test('a lookup that came back short in a large network settles nothing but its own key', async () => {
  const net = network(300)
  let isFirst = true
  const lookup = async (key: Uint8Array): Promise<Located<string>[]> => {
    const found = await net.lookup(key)
    if (!isFirst) return found
    isFirst = false
    return found.slice(0, 3)
  }
  const regions = await regionsOf(keysOf(200), { ...net, lookup })
  expect(regions[0]?.keys).toHaveLength(1)
  expect(regions.flatMap(region => region.keys)).toHaveLength(200)
})

test('nobody there is a region without servers, not a loop', async () => {
  const [region] = await regionsOf(keysOf(3), network(0))
  expect(region?.servers).toEqual([])
  expect(region?.keys).toHaveLength(3)
})

test('a liar who names twenty neighbours in every answer does not hold the sweep up', async () => {
  let lookups = 0
  const lookup = (key: Uint8Array): Promise<Located<string>[]> => {
    lookups += 1
    const near = kadIdOf(key)
    // Twenty ids that share 200 bits with whatever was asked: a crowd nobody could generate.
    const liars = Array.from({ length: replication }, (_, index) => {
      const place = Uint8Array.from(near)
      place[31] = index
      return { place, item: Buffer.from(place).toString('hex') }
    })
    return Promise.resolve(liars)
  }
  const keys = keysOf(50)
  let covered = 0
  for await (const region of sweepRegions(keys, lookup, () => false)) covered += region.keys.length
  expect(covered).toBe(50)
  expect(lookups).toBeLessThanOrEqual(50 * 33)
})
