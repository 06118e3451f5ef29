/**
 * A node against peers that break the rules with raw bytes. Each must cost only itself: no crash, no
 * unhandled rejection (vitest fails the run on one), bounded memory, and the node goes on serving.
 */

import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import type { Clock } from '../../src/core/clock.ts'
import { systemClock } from '../../src/core/clock.ts'
import { ProtocolError, UnavailableError } from '../../src/core/errors.ts'
import { KiB, MiB, minute, second } from '../../src/core/units.ts'
import { verifyDigest } from '../../src/dag/verify.ts'
import { requestsInFlightMax } from '../../src/net/swarm/served-peer.ts'
import type { ChunkRequest, Source } from '../../src/transfer/source.ts'
import { encodeFrame, encodeHeader, flagMore, frameTypes } from '../../src/wire/frames.ts'
import {
  decodeChunkAsk,
  decodeReason,
  encodeChunkAsk,
  encodeHave,
  encodePeers,
  encodeReason,
  encodeUnwatch,
  encodeWatch,
  goodbyeCodes,
  refusalCodes,
} from '../../src/wire/messages.ts'
import { fuzzTimeoutMs, untilTime } from '../support/fuzz.ts'
import {
  helloFrame,
  openHostilePeer,
  type RawChannel,
  type RawFrame,
} from '../support/hostile-peer.ts'
import { openSwarmNode, type SwarmNode, until } from '../support/libp2p-pair.ts'
import {
  MemoryReader,
  type SampleFile,
  sampleFile,
  sampleManifest,
} from '../support/memory-reader.ts'

const options = { signal: new AbortController().signal }
const empty = new Uint8Array(0)

let file: SampleFile
let victim: SwarmNode
let reader: MemoryReader
/** The system's clock, ahead by what a test skipped, or standing still. */
let skippedMs = 0
let stoppedAtMs: number | undefined
const clock: Clock = {
  now: () => systemClock.now() + skippedMs,
  monotonic: () => stoppedAtMs ?? systemClock.monotonic() + skippedMs,
  // Long waits are looked at often, so that a skip ends them.
  async sleep(ms, signal) {
    const end = clock.monotonic() + ms
    while (clock.monotonic() < end) {
      await systemClock.sleep(Math.min(20, end - clock.monotonic()), signal)
    }
  },
}

beforeAll(async () => {
  file = sampleFile(64 * 256 * KiB, 256 * KiB)
  reader = new MemoryReader().addFile(file).addManifest(sampleManifest())
  victim = await openSwarmNode({ reader, clock })
})
afterAll(async () => victim[Symbol.asyncDispose]())
beforeEach(() => {
  reader.alter = bytes => bytes
  reader.beforeRead = () => undefined
  stoppedAtMs = undefined
})

function isGreeted(id: string): boolean {
  return victim.swarm.peers().some(({ peerId }) => peerId === id)
}

/** The victim still does its work for an honest peer. */
async function expectServing(): Promise<void> {
  await using honest = await openSwarmNode()
  const source = await honest.swarm.connect(victim.hint(), options)
  const { digest, offset, length } = file.table.ref(1)
  const bytes = await source.fetchChunk({ root: file.root, index: 1, offset, length }, options)
  expect(verifyDigest(digest, bytes).bytes).toHaveLength(length)
}

interface Vectors {
  readonly hostile: { name: string; hex: string }[]
}
const vectors = JSON.parse(
  readFileSync(new URL('../vectors/frames.json', import.meta.url), 'utf8'),
) as Vectors

const attacks: Record<string, (channel: RawChannel) => void> = {
  'a second hello': channel => channel.send(helloFrame(), helloFrame()),
  'a frame before hello': channel =>
    channel.send(encodeFrame(frameTypes.cancel, 1, empty), helloFrame()),
  'an answer that nobody asked for': channel =>
    channel.send(helloFrame(), encodeFrame(frameTypes.data, 77, Buffer.from('x'))),
  'a refusal that nobody asked for': channel =>
    channel.send(
      helloFrame(),
      encodeFrame(frameTypes.refusal, 77, encodeReason({ code: 0, text: '' })),
    ),
  'peers that nobody asked for': channel =>
    channel.send(helloFrame(), encodeFrame(frameTypes.peers, 77, encodePeers([]))),
  'a have for a file that nobody watches': channel =>
    channel.send(
      helloFrame(),
      encodeFrame(frameTypes.have, 0, encodeHave([{ ref: 5, kind: 'all' }])),
    ),
  'an id that is in use': channel => {
    const ask = encodeFrame(frameTypes.getChunk, 9, encodeChunkAsk({ root: file.root, index: 0 }))
    channel.send(helloFrame(), ask, ask)
  },
  'a ref that is in use': channel => {
    const watch = encodeWatch([{ ref: 1, root: file.root, chunks: file.table.count }])
    channel.send(
      helloFrame(),
      encodeFrame(frameTypes.watch, 0, watch),
      encodeFrame(frameTypes.watch, 0, watch),
    )
  },
  'one file watched a hundred times': channel => {
    const entries = Array.from({ length: 100 }, (_, ref) => ({
      ref,
      root: file.root,
      chunks: file.table.count,
    }))
    channel.send(helloFrame(), encodeFrame(frameTypes.watch, 0, encodeWatch(entries)))
  },
  garbage: channel => channel.send(randomBytes(100_000)),
  'garbage after hello': channel => channel.send(helloFrame(), randomBytes(100_000)),
  'an HTTP request': channel => channel.send(Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n')),
}

test.for(Object.entries(attacks))('%s ends that peer, with the reason', async ([, attack]) => {
  await using hostile = await openHostilePeer()
  const channel = await hostile.dial(victim.hint())
  attack(channel)
  await channel.closed
  const [goodbye] = channel.ofType(frameTypes.goodbye)
  expect(decodeReason(goodbye?.payload ?? empty).code).toBe(goodbyeCodes.protocol)
  await expect(victim.swarm.connect(hostile.hint(), options)).rejects.toThrow('banned')
  await expectServing()
})

test.for(vectors.hostile)('$name ends that peer', async ({ hex }) => {
  await using hostile = await openHostilePeer()
  const channel = await hostile.dial(victim.hint())
  const bytes = Buffer.from(hex, 'hex')
  const isHello = bytes[4] === frameTypes.hello
  channel.send(...(isHello ? [bytes] : [helloFrame(), bytes]))
  await channel.closed
  await expect(victim.swarm.connect(hostile.hint(), options)).rejects.toThrow('banned')
})

test.for([
  ['half a header', (): Uint8Array[] => [helloFrame().subarray(0, 7)]],
  ['half a frame', (): Uint8Array[] => [helloFrame(), helloFrame().subarray(0, 20)]],
  ['nothing at all', (): Uint8Array[] => []],
] as const)('%s and then the end is no crime', async ([, bytes]) => {
  await using hostile = await openHostilePeer()
  const channel = await hostile.dial(victim.hint())
  channel.send(...bytes())
  await channel.stream.close()
  await channel.closed
  await expect.poll(() => isGreeted(hostile.id)).toBe(false)
  // It would be let in again.
  const again = await hostile.dial(victim.hint())
  again.hello()
  await until(() => again.ofType(frameTypes.hello).length === 1)
})

test('who never says hello is closed after ten seconds, and may come back', async () => {
  await using hostile = await openHostilePeer()
  const channel = await hostile.dial(victim.hint())
  await until(() => channel.ofType(frameTypes.hello).length === 1)
  skippedMs += 11 * second
  await channel.closed
  const again = await hostile.dial(victim.hint())
  again.hello()
  await expect.poll(() => isGreeted(hostile.id)).toBe(true)
})

test('a hello byte by byte is a hello', async () => {
  await using hostile = await openHostilePeer()
  const channel = await hostile.dial(victim.hint())
  for (const byte of helloFrame()) {
    channel.send(Uint8Array.of(byte))
    await new Promise(resolve => setTimeout(resolve, 1))
  }
  await expect.poll(() => isGreeted(hostile.id)).toBe(true)
})

/** Connects the victim to a peer that answers each request as `answer` says. */
async function withAnswers(
  answer: (channel: RawChannel, frame: RawFrame) => void,
  use: (source: Source) => Promise<void>,
): Promise<void> {
  await using hostile = await openHostilePeer(channel => {
    channel.onFrame = frame => {
      if (frame.id !== 0) answer(channel, frame)
    }
    channel.hello()
  })
  await use(await victim.swarm.connect(hostile.hint(), options))
}

function data(id: number, bytes: Uint8Array, flags = 0): Uint8Array {
  const header = { length: bytes.length, type: frameTypes.data, flags, id }
  return Buffer.concat([encodeHeader(header), bytes])
}

const firstChunk = (): ChunkRequest => ({ root: file.root, index: 0, offset: 0, length: 1500 })

const wrongAnswers: Record<string, (channel: RawChannel, frame: RawFrame) => void> = {
  'too short': (channel, { id }) => channel.send(data(id, randomBytes(1000))),
  'too long': (channel, { id }) => channel.send(data(id, randomBytes(2000))),
  empty: (channel, { id }) => channel.send(data(id, empty)),
  'of peers': (channel, { id }) => channel.send(encodeFrame(frameTypes.peers, id, encodePeers([]))),
  'to another id': (channel, { id }) => channel.send(data(id + 1, randomBytes(1500))),
  'given twice': (channel, { id }) =>
    channel.send(data(id, randomBytes(1500)), data(id, randomBytes(1500))),
  'without end': (channel, { id }) => {
    for (let sent = 0; sent < 64; sent += 1) channel.send(data(id, randomBytes(KiB), flagMore))
  },
}

test.for(Object.entries(wrongAnswers))('an answer %s bans the peer', async ([, answer]) => {
  await withAnswers(answer, async source => {
    const chunk = source.fetchChunk(firstChunk(), options)
    await chunk.catch(() => undefined)
    await until(() => source.closed.aborted)
    expect(source.closed.reason).toBeInstanceOf(ProtocolError)
  })
})

test('wrong bytes of the right length come through for the verifier to refuse', async () => {
  await withAnswers(
    (channel, { id }) => channel.send(data(id, randomBytes(1500))),
    async source => {
      const bytes = await source.fetchChunk(firstChunk(), options)
      expect(() => verifyDigest(file.table.digest(0), bytes)).toThrow('expected SHA-256')
      source.ban(new ProtocolError('a bad chunk'))
      expect(source.closed.aborted).toBe(true)
    },
  )
})

test('who accepts requests and never answers costs only the time the asker gives it', async () => {
  await withAnswers(
    () => undefined,
    async source => {
      const asked = Array.from({ length: 200 }, (_, index) =>
        source.fetchChunk(
          { root: file.root, index: index % 64, offset: 0, length: 256 * KiB },
          { signal: AbortSignal.timeout(50) },
        ),
      )
      const results = await Promise.allSettled(asked)
      expect(results.every(({ status }) => status === 'rejected')).toBe(true)
      expect(source.closed.aborted).toBe(false)
    },
  )
})

test('a trickle of an answer is given up with the signal', async () => {
  await withAnswers(
    (channel, frame) => {
      if (frame.type !== frameTypes.getChunk) return
      expect(decodeChunkAsk(frame.payload).index).toBe(0)
      const whole = data(frame.id, randomBytes(1500))
      for (let at = 0; at < 100; at += 1) {
        setTimeout(() => channel.send(whole.subarray(at, at + 1)), at * 10)
      }
    },
    async source => {
      const signal = AbortSignal.timeout(100)
      const chunk = source.fetchChunk(firstChunk(), { signal })
      await expect(chunk).rejects.toThrow('timeout')
    },
  )
})

test('a table without end ends at the size that the file can need', async () => {
  await withAnswers(
    (channel, { id }) => {
      void (async () => {
        const piece = data(id, randomBytes(256 * KiB), flagMore)
        while (channel.stream.status === 'open') await channel.sendSlowly(piece)
      })()
    },
    async source => {
      await source.fetchTable(file.root, 100 * MiB, options).catch(() => undefined)
      await until(() => source.closed.aborted)
      expect(source.closed.reason).toBeInstanceOf(ProtocolError)
    },
  )
})

test('haves past the end of a file ban the peer', async () => {
  await using hostile = await openHostilePeer(channel => {
    channel.onFrame = frame => {
      if (frame.type !== frameTypes.watch) return
      const entries = [{ ref: 0, kind: 'gained', ranges: [[0, 65]] }] as const
      channel.send(encodeFrame(frameTypes.have, 0, encodeHave(entries)))
    }
    channel.hello()
  })
  const source = await victim.swarm.connect(hostile.hint(), options)
  source.watch([{ root: file.root, chunks: 64 }], () => undefined, options)
  await until(() => source.closed.aborted)
  expect(source.closed.reason).toBeInstanceOf(ProtocolError)
})

/** Sends frames as fast as they are taken until the victim has enough; fails when it never has. */
async function flood(channel: RawChannel, frame: (index: number) => Uint8Array): Promise<void> {
  const endMs = performance.now() + 50 * second
  for (let index = 0; channel.stream.status === 'open'; index += 1) {
    if (performance.now() > endMs) throw new Error('the flood was endured')
    await channel.sendSlowly(frame(index))
    if (index % 64 === 0) await new Promise(resolve => setImmediate(resolve))
  }
}

const manyHaves = encodeFrame(
  frameTypes.have,
  0,
  encodeHave([
    {
      ref: 0,
      kind: 'gained',
      ranges: Array.from({ length: 131_000 }, (_, index) => [index * 2, index * 2 + 1] as const),
    },
  ]),
)
const floods: Record<string, (index: number) => Uint8Array> = {
  'requests for what is not held': index =>
    Buffer.concat(
      Array.from({ length: 500 }, (_, more) =>
        encodeFrame(
          frameTypes.getChunk,
          index * 500 + more + 1,
          encodeChunkAsk({ root: sampleRoot, index: more }),
        ),
      ),
    ),
  cancels: index =>
    Buffer.concat(
      Array.from({ length: 1000 }, (_, more) =>
        encodeFrame(frameTypes.cancel, index * 1000 + more + 1, empty),
      ),
    ),
  'watches and unwatches': index => {
    const refs = Array.from({ length: 1000 }, (_, more) => index * 1000 + more)
    const root = sampleRoot
    return Buffer.concat(
      refs.flatMap(ref => [
        encodeFrame(frameTypes.watch, 0, encodeWatch([{ ref, root, chunks: 1 }])),
        encodeFrame(frameTypes.unwatch, 0, encodeUnwatch([ref])),
      ]),
    )
  },
  'haves of 131 000 ranges': () => manyHaves,
  'frames of a type to be skipped': () =>
    Buffer.concat(
      Array.from({ length: 200 }, () => [
        encodeHeader({ length: KiB, type: 0x99, flags: 0, id: 0 }),
        kibibyte,
      ]).flat(),
    ),
  'empty frames of a type to be skipped': () =>
    Buffer.concat(
      Array.from({ length: 1000 }, () => encodeHeader({ length: 0, type: 0x99, flags: 0, id: 0 })),
    ),
}
const sampleRoot = sampleManifest().cid
const kibibyte = randomBytes(KiB)

test.for(Object.entries(floods))('a flood of %s runs dry, in bounded memory', async ([, frame]) => {
  let opened: RawChannel | undefined
  await using hostile = await openHostilePeer(channel => {
    opened = channel
    channel.hello()
  })
  // The victim watches one file, so that a have for ref 0 is not refused at once.
  const source = await victim.swarm.connect(hostile.hint(), options)
  source.watch([{ root: sampleRoot, chunks: 0xffff_ffff }], () => undefined, options)
  if (opened === undefined) throw new TypeError('the victim opened no stream')
  opened.keepsFrames = false
  const before = process.memoryUsage().rss
  // Time earns the peer new units of work: on a slow machine the flood would be honest traffic.
  stoppedAtMs = clock.monotonic()
  await flood(opened, frame)
  stoppedAtMs = undefined
  // What waits to be collected counts: 174 MiB were seen. Kept, a flood would be gigabytes.
  expect(process.memoryUsage().rss - before).toBeLessThan(400 * MiB)
  await expectServing()
})

test('who asks for more at a time than allowed is refused the rest', async () => {
  const gate = Promise.withResolvers<void>()
  reader.beforeRead = () => gate.promise
  await using hostile = await openHostilePeer()
  const channel = await hostile.dial(victim.hint())
  channel.hello()
  const asks = Array.from({ length: requestsInFlightMax + 10 }, (_, index) =>
    encodeFrame(
      frameTypes.getChunk,
      index + 1,
      encodeChunkAsk({ root: file.root, index: index % 64 }),
    ),
  )
  channel.send(...asks)
  await until(() => channel.ofType(frameTypes.refusal).length === 10)
  const codes = channel.ofType(frameTypes.refusal).map(({ payload }) => decodeReason(payload).code)
  expect(new Set(codes)).toEqual(new Set([refusalCodes.busy]))
  gate.resolve()
  await until(() => channel.ofType(frameTypes.data).length >= requestsInFlightMax)
})

test('a peer that asks and does not read holds up nobody, holds little, and is dropped', async () => {
  const large = sampleFile(64 * MiB)
  reader.addFile(large)
  await using hostile = await openHostilePeer()
  const channel = await hostile.dial(victim.hint())
  channel.hello()
  await until(() => channel.ofType(frameTypes.hello).length === 1)
  const readsBefore = reader.reads
  channel.stream.pause()
  channel.send(
    ...Array.from({ length: requestsInFlightMax }, (_, index) =>
      encodeFrame(
        frameTypes.getChunk,
        index + 1,
        encodeChunkAsk({ root: large.root, index: index % 64 }),
      ),
    ),
  )
  await until(() => reader.reads > readsBefore)
  await new Promise(resolve => setTimeout(resolve, 300))
  // Some MiB of windows and buffers, and not the 64 MiB asked for.
  expect(reader.reads - readsBefore).toBeLessThan(24)
  await expectServing()
  skippedMs += 2 * minute
  await expect.poll(() => isGreeted(hostile.id)).toBe(false)
})

test('hundreds of streams of one peer leave it with one channel', async () => {
  await using hostile = await openHostilePeer()
  const channels = await Promise.allSettled(
    Array.from({ length: 50 }, async () => {
      const channel = await hostile.dial(victim.hint())
      channel.hello()
      return channel
    }),
  )
  expect(channels.length).toBe(50)
  await expect
    .poll(() => victim.swarm.peers().filter(({ peerId }) => peerId === hostile.id).length)
    .toBeLessThanOrEqual(1)
  await expectServing()
})

test('a peer exchange full of nonsense gives no hints, and too many are cut', async () => {
  await using liar = await openHostilePeer(channel => {
    channel.onFrame = ({ type, id }) => {
      if (type !== frameTypes.getPeers) return
      const nonsense = Array.from({ length: 50 }, () => ({
        peerId: randomBytes(38),
        addresses: [randomBytes(20)],
      }))
      channel.send(encodeFrame(frameTypes.peers, id, encodePeers(nonsense)))
    }
    channel.hello()
  })
  const source = await victim.swarm.connect(liar.hint(), options)
  expect(await victim.swarm.exchange([file.root], { signal: AbortSignal.timeout(3000) })).toEqual(
    [],
  )
  source.ban(new ProtocolError('done'))
})

test('whatever bytes a peer sends, the node lives on', { timeout: fuzzTimeoutMs() }, async () => {
  const frames = fc.array(
    fc.record({
      type: fc.constantFrom(...Object.values(frameTypes), 0x80),
      id: fc.integer({ min: 0, max: 3 }),
      flags: fc.integer({ min: 0, max: 1 }),
      payload: fc.oneof(
        fc.uint8Array({ maxLength: 100 }),
        fc.constant(encodeChunkAsk({ root: file.root, index: 1 })),
        fc.constant(file.root.bytes),
        fc.constant(encodeWatch([{ ref: 0, root: file.root, chunks: 64 }])),
      ),
    }),
    { maxLength: 30 },
  )
  const run = async (sent: { type: number; id: number; flags: number; payload: Uint8Array }[]) => {
    await using hostile = await openHostilePeer()
    const channel = await hostile.dial(victim.hint())
    channel.send(
      helloFrame(),
      ...sent.flatMap(({ payload, ...header }) => [
        encodeHeader({ ...header, length: payload.length }),
        payload,
      ]),
    )
    await channel.stream.close({ signal: AbortSignal.timeout(second) }).catch(() => undefined)
  }
  await fc.assert(fc.asyncProperty(frames, run), {
    plugins: [untilTime()],
    numRuns: 1e6,
  })
  await expectServing()
  expect(victim.swarm.sources().every(({ closed }) => !closed.aborted)).toBe(true)
})

test('a node that is gone is unavailable, not an error of the protocol', async () => {
  const opened: RawChannel[] = []
  await using hostile = await openHostilePeer(channel => {
    opened.push(channel)
    channel.hello()
  })
  const source = await victim.swarm.connect(hostile.hint(), options)
  for (const { stream } of opened) stream.abort(new Error('cut'))
  await until(() => source.closed.aborted)
  expect(source.closed.reason).toBeInstanceOf(UnavailableError)
})
