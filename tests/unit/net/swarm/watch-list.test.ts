import { beforeEach, expect, test } from 'vitest'
import { rawCid } from '../../../../src/core/cid.ts'
import { ProtocolError } from '../../../../src/core/errors.ts'
import { keyOf } from '../../../../src/net/swarm/have-feed.ts'
import { openWatchList, type WatchList } from '../../../../src/net/swarm/watch-list.ts'
import type { HaveUpdate } from '../../../../src/transfer/source.ts'

const root = rawCid(new Uint8Array(32).fill(1))
const other = rawCid(new Uint8Array(32).fill(2))

let list: WatchList
let updates: HaveUpdate[]
const onHave = (update: HaveUpdate): void => {
  updates.push(update)
}
beforeEach(() => {
  list = openWatchList()
  updates = []
})

test('numbers watches anew each time, and gives what the frame needs', () => {
  expect(list.add([{ root, chunks: 3 }], onHave)).toEqual([{ ref: 0, root, chunks: 3 }])
  list.delete([0])
  expect(list.add([{ root, chunks: 3 }], onHave)).toEqual([{ ref: 1, root, chunks: 3 }])
  expect(list.size).toBe(1)
})

test('turns what the peer says into updates of that file', () => {
  list.add([{ root: other, chunks: 9 }], () => undefined)
  list.add([{ root, chunks: 5 }], onHave)
  list.have([
    { ref: 1, kind: 'gained', ranges: [[0, 2]] },
    { ref: 1, kind: 'lost', ranges: [[1, 2]] },
    { ref: 1, kind: 'all' },
    { ref: 1, kind: 'nothing' },
  ])
  expect(updates).toEqual([
    { root, gained: [[0, 2]], lost: [] },
    { root, gained: [], lost: [[1, 2]] },
    { root, gained: [[0, 5]], lost: [] },
    { root, gained: [], lost: [[0, 5]] },
  ])
})

test('a first answer of nothing is no news', () => {
  list.add([{ root, chunks: 5 }], onHave)
  list.have([{ ref: 0, kind: 'nothing' }])
  expect(updates).toEqual([])
})

test('counts the files that the peer claims to hold some of', () => {
  list.add([{ root, chunks: 5 }], onHave)
  list.add([{ root, chunks: 5 }], onHave)
  list.add([{ root: other, chunks: 5 }], onHave)
  expect(list.filesHeld).toBe(0)
  list.have([0, 1, 2].map(ref => ({ ref, kind: 'all' as const })))
  expect(list.filesHeld).toBe(2)
  expect(list.holds(keyOf(root))).toBe(true)
  list.delete([0])
  expect(list.filesHeld).toBe(2)
  list.have([{ ref: 1, kind: 'nothing' }])
  expect(list.filesHeld).toBe(1)
  expect(list.holds(keyOf(root))).toBe(false)
})

test('ignores what comes for a watch that is over, and refuses what was never watched', () => {
  list.add([{ root, chunks: 5 }], onHave)
  list.delete([0])
  list.have([{ ref: 0, kind: 'all' }])
  expect(updates).toEqual([])
  expect(() => list.have([{ ref: 1, kind: 'all' }])).toThrow(ProtocolError)
})

test('refuses a claim past the end of the file', () => {
  list.add([{ root, chunks: 5 }], onHave)
  expect(() => list.have([{ ref: 0, kind: 'gained', ranges: [[4, 6]] }])).toThrow(ProtocolError)
  expect(() => list.have([{ ref: 0, kind: 'lost', ranges: [[5, 6]] }])).toThrow(ProtocolError)
  expect(updates).toEqual([])
})
