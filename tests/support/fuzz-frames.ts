/**
 * Frames as a hostile peer would send them, without end: well-formed ones that mean little, and copies of those with
 * bytes changed, cut out or put in. From a seed, so that what was found is found again.
 */

import { randomBytes } from 'node:crypto'
import { type CID, codecs, makeCid } from '../../src/core/cid.ts'
import { encodeFrame, encodeHeader, frameTypes, headerBytes } from '../../src/wire/frames.ts'
import {
  encodeChunkAsk,
  encodeHave,
  encodeKeys,
  encodePeers,
  encodeReason,
  encodeUnwatch,
  encodeWatch,
} from '../../src/wire/messages.ts'
import { helloFrame } from './hostile-peer.ts'

/** One in so many is damaged: that mostly ends a peer, and the others are to get through until then. */
const damagedOneIn = 64
const rareOneIn = 256
const nothing = new Uint8Array(0)
const wordsMax = 0x1_0000_0000
const noise = randomBytes(4096)

/** Numbers of mulberry32. */
export class Dice {
  #state: number

  constructor(seed: number) {
    this.#state = seed >>> 0
  }

  /** 0 <= n < sides. */
  roll(sides: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / wordsMax) * sides)
  }

  pick<T>(values: readonly T[]): T {
    return values[this.roll(values.length)] as T
  }
}

export interface Known {
  readonly root: CID
  readonly chunks: number
}

/** What one peer says, frame by frame. */
export class Babble {
  readonly #dice: Dice
  /** Files that the other side holds. */
  readonly #known: readonly Known[]
  #ids = 0
  #refs = 0

  constructor(dice: Dice, known: readonly Known[]) {
    this.#dice = dice
    this.#known = known
  }

  next(): Uint8Array {
    const bytes = this.#wellFormed()
    return this.#dice.roll(damagedOneIn) > 0 ? bytes : damaged(this.#dice, bytes)
  }

  #wellFormed(): Uint8Array {
    const dice = this.#dice
    const { root: known, chunks } = dice.pick(this.#known)
    const root = dice.roll(4) === 0 ? known : makeCid(codecs.raw, slice(dice, 32))
    const id = this.#id()
    const makers: readonly (() => Uint8Array)[] = [
      () => {
        const ask = { root, index: oddNumber(dice, chunks) }
        return encodeFrame(frameTypes.getChunk, id, encodeChunkAsk(ask))
      },
      () => encodeFrame(frameTypes.getTable, id, root.bytes),
      () => encodeFrame(frameTypes.getManifest, id, root.bytes),
      () => encodeFrame(frameTypes.getPeers, id, encodeKeys([root])),
      () => encodeFrame(frameTypes.cancel, 1 + dice.roll(id), nothing),
      () => {
        const entry = { ref: this.#ref(), root, chunks: oddNumber(dice, chunks) }
        return encodeFrame(frameTypes.watch, 0, encodeWatch([entry]))
      },
      () => encodeFrame(frameTypes.unwatch, 0, encodeUnwatch([oddNumber(dice, this.#refs + 1)])),
      () => {
        const payload = slice(dice, dice.roll(2000))
        const type = 0x81 + dice.roll(0x7f)
        const header = { length: payload.length, type, flags: dice.roll(256), id: dice.roll(3) }
        return Buffer.concat([encodeHeader(header), payload])
      },
      () => encodeFrame(frameTypes.dialLane, 0, nothing),
    ]
    // Those that break the rules in themselves, since nobody asked: rarely, for they end the peer.
    const unasked: readonly (() => Uint8Array)[] = [
      () => encodeFrame(frameTypes.data, id, slice(dice, dice.roll(2000))),
      () => encodeFrame(frameTypes.refusal, id, encodeReason({ code: 0, text: 'no' })),
      () => encodeFrame(frameTypes.peers, id, encodePeers([])),
      () => encodeFrame(frameTypes.have, 0, encodeHave([{ ref: 0, kind: 'all' }])),
      () => encodeFrame(frameTypes.goodbye, 0, encodeReason({ code: 0, text: '' })),
      () => helloFrame(),
    ]
    return dice.pick(dice.roll(rareOneIn) === 0 ? unasked : makers)()
  }

  /** Rarely one that may be in use: that ends the peer. */
  #id(): number {
    if (this.#dice.roll(rareOneIn) === 0) return 1 + this.#dice.roll(this.#ids + 1)
    return (this.#ids += 1)
  }

  #ref(): number {
    if (this.#dice.roll(rareOneIn) === 0) return this.#dice.roll(this.#refs + 1)
    return (this.#refs += 1)
  }
}

/** Mostly one that fits, at times one at an edge. */
function oddNumber(dice: Dice, below: number): number {
  if (dice.roll(16) > 0) return dice.roll(below)
  return dice.pick([0, below, below + 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff])
}

function slice(dice: Dice, length: number): Uint8Array {
  const start = dice.roll(noise.length - length)
  return noise.subarray(start, start + length)
}

function damaged(dice: Dice, original: Uint8Array): Uint8Array {
  let bytes = Buffer.from(original)
  for (let edits = 1 + dice.roll(3); edits > 0; edits -= 1) {
    // The header is small beside a payload, and decides more.
    const at = dice.roll(dice.roll(2) === 0 ? headerBytes : bytes.length + 1)
    const inserted = slice(dice, dice.roll(5))
    bytes = Buffer.concat([bytes.subarray(0, at), inserted, bytes.subarray(at + dice.roll(5))])
  }
  return bytes
}
