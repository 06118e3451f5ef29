import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { type AdoptRequest, adoptRequestSchema } from '../../../../src/api/adoption.ts'
import { second } from '../../../../src/core/units.ts'
import { openHashPool, type HashPool } from '../../../../src/ingest/hash-file.ts'
import { type Adoption, openAdoption } from '../../../../src/ops/adopt/watch.ts'
import type { Store } from '../../../../src/store/store.ts'
import { type CachesFixture, openCachesFixture } from '../../../support/caches-fixture.ts'
import { FakeClock } from '../../../support/fake-clock.ts'
import { writeSnapshot } from '../../../support/model-caches.ts'

let fixture: CachesFixture
let root: string
let store: Store
let clock: FakeClock
let adoption: Adoption
let stop: AbortController
let running: Promise<void>

let threads: HashPool
beforeAll(() => {
  threads = openHashPool()
})
afterAll(() => threads[Symbol.asyncDispose]())

beforeEach(async () => {
  fixture = await openCachesFixture(threads)
  ;({ root, store } = fixture)
  clock = new FakeClock()
  start()
})
afterEach(async () => {
  await end()
  await fixture[Symbol.asyncDispose]()
})

function start(): void {
  adoption = openAdoption(fixture.adoptDeps(clock))
  stop = new AbortController()
  running = adoption.watch(stop.signal)
}

async function end(): Promise<void> {
  stop.abort()
  await running
}

async function adopt(request: Partial<AdoptRequest>): Promise<void> {
  const parsed = adoptRequestSchema.parse({ kind: 'adopt', hf: [root], ...request })
  await adoption.adopt(parsed, {
    signal: new AbortController().signal,
    onEvent: () => undefined,
  })
}

/** Whether it is so within ten minutes. Time passes only while nothing is read: threads do not know the clock. */
async function eventually(isSo: () => boolean): Promise<boolean> {
  for (let turn = 0; turn < 600 && !isSo(); turn += 1) {
    await clock.advance(second)
    while (clock.sleepers === 0) await new Promise(resolve => setImmediate(resolve))
  }
  return isSo()
}

function names(): (string | undefined)[] {
  return store.models().map(({ name }) => name)
}

test('what is new in a watched cache is adopted, and what is gone forgotten', async () => {
  await writeSnapshot(root, 'models--org--one', { 'a.bin': 'one' })
  await adopt({ watch: true })
  expect(names()).toEqual(['org/one'])
  await writeSnapshot(root, 'models--org--two', { 'b.bin': 'two' })
  expect(await eventually(() => names().includes('org/two'))).toBe(true)
  await rm(join(root, 'models--org--one'), { recursive: true })
  expect(await eventually(() => !names().includes('org/one'))).toBe(true)
})

test('a cache is watched again after a restart, until it is no longer wanted', async () => {
  await writeSnapshot(root, 'models--org--one', { 'a.bin': 'one' })
  await adopt({ watch: true })
  await end()
  await writeSnapshot(root, 'models--org--two', { 'b.bin': 'two' })
  start()
  expect(await eventually(() => names().includes('org/two'))).toBe(true)
  await adopt({ watch: false })
  await writeSnapshot(root, 'models--org--three', { 'c.bin': 'three' })
  expect(await eventually(() => names().includes('org/three'))).toBe(false)
})

test('a disk that is not mounted forgets nothing', async () => {
  await writeSnapshot(root, 'models--org--one', { 'a.bin': 'one' })
  await adopt({ watch: true })
  await rm(root, { recursive: true })
  expect(await eventually(() => names().length === 0)).toBe(false)
  await writeSnapshot(root, 'models--org--two', { 'b.bin': 'two' })
  expect(await eventually(() => names().includes('org/two'))).toBe(true)
})

test('nothing is watched that was not asked for', async () => {
  await writeSnapshot(root, 'models--org--one', { 'a.bin': 'one' })
  await adopt({})
  await writeSnapshot(root, 'models--org--two', { 'b.bin': 'two' })
  expect(await eventually(() => names().includes('org/two'))).toBe(false)
})

test('pinning goes on while watching', async () => {
  await mkdir(root)
  await adopt({ watch: true, pin: true })
  await writeSnapshot(root, 'models--org--two', { 'b.bin': 'two' })
  expect(await eventually(() => names().includes('org/two'))).toBe(true)
  expect(store.models()).toMatchObject([{ pinned: true }])
})

test('what is excluded stays so while watching', async () => {
  await mkdir(root)
  await adopt({ watch: true, exclude: ['lab/*'] })
  await writeSnapshot(root, 'models--lab--secret', { 'a.bin': 'one' })
  await writeSnapshot(root, 'models--org--two', { 'b.bin': 'two' })
  expect(await eventually(() => names().includes('org/two'))).toBe(true)
  expect(names()).toEqual(['org/two'])
})

test('who waits for a turn can give up, and the next still waits for it', async () => {
  await writeSnapshot(root, 'models--org--one', { 'a.bin': 'one' })
  await writeSnapshot(root, 'models--org--two', { 'b.bin': 'two' })
  const running = adopt({})
  const stop = new AbortController()
  const waiting = adoption.adopt(adoptRequestSchema.parse({ kind: 'adopt', hf: [root] }), {
    signal: stop.signal,
    onEvent: () => undefined,
  })
  const next = adopt({})
  stop.abort(new Error('given up'))
  await expect(waiting).rejects.toThrow('given up')
  await next
  await running
  expect(names()).toEqual(['org/one', 'org/two'])
})

test.for([
  ['by a bug', new TypeError('broken')],
  ['as what it looked at was gone', Object.assign(new Error('ENOENT'), { code: 'ENOENT' })],
] as const)('one look that fails %s does not end the watching', async ([, error]) => {
  await mkdir(root)
  await adopt({ watch: true })
  await end()
  let failures = 0
  fixture.pool = {
    ...threads,
    async hashFiles(...args) {
      failures += 1
      if (failures === 1) throw error
      return threads.hashFiles(...args)
    },
  }
  start()
  await writeSnapshot(root, 'models--org--one', { 'a.bin': 'one' })
  expect(await eventually(() => failures === 1)).toBe(true)
  await writeSnapshot(root, 'models--org--two', { 'b.bin': 'two' })
  expect(await eventually(() => names().includes('org/two'))).toBe(true)
  expect(names()).toContain('org/one')
})
