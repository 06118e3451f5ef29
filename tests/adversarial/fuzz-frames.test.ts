/**
 * A real daemon under a flood of frames that are damaged or make no sense, on streams and on lanes: it lives, it logs
 * no bug, its memory is bounded, and it serves as before. FUZZ_FRAMES says how many; else FUZZ_SECONDS how long.
 */

import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { peerIdFromString } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import { expect, test } from 'vitest'
import { openClient } from '../../src/api/client.ts'
import { homePaths } from '../../src/api/home.ts'
import { makeLaneIdentity } from '../../src/bulk/certificate.ts'
import { dialLane } from '../../src/bulk/lane.ts'
import { codecs, makeCid, parseCid } from '../../src/core/cid.ts'
import { hour, MiB, second } from '../../src/core/units.ts'
import type { PeerHint } from '../../src/net/addresses.ts'
import { encodeFrame, frameTypes } from '../../src/wire/frames.ts'
import { laneFeatures } from '../../src/wire/messages.ts'
import { expectSameFiles, openStage, pull, seed, show } from '../support/end-to-end.ts'
import { fuzzMs, fuzzTimeoutMs } from '../support/fuzz.ts'
import { Babble, Dice, type Known } from '../support/fuzz-frames.ts'
import { helloFrame, type HostilePeer, openHostilePeer } from '../support/hostile-peer.ts'
import { keyOf } from '../support/libp2p-pair.ts'
import type { Machine } from '../support/machine.ts'
import { seededBytes, writeFiles } from '../support/model-files.ts'

const framesMax = Number(process.env['FUZZ_FRAMES'] ?? Infinity)
const isCounted = Number.isFinite(framesMax)
const firstSeed = Number(process.env['FUZZ_SEED'] ?? Date.now() % 1_000_000)
const peersAtOnce = 4
/** Of one peer, if it gets so far; each batch ends with a request, so that what was read is known. */
const batchesOfPeer = 16
const framesInBatch = 16
/** Ids of those requests; other frames have smaller ones, but for a few. */
const probeId = 0x7fff_0000
const nobodysKey = makeCid(codecs.raw, randomBytes(32))
/** Without an answer by then, damage has swallowed the question. */
const answerMs = 200
/** 256 MiB of chunks, 128 of documents and 128 of lanes may be on their way (limits.md), and 100 more. */
const rssBytesMax = 612 * MiB

interface Target {
  readonly hint: PeerHint
  readonly host: string
  readonly port: number
  /** Files that it holds. */
  readonly known: readonly Known[]
}

interface Reached {
  /** Those before a request that the daemon answered: it read them all. */
  frames: number
  peers: number
  lanes: number
}

/** Of each something: a busy machine may come to little in the time that is given. */
function hasMet({ frames, peers, lanes }: Reached): boolean {
  return frames > 0 && lanes > 0 && lanes < peers
}

/** A stream or a lane to the daemon. */
interface Way {
  send(bytes: Uint8Array): void
  readonly closed: Promise<unknown>
  /** Called with the id of each refusal. */
  onRefusal: (id: number) => void
}

/** One peer, until it is thrown out or has sent all; then it is gone for good. */
async function bother(target: Target, dice: Dice, reached: Reached): Promise<void> {
  await using hostile = await openHostilePeer()
  const isLane = dice.roll(2) === 0
  const opening = isLane ? openLane(target, hostile) : openStream(target, hostile)
  // More in this second than one address may open, or not in time on a busy machine: the next one will.
  const way = await opening.catch(() => undefined)
  reached.peers += 1
  if (way === undefined) return
  if (isLane) reached.lanes += 1
  const babble = new Babble(dice, target.known)
  way.send(helloFrame())
  for (let batch = 0; batch < batchesOfPeer; batch += 1) {
    const frames = Array.from({ length: framesInBatch }, () => babble.next())
    const id = probeId + batch
    const answered = new Promise(resolve => {
      way.onRefusal = refused => refused === id && resolve('answered')
    })
    const probe = encodeFrame(frameTypes.getTable, id, nobodysKey.bytes)
    way.send(Buffer.concat([...frames, probe]))
    if ((await Promise.race([answered, way.closed, sleep(answerMs)])) !== 'answered') return
    reached.frames += framesInBatch
  }
}

async function openStream({ hint }: Target, hostile: HostilePeer): Promise<Way> {
  const channel = await hostile.dial(hint)
  channel.keepsFrames = false
  const way: Way = {
    send: bytes => channel.send(bytes),
    closed: channel.closed,
    onRefusal: () => undefined,
  }
  channel.onFrame = ({ type, id }) => {
    if (type === frameTypes.refusal) way.onRefusal(id)
  }
  return way
}

async function openLane(target: Target, hostile: HostilePeer): Promise<Way> {
  const { hint, host, port } = target
  const channel = await hostile.dial(hint)
  channel.keepsFrames = false
  channel.send(helloFrame({ features: [laneFeatures.lane, laneFeatures.laneDial] }))
  const identity = await makeLaneIdentity(keyOf(hostile.libp2p))
  const options = { identity, peer: hint.peer.toString(), signal: AbortSignal.timeout(5 * second) }
  const lane = await dialLane({ host, port }, options)
  const way: Way = {
    send: bytes => void lane.send(bytes),
    closed: new Promise(resolve => lane.closed.addEventListener('abort', resolve)),
    onRefusal: () => undefined,
  }
  lane.start({
    place: ({ length }) => new Uint8Array(length),
    frame({ type, id }) {
      if (type === frameTypes.refusal) way.onRefusal(id)
    },
    failed: error => lane.abort(error),
  })
  return way
}

async function targetOf(machine: Machine, ref: string): Promise<Target> {
  const { files } = await show(machine, ref)
  const [, , host = '', , port] = machine.address.split('/')
  return {
    hint: { peer: peerIdFromString(machine.peerId), addresses: [multiaddr(machine.address)] },
    host,
    port: Number(port),
    known: files.map(({ root, size }) => ({
      root: parseCid(root),
      chunks: Math.ceil(size / MiB),
    })),
  }
}

test(
  'whatever bytes come in frames, on streams and lanes, a daemon lives on',
  { timeout: isCounted ? hour : fuzzTimeoutMs() + 60 * second },
  async () => {
    await using stage = await openStage()
    const original = await writeFiles(stage.file('original'), {
      'a.bin': seededBytes('fuzz a', MiB + 50_000),
      'b.bin': seededBytes('fuzz b', 5000),
      'c.bin': seededBytes('fuzz c', 50_000),
    })
    const victim = await stage.start('victim')
    const seeded = await seed(victim, original, '--name', 'org/fuzz')
    const target = await targetOf(victim, 'org/fuzz')
    const client = openClient(homePaths(victim.home))
    const rssOf = async (): Promise<number> =>
      (await client.status(AbortSignal.timeout(10 * second))).memory.rssBytes
    const reached = { frames: 0, peers: 0, lanes: 0 }
    const beganMs = performance.now()
    const endMs = beganMs + fuzzMs()
    const isOver = (): boolean =>
      isCounted ? reached.frames >= framesMax : performance.now() > endMs && hasMet(reached)
    const rss = [await rssOf()]
    const work = async (dice: Dice): Promise<void> => {
      while (!isOver()) {
        await bother(target, dice, reached)
        if (reached.peers % 100 === 0) rss.push(await rssOf())
      }
    }
    await Promise.all(Array.from({ length: peersAtOnce }, (_, n) => work(new Dice(firstSeed + n))))
    rss.push(await rssOf())
    tell(reached, (performance.now() - beganMs) / second, rss)
    expect(hasMet(reached)).toBe(true)
    expect(Math.max(...rss)).toBeLessThan(rssBytesMax)
    const leecher = await stage.start('leecher', [victim])
    await pull(leecher, seeded.link, '--to', stage.file('copy'))
    await expectSameFiles(stage.file('copy'), original)
  },
)

/** Figures, and the seed to find them again. */
function tell({ frames, peers, lanes }: Reached, seconds: number, rss: readonly number[]): void {
  const [first, most, last] = [rss[0] ?? 0, Math.max(...rss), rss.at(-1) ?? 0].map(bytes =>
    Math.round(bytes / MiB),
  )
  process.stdout.write(
    `seed ${firstSeed}: ${frames} frames read of ${peers} peers, ${lanes} of them on lanes, in ${Math.round(seconds)} s; ` +
      `RSS ${first} MiB, at most ${most}, at the end ${last}\n`,
  )
}
