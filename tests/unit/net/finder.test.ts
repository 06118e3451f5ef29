import { randomBytes } from 'node:crypto'
import { generateKeyPair } from '@libp2p/crypto/keys'
import type { PeerId } from '@libp2p/interface'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import { expect, test } from 'vitest'
import { type CID, rawCid } from '../../../src/core/cid.ts'
import { InvalidInputError, UnavailableError } from '../../../src/core/errors.ts'
import { silentLog } from '../../../src/core/log.ts'
import { hour, minute, second } from '../../../src/core/units.ts'
import { openFinder } from '../../../src/net/finder.ts'
import type { PeerHint } from '../../../src/net/addresses.ts'
import type { FoundSource, Source } from '../../../src/transfer/source.ts'
import { FakeClock } from '../../support/fake-clock.ts'

const keys: CID[] = [rawCid(randomBytes(32))]

/** Peers by id, and what each way of finding says. */
class FakeWorld {
  readonly clock = new FakeClock()
  connected: Source[] = []
  exchanged: PeerHint[] = []
  lan: PeerHint[] = []
  providers: (key: CID) => AsyncIterable<PeerHint> = async function* () {
    // Nobody.
  }
  dials: string[] = []
  /** Addresses, as they were given to each dial. */
  dialled: string[][] = []
  /** Peers that answer when dialled; others reject, or hang when listed below. */
  readonly alive = new Map<string, Source>()
  readonly hanging = new Set<string>()
  dhtSize = 1
  joining = false
  #listeners = new Set<(source: Source) => void>()

  connect(source: Source): void {
    this.connected.push(source)
    for (const listener of this.#listeners) listener(source)
  }

  readonly finder = openFinder({
    self: selfId,
    swarm: {
      sources: () => this.connected,
      onSource: listener => {
        this.#listeners.add(listener)
        return () => this.#listeners.delete(listener)
      },
      exchange: () => Promise.resolve(this.exchanged),
      connect: async ({ peer, addresses }, { signal }) => {
        const id = peer.toString()
        this.dials.push(id)
        this.dialled.push(addresses.map(String))
        if (this.hanging.has(id)) {
          await new Promise((_, reject) => {
            signal.addEventListener('abort', () => reject(signal.reason as Error))
          })
        }
        const source = this.alive.get(id)
        if (source === undefined) throw new UnavailableError('nobody there')
        return source
      },
    },
    dht: {
      size: () => this.dhtSize,
      whenJoined: (ms, signal) => this.clock.sleep(ms, signal),
      providers: key => this.providers(key) as AsyncGenerator<PeerHint>,
    },
    isJoining: () => this.joining,
    lanPeers: () => this.lan,
    clock: this.clock,
    log: silentLog,
  })

  get watchers(): number {
    return this.#listeners.size
  }
}

const selfId = await newPeer()

async function newPeer(): Promise<PeerId> {
  return peerIdFromPrivateKey(await generateKeyPair('Ed25519'))
}

function sourceOf(id: string): Source & { close(): void } {
  const closing = new AbortController()
  const source = { id, kind: 'peer', closed: closing.signal, close: () => closing.abort() }
  return source as unknown as Source & { close(): void }
}

async function aPeer(world?: FakeWorld): Promise<{ hint: PeerHint; id: string; source: Source }> {
  const peer = await newPeer()
  const id = peer.toString()
  const source = sourceOf(id)
  world?.alive.set(id, source)
  return { hint: { peer, addresses: [multiaddr('/ip4/192.0.2.1/tcp/1')] }, id, source }
}

/** Collects what is found in the background. */
function start(world: FakeWorld, peers: string[] = [], wanted = keys) {
  const stop = new AbortController()
  const found: string[] = []
  const unreached: string[] = []
  const onUnreached = (peer: string, reason: string): void => {
    unreached.push(`${peer} ${reason}`)
  }
  const ended = (async () => {
    for await (const event of world.finder.find(wanted, {
      peers,
      onUnreached,
      signal: stop.signal,
    })) {
      found.push(nameOf(event))
    }
  })().catch((error: unknown) => error)
  return { found, unreached, ended, stop: () => stop.abort(new Error('enough')) }
}

function nameOf(event: FoundSource): string {
  return event.type === 'source' ? event.source.id : `round ${event.round}`
}

test('gives each source once, from every way of finding, and then says that the round is over', async () => {
  const world = new FakeWorld()
  const [given, near, exchanged, provider] = await Promise.all([1, 2, 3, 4].map(() => aPeer(world)))
  world.connect(sourceOf('connected'))
  world.lan = [near?.hint as PeerHint]
  world.exchanged = [exchanged?.hint as PeerHint, near?.hint as PeerHint]
  world.providers = async function* () {
    yield provider?.hint as PeerHint
    yield exchanged?.hint as PeerHint
  }
  const { found, ended, stop } = start(world, [`/ip4/192.0.2.1/tcp/1/p2p/${given?.id}`])
  await world.clock.advance(0)
  expect(found[0]).toBe('connected')
  expect(found.at(-1)).toBe('round 1')
  expect(new Set(found.slice(1, -1))).toEqual(
    new Set([given?.id, near?.id, exchanged?.id, provider?.id]),
  )
  await world.clock.advance(hour)
  expect(found.filter(name => !name.startsWith('round'))).toHaveLength(5)
  stop()
  await ended
})

test('the first round ends in seconds although every hint is dead or hangs', async () => {
  const world = new FakeWorld()
  const hints = await Promise.all(Array.from({ length: 40 }, () => aPeer()))
  for (const { id } of hints.slice(0, 20)) world.hanging.add(id)
  world.exchanged = hints.map(({ hint }) => hint)
  const { found, ended, stop } = start(world)
  await world.clock.advance(7 * second)
  expect(found).toContain('round 1')
  stop()
  await ended
})

test('a source that answers is given at once, whatever hangs beside it', async () => {
  const world = new FakeWorld()
  const dead = await aPeer()
  const good = await aPeer(world)
  world.hanging.add(dead.id)
  world.exchanged = [dead.hint, good.hint]
  const { found, ended, stop } = start(world)
  await world.clock.advance(0)
  expect(found).toEqual([good.id])
  stop()
  await ended
})

test('says at once which given peer was not reached, and why; of others it says nothing', async () => {
  const world = new FakeWorld()
  const [dead, near, good] = [await aPeer(), await aPeer(), await aPeer(world)]
  world.lan = [near.hint]
  const peers = [dead, good].map(({ id }) => `/ip4/192.0.2.1/tcp/1/p2p/${id}`)
  const { unreached, ended, stop } = start(world, peers)
  await world.clock.advance(0)
  expect(unreached).toEqual([`${dead.id} nobody there`])
  stop()
  await ended
})

test('says of a given peer that hangs that it has not answered, after the first round', async () => {
  const world = new FakeWorld()
  const slow = await aPeer(world)
  world.hanging.add(slow.id)
  const { unreached, ended, stop } = start(world, [
    `/ip4/192.0.2.1/tcp/1/p2p/${slow.id}`,
    `/ip4/192.0.2.1/tcp/2/p2p/${selfId.toString()}`,
  ])
  await world.clock.advance(0)
  expect(unreached).toEqual([`${selfId.toString()} that is this node`])
  await world.clock.advance(7 * second)
  expect(unreached).toContain(`${slow.id} no answer so far`)
  stop()
  await ended
})

test('dials a peer that is given with several addresses at all of them at once', async () => {
  const world = new FakeWorld()
  const { id } = await aPeer(world)
  const addresses = [1, 2].map(port => `/ip4/192.0.2.1/tcp/${port}/p2p/${id}`)
  const { found, ended, stop } = start(world, addresses)
  await world.clock.advance(0)
  expect(found).toContain(id)
  expect(world.dialled).toEqual([addresses])
  stop()
  await ended
})

test('looks again at growing intervals up to a minute', async () => {
  const world = new FakeWorld()
  const { found, ended, stop } = start(world)
  await world.clock.advance(0)
  expect(found).toEqual(['round 1'])
  await world.clock.advance(second)
  expect(found).toHaveLength(2)
  await world.clock.advance(2 * second)
  expect(found).toHaveLength(3)
  await world.clock.advance(10 * minute)
  const rounds = found.length
  await world.clock.advance(10 * minute)
  expect(found.length - rounds).toBe(10)
  stop()
  await ended
})

test('does not hammer a peer that does not answer', async () => {
  const world = new FakeWorld()
  const dead = await aPeer()
  world.exchanged = [dead.hint]
  world.lan = [dead.hint]
  const { ended, stop } = start(world)
  await world.clock.advance(20 * second)
  expect(world.dials.length).toBeLessThanOrEqual(2)
  await world.clock.advance(hour)
  expect(world.dials.length).toBeLessThan(15)
  expect(world.dials.length).toBeGreaterThan(5)
  stop()
  await ended
})

test('a source that reconnected is given again', async () => {
  const world = new FakeWorld()
  const { hint, id, source } = await aPeer(world)
  world.exchanged = [hint]
  const { found, ended, stop } = start(world)
  await world.clock.advance(5 * second)
  expect(found.filter(name => name === id)).toHaveLength(1)
  ;(source as Source & { close(): void }).close()
  world.alive.set(id, sourceOf(id))
  await world.clock.advance(5 * minute)
  expect(found.filter(name => name === id)).toHaveLength(2)
  world.connect(sourceOf('dialled us'))
  await world.clock.advance(0)
  expect(found.at(-1)).toBe('dialled us')
  stop()
  await ended
})

test('a failure of one way of finding leaves the others to it', async () => {
  const world = new FakeWorld()
  const good = await aPeer(world)
  world.exchanged = [good.hint]
  world.providers = () => {
    throw new Error('the DHT is broken')
  }
  const { found, ended, stop } = start(world)
  await world.clock.advance(0)
  expect(found).toEqual([good.id, 'round 1'])
  stop()
  await ended
})

test('waits a little for the DHT when the node has just started, not when it is alone', async () => {
  const world = new FakeWorld()
  world.dhtSize = 0
  world.joining = true
  const joining = start(world)
  await world.clock.advance(2 * second)
  expect(joining.found).toEqual([])
  await world.clock.advance(2 * second)
  expect(joining.found).toContain('round 1')
  joining.stop()
  world.joining = false
  const alone = start(world)
  await world.clock.advance(0)
  expect(alone.found).toEqual(['round 1'])
  alone.stop()
  await Promise.all([joining.ended, alone.ended])
})

test('looks the first key up in every round and the others in turn', async () => {
  const world = new FakeWorld()
  const many = Array.from({ length: 30 }, () => rawCid(randomBytes(32)))
  const rounds: string[][] = [[]]
  world.providers = key => {
    rounds.at(-1)?.push(key.toString())
    return (async function* () {
      // Nobody.
    })()
  }
  const { found, ended, stop } = start(world, [], many)
  await world.clock.advance(0)
  for (let round = 2; round <= 6; round += 1) {
    rounds.push([])
    await world.clock.advance(2 ** (round - 2) * second)
  }
  expect(found).toHaveLength(6)
  for (const looked of rounds) {
    expect(looked).toContain(many[0]?.toString())
    expect(looked.length).toBeLessThanOrEqual(8)
  }
  expect(new Set(rounds.flat()).size).toBe(30)
  stop()
  await ended
})

test('remembers a bounded number of hints however many are told', async () => {
  const world = new FakeWorld()
  const peers = await Promise.all(Array.from({ length: 700 }, () => aPeer()))
  world.exchanged = peers.map(({ hint }) => hint)
  const { ended, stop } = start(world)
  await world.clock.advance(20 * second)
  expect(new Set(world.dials).size).toBe(500)
  stop()
  await ended
})

test('never dials itself', async () => {
  const world = new FakeWorld()
  world.exchanged = [{ peer: selfId, addresses: [] }]
  const { ended, stop } = start(world)
  await world.clock.advance(minute)
  expect(world.dials).toEqual([])
  stop()
  await ended
})

test('a malformed address is the caller\u2019s mistake', async () => {
  const { ended } = start(new FakeWorld(), ['/ip4/192.0.2.1'])
  expect(await ended).toBeInstanceOf(InvalidInputError)
})

test('ends with the reason of the signal, and leaves nothing behind', async () => {
  const world = new FakeWorld()
  const dead = await aPeer()
  world.hanging.add(dead.id)
  world.exchanged = [dead.hint]
  const { ended, stop } = start(world)
  await world.clock.advance(second)
  stop()
  expect(await ended).toEqual(new Error('enough'))
  expect(world.watchers).toBe(0)
})

test('a caller that has enough just leaves', async () => {
  const world = new FakeWorld()
  world.connect(sourceOf('connected'))
  for await (const event of world.finder.find(keys, {
    peers: [],
    signal: AbortSignal.timeout(10_000),
  })) {
    expect(nameOf(event)).toBe('connected')
    break
  }
  expect(world.watchers).toBe(0)
})
