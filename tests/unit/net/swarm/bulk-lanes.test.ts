import { beforeEach, expect, test } from 'vitest'
import type { Plane } from '../../../../src/bulk/plane.ts'
import type { ChunkJob, JobOptions, Lane, LaneSpec } from '../../../../src/bulk/plane-lane.ts'
import { rawCid } from '../../../../src/core/cid.ts'
import {
  IntegrityError,
  LimitError,
  ProtocolError,
  UnavailableError,
} from '../../../../src/core/errors.ts'
import { silentLog } from '../../../../src/core/log.ts'
import { KiB, MiB, minute, second } from '../../../../src/core/units.ts'
import { BulkLanes } from '../../../../src/net/swarm/bulk-lanes.ts'
import type { SwarmChannel } from '../../../../src/net/swarm/swarm-channel.ts'
import type { LaneSide } from '../../../../src/net/swarm/peer-lanes.ts'
import { FakeClock } from '../../../support/fake-clock.ts'

const address = { host: '192.0.2.1', port: 4001 }
const digest = new Uint8Array(32)
const request = { root: rawCid(digest), index: 0, offset: 0, length: 1, digest }
const target = { fd: -1, offset: 0, length: 1 }
const options = { signal: new AbortController().signal, onChecked: () => undefined }

class FakeLane implements Lane {
  readonly peer = 'them'
  readonly requestsMax = 64
  bytesReceived = 0
  readonly #closing = new AbortController()
  readonly jobs: PromiseWithResolvers<void>[] = []
  inFlight = 0

  get closed(): AbortSignal {
    return this.#closing.signal
  }

  async fetchChunk(_job: ChunkJob, _options: JobOptions): Promise<void> {
    const job = Promise.withResolvers<void>()
    this.jobs.push(job)
    this.inFlight += 1
    try {
      await job.promise
    } finally {
      this.inFlight -= 1
    }
  }

  close(reason: Error): void {
    this.#closing.abort(reason)
    for (const job of this.jobs) job.reject(reason)
  }
}

let clock: FakeClock
let lanes: FakeLane[]
/** What the next attempts end with; lanes once they are used up. */
let failures: Error[]
/** What an attempt waits for. */
let ready: Promise<void>
let attempts: LaneSpec[]
let addresses: (typeof address)[]
let backs: string[]
let reasons: string[]
let bans: Error[]
let stream: AbortController
let bulk: BulkLanes

beforeEach(() => {
  clock = new FakeClock()
  lanes = []
  failures = []
  ready = Promise.resolve()
  attempts = []
  addresses = [address]
  backs = []
  reasons = []
  bans = []
  stream = new AbortController()
  openBulk()
})

function openBulk({ back }: Partial<Pick<LaneSide, 'back'>> = {}): void {
  const plane: Plane = {
    threads: 2,
    async openLane(spec) {
      attempts.push(spec)
      await ready
      const failure = failures.shift()
      if (failure !== undefined) throw failure
      const lane = new FakeLane()
      lanes.push(lane)
      return lane
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  }
  const side: LaneSide = {
    isWanted: true,
    addresses: () => Promise.resolve(addresses),
    back,
    explain: why => void reasons.push(why),
    askBack: why => backs.push(why) > 0,
    add: () => undefined,
  }
  const onBan = (reason: Error): void => void bans.push(reason)
  bulk = new BulkLanes(
    { plane, clock, log: silentLog },
    { peer: 'them', side, closed: stream.signal, onBan },
  )
}

async function want(): Promise<void> {
  bulk.want()
  await settle()
}

async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await Promise.resolve()
}

test('opens one lane, and another when a download keeps it busy', async () => {
  expect(bulk.isUp).toBe(false)
  await want()
  await want()
  expect([bulk.isUp, lanes.length]).toEqual([true, 1])
  const jobs = [1, 2, 3, 4].map(() => bulk.fetchChunkTo(request, target, options))
  await want()
  await want()
  expect(attempts).toHaveLength(2)
  const next = bulk.fetchChunkTo(request, target, options)
  expect(lanes.map(({ inFlight }) => inFlight)).toEqual([4, 1])
  for (const lane of lanes) for (const job of lane.jobs) job.resolve()
  await Promise.all([...jobs, next])
})

test('waits longer and longer when no lane can be had, and asks the peer to dial', async () => {
  failures = Array.from({ length: 30 }, () => new UnavailableError('refused'))
  await want()
  await want()
  expect([attempts.length, backs]).toEqual([1, ['refused']])
  let waitedMs = 0
  for (let attempt = 2; attempt < 20; attempt += 1) {
    while (attempts.length < attempt) {
      clock.jump(clock.now() + second)
      waitedMs += second
      await want()
    }
  }
  expect(waitedMs).toBeGreaterThan(60 * minute)
  expect(bulk.isUp).toBe(false)
})

test('a peer without an address for lanes is asked to dial', async () => {
  addresses = []
  await want()
  expect(attempts).toEqual([])
  expect(backs).toEqual(['no address of the peer takes lanes'])
})

test('a lane that closes under a chunk does not count against the peer', async () => {
  await want()
  const fetching = bulk.fetchChunkTo(request, target, options)
  lanes[0]?.close(new UnavailableError('connection reset'))
  await expect(fetching).rejects.toBeInstanceOf(LimitError)
  expect([bulk.isUp, bans]).toEqual([false, []])
  await want()
  expect(lanes).toHaveLength(1)
  clock.jump(clock.now() + second)
  await want()
  expect(bulk.isUp).toBe(true)
})

test('bad bytes and refusals are told as they are', async () => {
  await want()
  for (const error of [new IntegrityError('bad'), new UnavailableError('not held')]) {
    const fetching = bulk.fetchChunkTo(request, target, options)
    lanes[0]?.jobs.at(-1)?.reject(error)
    await expect(fetching).rejects.toBe(error)
  }
  expect(bulk.isUp).toBe(true)
})

test('a breach of the rules on a lane bans the peer', async () => {
  await want()
  lanes[0]?.close(new ProtocolError('nonsense'))
  expect(bans).toEqual([lanes[0]?.closed.reason])
})

/** What `way` says once it says something. */
function watchWay(length = MiB): { isStream: boolean | undefined } {
  const seen: { isStream: boolean | undefined } = { isStream: undefined }
  void bulk.way(length, options.signal).then(found => (seen.isStream = found === undefined))
  return seen
}

test('while the first lane is opened the stream carries a MiB at a time, and then nothing', async () => {
  const coming = Promise.withResolvers<void>()
  ready = coming.promise
  const first = watchWay(MiB - 9 * KiB)
  const small = watchWay(9 * KiB)
  const next = watchWay()
  const last = watchWay()
  await settle()
  expect([first, small, next, last].map(({ isStream }) => isStream)).toEqual([
    true,
    true,
    undefined,
    undefined,
  ])
  expect(reasons).toEqual(['a lane is being opened'])
  bulk.streamed(MiB - 9 * KiB)
  await settle()
  expect(next.isStream).toBeUndefined()
  bulk.streamed(9 * KiB)
  await settle()
  expect([next.isStream, last.isStream]).toEqual([true, undefined])
  coming.resolve()
  await settle()
  expect(last.isStream).toBe(false)
  expect(clock.sleepers).toBe(0)
})

test('nothing waits long for a lane, nor when cancelled', async () => {
  const coming = Promise.withResolvers<void>()
  ready = coming.promise
  watchWay()
  const late = watchWay()
  await settle()
  const cancelled = bulk.way(MiB, AbortSignal.abort(new Error('cancelled')))
  await expect(cancelled).rejects.toThrow('cancelled')
  await clock.advance(5 * second)
  expect(late.isStream).toBe(true)
  coming.resolve()
})

test('nothing waits for a lane where one failed before, or where the peer dialled one', async () => {
  failures = [new UnavailableError('refused')]
  await want()
  expect(reasons).toEqual(['a lane is being opened', 'refused'])
  clock.jump(clock.now() + second)
  const coming = Promise.withResolvers<void>()
  ready = coming.promise
  const again = [watchWay(), watchWay(), watchWay()]
  await settle()
  expect(attempts).toHaveLength(2)
  expect(again.map(({ isStream }) => isStream)).toEqual([true, true, true])
  coming.resolve()
  await settle()
  lanes[0]?.close(new UnavailableError('gone'))

  openBulk({ back: {} as SwarmChannel })
  ready = Promise.withResolvers<void>().promise
  const dialled = [watchWay(), watchWay(), watchWay()]
  await settle()
  expect(dialled.map(({ isStream }) => isStream)).toEqual([true, true, true])
})

test('a lane that ends before it carried anything is tried again ever more seldom', async () => {
  for (const [at, waitMs] of [second, 2 * second, 4 * second].entries()) {
    await want()
    expect(attempts).toHaveLength(at + 1)
    lanes.at(-1)?.close(new UnavailableError('connection reset'))
    clock.jump(clock.now() + waitMs - 1)
    await want()
    expect(attempts).toHaveLength(at + 1)
    clock.jump(clock.now() + 1)
  }
  await want()
  const carried = lanes.at(-1) as FakeLane
  carried.bytesReceived = 1
  carried.close(new UnavailableError('connection reset'))
  clock.jump(clock.now() + second)
  await want()
  expect(attempts).toHaveLength(5)
})

test('lanes end with the stream', async () => {
  await want()
  stream.abort(new UnavailableError('gone'))
  expect(lanes[0]?.closed.aborted).toBe(true)
  clock.jump(clock.now() + minute)
  await want()
  expect(attempts).toHaveLength(1)
})
