/** The data plane with real threads, sockets and files: peers that lie, refuse, freeze and leave. */

import { type FileHandle, open } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openPlane, type Plane, type PlaneOptions } from '../../src/bulk/plane.ts'
import type { Lane } from '../../src/bulk/plane-lane.ts'
import { rawCid } from '../../src/core/cid.ts'
import { sha256 } from '../../src/core/digest.ts'
import {
  IntegrityError,
  LimitError,
  ProtocolError,
  StorageError,
  UnavailableError,
} from '../../src/core/errors.ts'
import { silentLog } from '../../src/core/log.ts'
import { KiB, MiB } from '../../src/core/units.ts'
import { refusalCodes } from '../../src/wire/messages.ts'
import { type LaneAnswer, type LanePeer, openLanePeer } from '../support/plain-lane.ts'
import { openScratchFolder } from '../support/scratch-folder.ts'

const chunks = Array.from({ length: 24 }, (_, index) => {
  const bytes = Buffer.alloc(index % 3 === 0 ? MiB : 40 * KiB, `chunk ${index} `)
  return { bytes, digest: sha256(bytes), offset: index * MiB }
})
const root = rawCid(sha256(Buffer.from('a file')))
const peerName = 'peer-under-test'
const entry = new URL('../support/plain-lane-child.ts', import.meta.url)
const signal = new AbortController().signal

let stack: AsyncDisposableStack
let file: FileHandle
let workers: Worker[]

beforeEach(async () => {
  stack = new AsyncDisposableStack()
  const scratch = stack.use(await openScratchFolder())
  file = await open(scratch.file('out'), 'w+')
  stack.defer(() => file.close())
  workers = []
})

afterEach(() => stack.disposeAsync())

function startPlane(options: PlaneOptions = {}): Plane {
  const start = (): Worker => {
    const worker = new Worker(entry, { execArgv: [] })
    workers.push(worker)
    return worker
  }
  const identity = { key: '', cert: '' }
  return stack.use(openPlane({ identity, log: silentLog }, { threads: 2, start, ...options }))
}

async function startPeer(
  answer: (index: number) => LaneAnswer | Promise<LaneAnswer> = honest,
): Promise<LanePeer> {
  return stack.use(await openLanePeer(answer))
}

function honest(index: number): Uint8Array {
  return chunks[index]?.bytes ?? new Uint8Array(0)
}

function openLane(plane: Plane, address: { host: string; port: number }): Promise<Lane> {
  return plane.openLane({ peer: peerName, addresses: [address] }, { signal })
}

interface FetchOptions {
  readonly fd?: number
  readonly signal?: AbortSignal
  readonly onChecked?: () => void
}

async function fetch(lane: Lane, index: number, options: FetchOptions = {}): Promise<void> {
  const { bytes, digest, offset } = chunks[index] as (typeof chunks)[number]
  const { fd = file.fd, ...rest } = options
  const job = { root, index, length: bytes.length, digest, fd, offset }
  await lane.fetchChunk(job, { signal, ...rest })
}

async function onDisk(index: number): Promise<Buffer> {
  const { bytes, offset } = chunks[index] as (typeof chunks)[number]
  const buffer = Buffer.alloc(bytes.length)
  await file.read(buffer, 0, buffer.length, offset)
  return buffer
}

test('checks chunks and writes them where they belong, over two lanes at once', async () => {
  const plane = startPlane()
  const peer = await startPeer()
  const lanes = await Promise.all([openLane(plane, peer), openLane(plane, peer)])
  expect(workers).toHaveLength(2)
  const checked: number[] = []
  await Promise.all(
    chunks.map((_, index) =>
      fetch(lanes[index % 2] as Lane, index, { onChecked: () => checked.push(index) }),
    ),
  )
  for (const [index, { bytes }] of chunks.entries()) expect(await onDisk(index)).toEqual(bytes)
  expect(checked.toSorted((a, b) => a - b)).toEqual([...chunks.keys()])
  expect(lanes[0].requestsMax).toBe(64)
  expect(lanes[0].bytesReceived).toBeGreaterThan(MiB)
})

test('two peers at once do not mix', async () => {
  const plane = startPlane({ threads: 1 })
  const [even, odd] = [await startPeer(), await startPeer()]
  const lanes = [await openLane(plane, even), await openLane(plane, odd)]
  await Promise.all(chunks.map((_, index) => fetch(lanes[index % 2] as Lane, index)))
  for (const [index, { bytes }] of chunks.entries()) expect(await onDisk(index)).toEqual(bytes)
  expect([even.lanes, odd.lanes]).toEqual([1, 1])
})

test('writes nothing of bad bytes, and names the peer', async () => {
  const plane = startPlane()
  const peer = await startPeer(index => {
    const bytes = Buffer.from(honest(index))
    bytes[7] = (bytes[7] ?? 0) ^ 1
    return bytes
  })
  const lane = await openLane(plane, peer)
  const error: unknown = await fetch(lane, 0).catch((thrown: unknown) => thrown)
  expect(error).toBeInstanceOf(IntegrityError)
  expect((error as Error).message).toContain(peerName)
  expect((await file.stat()).size).toBe(0)
})

test('tells a refusal, being busy and an answer of another length apart', async () => {
  const plane = startPlane()
  const peer = await startPeer(index => {
    if (index === 0) return refusalCodes.notHeld
    return index === 1 ? refusalCodes.busy : honest(index).subarray(1)
  })
  const lane = await openLane(plane, peer)
  await expect(fetch(lane, 0)).rejects.toBeInstanceOf(UnavailableError)
  await expect(fetch(lane, 1)).rejects.toBeInstanceOf(LimitError)
  expect(lane.closed.aborted).toBe(false)
  await expect(fetch(lane, 2)).rejects.toBeInstanceOf(ProtocolError)
  expect(lane.closed.reason).toBeInstanceOf(ProtocolError)
})

test('a cancelled request is told to the peer, and writes nothing', async () => {
  const plane = startPlane()
  const later = Promise.withResolvers<Uint8Array>()
  const peer = await startPeer(index => (index === 0 ? later.promise : honest(index)))
  const lane = await openLane(plane, peer)
  const stop = new AbortController()
  const fetching = fetch(lane, 0, { signal: stop.signal })
  await fetch(lane, 1)
  stop.abort(new Error('changed my mind'))
  await expect(fetching).rejects.toThrow('changed my mind')
  await expect.poll(() => peer.cancelled.length).toBe(1)
  await fetch(lane, 2)
  expect((await onDisk(0)).every(byte => byte === 0)).toBe(true)
})

test('what was checked is written, although it is cancelled then', async () => {
  const plane = startPlane()
  const lane = await openLane(plane, await startPeer())
  const stop = new AbortController()
  await fetch(lane, 0, { signal: stop.signal, onChecked: () => stop.abort() })
  expect(await onDisk(0)).toEqual(chunks[0]?.bytes)
})

test('a failed write is a StorageError with the cause, and the lane goes on', async () => {
  const plane = startPlane()
  const lane = await openLane(plane, await startPeer())
  await using full = await open('/dev/full', 'w')
  const error: unknown = await fetch(lane, 0, { fd: full.fd }).catch((thrown: unknown) => thrown)
  expect(error).toBeInstanceOf(StorageError)
  expect((error as Error).cause).toMatchObject({ code: 'ENOSPC' })
  await fetch(lane, 1)
  expect(await onDisk(1)).toEqual(chunks[1]?.bytes)
})

test('a peer that leaves midway ends its lane, and no other', async () => {
  const plane = startPlane()
  const leaving = await startPeer(index => (index < 3 ? honest(index) : undefined))
  const staying = await startPeer()
  const [lane, other] = [await openLane(plane, leaving), await openLane(plane, staying)]
  const waiting = fetch(lane, 4)
  await fetch(lane, 1)
  leaving.cut()
  await expect(waiting).rejects.toBeInstanceOf(UnavailableError)
  expect(lane.closed.aborted).toBe(true)
  await expect(fetch(lane, 2)).rejects.toBeInstanceOf(UnavailableError)
  await fetch(other, 4)
})

test('a thread that dies takes its lanes with it, and the next lane gets another thread', async () => {
  const plane = startPlane({ threads: 1 })
  const peer = await startPeer(index => (index === 0 ? undefined : honest(index)))
  const lane = await openLane(plane, peer)
  const waiting = fetch(lane, 0)
  await fetch(lane, 1)
  await workers[0]?.terminate()
  await expect(waiting).rejects.toBeInstanceOf(UnavailableError)
  expect(lane.closed.aborted).toBe(true)
  await fetch(await openLane(plane, peer), 2)
  expect(workers).toHaveLength(2)
})

test('no more is asked for than the budget of bytes in flight allows', async () => {
  const plane = startPlane({ bytesInFlightMax: 2 * MiB })
  const asked: number[] = []
  const gate = Promise.withResolvers<void>()
  const peer = await startPeer(async index => {
    asked.push(index)
    await gate.promise
    return honest(index)
  })
  const lane = await openLane(plane, peer)
  const stop = new AbortController()
  const [first, second, third] = [fetch(lane, 0), fetch(lane, 3), fetch(lane, 6)]
  const impatient = fetch(lane, 9, { signal: stop.signal })
  await expect.poll(() => asked.length).toBe(2)
  stop.abort(new Error('no more'))
  await expect(impatient).rejects.toThrow('no more')
  await sleep(50)
  expect(asked).toEqual([0, 3])
  gate.resolve()
  await Promise.all([first, second, third])
  expect(asked).toEqual([0, 3, 6])
})

test('an address that nobody answers at is passed over; none that leads there is an error', async () => {
  const plane = startPlane()
  const peer = await startPeer()
  const dead = { host: '127.0.0.1', port: 1 }
  const addresses = [dead, { host: peer.host, port: peer.port }]
  const lane = await plane.openLane({ peer: peerName, addresses }, { signal })
  await fetch(lane, 0)
  await expect(openLane(plane, dead)).rejects.toThrow(/no lane to peer-under-test/)
})

test('closing the plane ends what is under way, and leaves no lane', async () => {
  const plane = startPlane()
  const peer = await startPeer(index => (index === 0 ? undefined : honest(index)))
  const lane = await openLane(plane, peer)
  const waiting = fetch(lane, 0)
  const failed = waiting.catch((error: unknown) => error)
  await fetch(lane, 1)
  await plane[Symbol.asyncDispose]()
  expect(await failed).toBeInstanceOf(UnavailableError)
  await expect.poll(() => peer.lanes).toBe(0)
  await expect(openLane(plane, peer)).rejects.toBeInstanceOf(UnavailableError)
})
