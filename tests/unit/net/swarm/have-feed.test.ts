import fc from 'fast-check'
import { beforeEach, expect, test } from 'vitest'
import { Bitfield } from '../../../../src/core/bitfield.ts'
import { type CID, rawCid } from '../../../../src/core/cid.ts'
import { ProtocolError, StorageError } from '../../../../src/core/errors.ts'
import { MiB } from '../../../../src/core/units.ts'
import { type HaveFeed, keyOf, openHaveFeed } from '../../../../src/net/swarm/have-feed.ts'
import { openWatchList } from '../../../../src/net/swarm/watch-list.ts'
import type { BlockReader } from '../../../../src/store/store.ts'
import { frameTypes } from '../../../../src/wire/frames.ts'
import { decodeHave, type HaveEntry } from '../../../../src/wire/messages.ts'
import { settle } from '../../../support/fake-clock.ts'
import { FakeTransport } from '../../../support/fake-transport.ts'
import { MemoryReader } from '../../../support/memory-reader.ts'

const root = rawCid(new Uint8Array(32).fill(1))
const key = keyOf(root)

let held: Bitfield | undefined
let transport: FakeTransport
let feed: HaveFeed

function readerOf(read: () => Bitfield | undefined): BlockReader {
  const reader = new MemoryReader()
  reader.held = (cid: CID) => (keyOf(cid) === key ? read() : undefined)
  return reader
}

beforeEach(() => {
  held = new Bitfield(10)
  transport = new FakeTransport()
  feed = openHaveFeed(
    readerOf(() => held),
    transport,
  )
})

function told(): HaveEntry[] {
  return transport.ofType(frameTypes.have).flatMap(({ payload }) => decodeHave(payload))
}

function gain(...indexes: number[]): void {
  for (const index of indexes) held?.add(index)
  feed.changed(key, { root, gained: indexes.map(index => [index, index + 1]), lost: [] })
}

test.for([
  ['nothing of an unknown file', undefined, { ref: 7, kind: 'nothing' }],
  ['nothing of a file that is not held', [], { ref: 7, kind: 'nothing' }],
  ['all of a whole file', [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], { ref: 7, kind: 'all' }],
  [
    'ranges of a partial one',
    [1, 2, 9],
    {
      ref: 7,
      kind: 'gained',
      ranges: [
        [1, 3],
        [9, 10],
      ],
    },
  ],
] as const)('answers a watch with %s', async ([, indexes, entry]) => {
  if (indexes === undefined) held = undefined
  else for (const index of indexes) held?.add(index)
  feed.watch([{ ref: 7, root, chunks: 10 }])
  await settle()
  expect(told()).toEqual([entry])
})

test('tells nothing of a file whose chunk count the watcher has wrong', async () => {
  held = Bitfield.full(10)
  feed.watch([{ ref: 0, root, chunks: 11 }])
  await settle()
  expect(told()).toEqual([{ ref: 0, kind: 'nothing' }])
})

test('tells changes of one turn together, in one frame, and only of what is watched', async () => {
  feed.watch([{ ref: 0, root, chunks: 10 }])
  await settle()
  gain(1)
  gain(2)
  gain(5)
  feed.changed('another', { root, gained: [[0, 1]], lost: [] })
  await settle()
  expect(told().slice(1)).toEqual([
    {
      ref: 0,
      kind: 'gained',
      ranges: [
        [1, 3],
        [5, 6],
      ],
    },
  ])
  expect(transport.ofType(frameTypes.have)).toHaveLength(2)
})

test('what was gained and lost again is told as lost', async () => {
  feed.watch([{ ref: 0, root, chunks: 10 }])
  await settle()
  gain(1, 2)
  held?.delete(2)
  feed.changed(key, { root, gained: [], lost: [[2, 3]] })
  await settle()
  expect(told().slice(1)).toEqual([
    { ref: 0, kind: 'lost', ranges: [[2, 3]] },
    { ref: 0, kind: 'gained', ranges: [[1, 2]] },
  ])
})

test('never tells of chunks that the file has not', async () => {
  feed.watch([{ ref: 0, root, chunks: 10 }])
  await settle()
  feed.changed(key, { root, gained: [], lost: [[0xffff_ffff, 0x1_0000_0000]] })
  await settle()
  expect(told().slice(1)).toEqual([])
})

test('after unwatch it is quiet, and counts right', async () => {
  feed.watch([
    { ref: 0, root, chunks: 10 },
    { ref: 1, root, chunks: 10 },
  ])
  await settle()
  expect(feed.unwatch([0, 5, 0])).toBe(1)
  gain(3)
  await settle()
  expect(told().slice(2)).toEqual([{ ref: 1, kind: 'gained', ranges: [[3, 4]] }])
  expect(feed.unwatch([1])).toBe(1)
  expect(feed.isWatching(key)).toBe(false)
  expect(feed.size).toBe(0)
})

test('refuses a ref in use, one file 65 times, and one file with two chunk counts', () => {
  feed.watch([{ ref: 0, root, chunks: 10 }])
  expect(() => feed.watch([{ ref: 0, root, chunks: 10 }])).toThrow(ProtocolError)
  expect(() => feed.watch([{ ref: 1, root, chunks: 11 }])).toThrow(ProtocolError)
  const many = Array.from({ length: 64 }, (_, index) => ({ ref: index + 1, root, chunks: 10 }))
  expect(() => feed.watch(many)).toThrow(ProtocolError)
})

test('a watcher that does not read costs one state, however much changes meanwhile', async () => {
  const chunks = 1_000_000
  held = new Bitfield(chunks)
  feed.watch([{ ref: 0, root, chunks }])
  await settle()
  transport.holdBack()
  for (let index = 0; index < 20_000; index += 1) {
    gain(index * 2)
    if (index % 1000 === 0) await settle()
  }
  await settle()
  expect(transport.bytesSent).toBeLessThan(MiB)
  transport.letGo()
  await settle()
  const entries = told()
  const has = new Bitfield(chunks)
  for (const entry of entries) apply(has, entry)
  expect(has.bytes).toEqual(held.bytes)
})

test('a store that cannot say what it holds ends the peer, not the process', async () => {
  feed = openHaveFeed(
    readerOf(() => {
      throw new StorageError('reading the index')
    }),
    transport,
  )
  feed.watch([{ ref: 0, root, chunks: 10 }])
  await settle()
  expect(transport.closed.reason).toBeInstanceOf(StorageError)
})

test('the watcher always ends up with what is held, whatever happens in between', async () => {
  const chunks = 40
  const step = fc.oneof(
    fc.record({ do: fc.constant('gain' as const), index: fc.nat({ max: chunks - 1 }) }),
    fc.record({ do: fc.constant('lose' as const), index: fc.nat({ max: chunks - 1 }) }),
    fc.record({ do: fc.constantFrom('settle' as const, 'hold' as const, 'go' as const) }),
  )
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), async steps => {
      held = new Bitfield(chunks)
      transport = new FakeTransport()
      const now = held
      feed = openHaveFeed(
        readerOf(() => now),
        transport,
      )
      feed.watch([{ ref: 0, root, chunks }])
      for (const one of steps) {
        if (one.do === 'gain') gain(one.index)
        else if (one.do === 'lose') {
          held.delete(one.index)
          feed.changed(key, { root, gained: [], lost: [[one.index, one.index + 1]] })
        } else if (one.do === 'hold') transport.holdBack()
        else if (one.do === 'go') transport.letGo()
        else await settle()
      }
      transport.letGo()
      await settle()
      const has = new Bitfield(chunks)
      const list = openWatchList()
      list.add([{ root, chunks }], ({ gained, lost }) => {
        each(lost, index => has.delete(index))
        each(gained, index => has.add(index))
      })
      list.have(told())
      expect(has.bytes).toEqual(held.bytes)
    }),
    { numRuns: 100 },
  )
})

function apply(has: Bitfield, entry: HaveEntry): void {
  if (entry.kind === 'nothing') each([[0, has.length]], index => has.delete(index))
  else if (entry.kind === 'all') each([[0, has.length]], index => has.add(index))
  else if (entry.kind === 'gained') each(entry.ranges, index => has.add(index))
  else each(entry.ranges, index => has.delete(index))
}

function each(
  ranges: readonly (readonly [number, number])[],
  change: (index: number) => void,
): void {
  for (const [start, end] of ranges) for (let index = start; index < end; index += 1) change(index)
}
