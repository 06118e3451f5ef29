import { expect, test } from 'vitest'
import { Bitfield } from '../../../../src/core/bitfield.ts'
import { Steering } from '../../../../src/ops/gateway/steering.ts'
import type { Source } from '../../../../src/transfer/source.ts'
import { settle } from '../../../support/fake-clock.ts'
import { FakeSource } from '../../../support/fake-source.ts'
import { testFile } from '../../../support/store-fixture.ts'

const chunks = 200
const file = testFile(
  'steered',
  Array.from({ length: chunks }, () => 8),
)
const signal = new AbortController().signal

/** The session's view: what every source is seen to claim, in the order in which it was told. */
async function steered(
  ...sources: FakeSource[]
): Promise<{ steering: Steering; told: number[][] }> {
  const steering = new Steering(file.root)
  const finder = steering.finderOver({
    async *find() {
      for (const source of sources) yield { type: 'source', source }
    },
  })
  const told: number[][] = []
  for await (const found of finder.find([], { peers: [], signal })) {
    if (found.type !== 'source') continue
    const seen: number[] = []
    told.push(seen)
    watch(found.source, seen)
  }
  await settle()
  return { steering, told }
}

function watch(source: Source, seen: number[]): void {
  const files = [{ root: file.root, chunks }]
  const onHave: Parameters<Source['watch']>[1] = ({ gained, lost }) => {
    for (const [start, end] of gained) for (let c = start; c < end; c += 1) seen.push(c)
    for (const [start] of lost) seen.push(-start)
  }
  source.watch(files, onHave, { signal })
}

function held(count: number): Bitfield {
  const bits = new Bitfield(chunks)
  for (let chunk = 0; chunk < count; chunk += 1) bits.add(chunk)
  return bits
}

test('shows the first chunks first, and more as they come, each once', async () => {
  const { steering, told } = await steered(new FakeSource('a', [file]))
  const [seen = []] = told
  expect(seen).toEqual([0, 1])
  for (let count = 0; count <= chunks; count += 1) steering.advance(held(count))
  expect(seen).toEqual(Array.from({ length: chunks }, (_, chunk) => chunk))
})

test('widens its window as it is filled, and no further than a fast line needs', async () => {
  const { steering, told } = await steered(new FakeSource('a', [file]))
  const ahead: number[] = []
  for (const count of [1, 2, 4, 8, 16, 32, 64]) {
    steering.advance(held(count))
    ahead.push((told[0]?.length ?? 0) - count)
  }
  expect(ahead[0]).toBeLessThanOrEqual(4)
  expect(ahead.at(-1)).toBeGreaterThan(32)
  expect(Math.max(...ahead)).toBeLessThanOrEqual(128)
})

test('jumps to where a reader waits, and comes back to the rest', async () => {
  const { steering, told } = await steered(new FakeSource('a', [file]))
  const [seen = []] = told
  steering.want(150, held(0))
  expect(seen).toEqual([0, 1, 150, 151])
  const present = held(2)
  for (let chunk = 150; chunk < chunks; chunk += 1) {
    present.add(chunk)
    steering.advance(present)
  }
  for (let chunk = 2; chunk < 150; chunk += 1) {
    present.add(chunk)
    steering.advance(present)
  }
  expect(seen.toSorted((a, b) => a - b)).toEqual(Array.from({ length: chunks }, (_, c) => c))
})

test('begins where the reader is when nothing is known yet', async () => {
  const steering = new Steering(file.root)
  steering.want(70, undefined)
  const finder = steering.finderOver({
    async *find() {
      yield { type: 'source', source: new FakeSource('a', [file]) }
    },
  })
  const seen: number[] = []
  for await (const found of finder.find([], { peers: [], signal })) {
    if (found.type === 'source') watch(found.source, seen)
  }
  await settle()
  expect(seen).toEqual([70, 71])
})

test('passes on only what a source has, and what it lost', async () => {
  const some = held(0)
  some.add(1)
  const source = new FakeSource('a', [{ ...file, held: some }])
  const { told } = await steered(source, new FakeSource('b', [file]))
  expect(told).toEqual([[1], [0, 1]])
  source.tell(file.root, { gained: [[0, 1]] })
  source.tell(file.root, { gained: [[5, 9]] })
  source.tell(file.root, { lost: [[1, 2]] })
  // Nobody waits for 5 to 8 yet.
  expect(told[0]).toEqual([1, 0, -1])
})

test('gives one source one face, so that a download knows it again', async () => {
  const steering = new Steering(file.root)
  const source = new FakeSource('a', [file])
  const finder = steering.finderOver({
    async *find() {
      yield { type: 'source', source }
      yield { type: 'source', source }
    },
  })
  const faces = new Set<Source>()
  for await (const found of finder.find([], { peers: [], signal })) {
    if (found.type === 'source') faces.add(found.source)
  }
  expect(faces.size).toBe(1)
})
