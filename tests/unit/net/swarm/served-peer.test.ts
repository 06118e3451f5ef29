/** How fast peers are served and in what turn: the limit, the slots, and what is fair. */

import { afterEach, beforeEach, expect, test } from 'vitest'
import { silentLog } from '../../../../src/core/log.ts'
import { KiB, MiB, second } from '../../../../src/core/units.ts'
import { type Bandwidth, openBandwidth } from '../../../../src/net/upload/bandwidth.ts'
import type { Serving } from '../../../../src/net/swarm/swarm-channel.ts'
import { openSwarmServer, type SwarmServer } from '../../../../src/net/swarm/swarm-server.ts'
import { frameTypes } from '../../../../src/wire/frames.ts'
import { encodeChunkAsk, encodeKeys } from '../../../../src/wire/messages.ts'
import { FakeClock, settle } from '../../../support/fake-clock.ts'
import { FakeTransport } from '../../../support/fake-transport.ts'
import { MemoryReader, sampleFile } from '../../../support/memory-reader.ts'

const file = sampleFile(16 * MiB)
const small = sampleFile(MiB, 4 * KiB)

let clock: FakeClock
let bandwidth: Bandwidth
let server: SwarmServer

beforeEach(() => {
  clock = new FakeClock()
  bandwidth = openBandwidth(clock)
  const reader = new MemoryReader().addFile(file).addFile(small)
  server = openSwarmServer({ reader, bandwidth, clock, log: silentLog, peersFor: async () => [] })
})
afterEach(() => server[Symbol.dispose]())

/** A channel of a peer that has `depth` requests open until it has asked for `asksMax`. */
class Leecher {
  readonly transport = new FakeTransport()
  readonly serving: Serving
  readonly #root
  readonly #asksMax: number
  #id = 0

  constructor(
    peer: string,
    { depth = 4, isLimited = true, root = file.root, asksMax = Infinity } = {},
  ) {
    this.#root = root
    this.#asksMax = asksMax
    const onSent = (last: boolean): void => {
      if (last) this.#ask()
    }
    const send = this.transport.send.bind(this.transport)
    this.transport.send = (...parts) => {
      const before = this.transport.sent.length
      const canSend = send(...parts)
      const frame = this.transport.sent.at(-1)
      const isData = this.transport.sent.length > before && frame?.type === frameTypes.data
      if (isData) queueMicrotask(() => onSent(frame.flags === 0))
      return canSend
    }
    this.serving = server.serve({
      peer,
      transport: this.transport,
      isLimited,
      spend: () => undefined,
    })
    for (let ask = 0; ask < depth; ask += 1) this.#ask()
  }

  get bytes(): number {
    return this.transport.bytesSent
  }

  #ask(): void {
    if (this.#id >= this.#asksMax) return
    this.#id += 1
    const payload = encodeChunkAsk({ root: this.#root, index: this.#id % 16 })
    this.serving.frame(
      { type: frameTypes.getChunk, id: this.#id, flags: 0, length: payload.length },
      payload,
    )
  }
}

const sum = (leechers: readonly Leecher[]): number =>
  leechers.reduce((total, { bytes }) => total + bytes, 0)
const errorOf = (bytes: number, wanted: number): number => Math.abs(bytes / wanted - 1)

test('sends what the limit allows to all together: exact to 5 % over 10 s, each the same', async () => {
  bandwidth.up.set(2 * MiB)
  const leechers = ['a', 'b', 'c', 'd', 'e'].map(peer => new Leecher(peer))
  await clock.advance(10 * second)
  expect(errorOf(sum(leechers), 20 * MiB)).toBeLessThan(0.05)
  for (const { bytes } of leechers) expect(errorOf(bytes, 4 * MiB)).toBeLessThan(0.15)
})

test('is exact at the least rate', async () => {
  bandwidth.up.set(16 * KiB)
  const leecher = new Leecher('a')
  await clock.advance(10 * second)
  expect(errorOf(leecher.bytes, 160 * KiB)).toBeLessThan(0.05)
})

test('a peer with deep queues on several channels gets no more than one with a single request', async () => {
  bandwidth.up.set(MiB)
  const greedy = Array.from({ length: 4 }, () => new Leecher('greedy', { depth: 64 }))
  const modest = new Leecher('modest', { depth: 1 })
  // The one that was alone for a moment has all slots until its turns are over.
  await clock.advance(5 * second)
  const before = [sum(greedy), modest.bytes] as const
  await clock.advance(40 * second)
  expect(errorOf(sum(greedy) - before[0], 20 * MiB)).toBeLessThan(0.05)
  expect(errorOf(modest.bytes - before[1], 20 * MiB)).toBeLessThan(0.05)
})

test('small chunks get as much as large ones', async () => {
  bandwidth.up.set(512 * KiB)
  const peers = ['a', 'b', 'c', 'd'].map(peer => new Leecher(peer))
  const odd = new Leecher('small', { depth: 64, root: small.root })
  await clock.advance(50 * second)
  expect(errorOf(odd.bytes, 5 * MiB)).toBeLessThan(0.25)
  expect(errorOf(sum(peers) + odd.bytes, 25 * MiB)).toBeLessThan(0.05)
})

test('a thin line serves few at a time, and everybody in turn', async () => {
  bandwidth.up.set(512 * KiB)
  const leechers = Array.from({ length: 8 }, (_, index) => new Leecher(`${index}`))
  await clock.advance(2 * second)
  expect(leechers.filter(({ bytes }) => bytes > 0)).toHaveLength(2)
  await clock.advance(30 * second)
  for (const { bytes } of leechers) expect(bytes).toBeGreaterThan(1.5 * MiB)
})

test('a peer that does not read holds up nobody', async () => {
  bandwidth.up.set(256 * KiB)
  const stuck = new Leecher('stuck')
  stuck.transport.holdBack()
  const leecher = new Leecher('a')
  await clock.advance(10 * second)
  expect(leecher.bytes).toBeGreaterThan(1.5 * MiB)
})

test('a limit that changes holds at once', async () => {
  bandwidth.up.set(MiB)
  const leechers = ['a', 'b', 'c'].map(peer => new Leecher(peer))
  await clock.advance(5 * second)
  bandwidth.up.set(4 * MiB)
  const before = sum(leechers)
  await clock.advance(second)
  expect(errorOf(sum(leechers) - before, 4 * MiB)).toBeLessThan(0.1)
  bandwidth.up.set(100 * KiB)
  const between = sum(leechers)
  await clock.advance(10 * second)
  // A piece of the old size may have been on its way.
  expect(sum(leechers) - between).toBeLessThan(1200 * KiB)
})

test('who is on the LAN is not limited, and waits for nobody', async () => {
  bandwidth.up.set(16 * KiB)
  const far = ['a', 'b', 'c'].map(peer => new Leecher(peer))
  const near = new Leecher('near', { isLimited: false, depth: 2, asksMax: 50 })
  // As fast as it asks, without any time passing.
  await settle()
  await settle()
  expect(near.bytes).toBeGreaterThan(50 * MiB)
  expect(sum(far)).toBeLessThan(64 * KiB)
})

test('tells of other peers at once, however long the queue', async () => {
  bandwidth.up.set(16 * KiB)
  const busy = new Leecher('busy')
  const asker = new Leecher('asker')
  const payload = encodeKeys([file.root])
  asker.serving.frame(
    { type: frameTypes.getPeers, id: 1000, flags: 0, length: payload.length },
    payload,
  )
  await settle()
  expect(asker.transport.ofType(frameTypes.peers)).toHaveLength(1)
  expect(busy.bytes).toBeGreaterThan(0)
})
