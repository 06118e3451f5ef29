/**
 * Which chunk to ask a source for next: the rarest among the sources known. Among equals at random, so
 * that leechers of one seeder soon have different chunks to trade; or in the order of the files, where
 * nobody trades and disks like it better.
 *
 * Chunks are numbered through all files of the download. A holder keeps a short list of candidates;
 * when it runs out, one pass over `wanted AND claimed` (32 chunks a step) collects the next ones. A
 * list is at least 1/64 of what is wanted, so a pass costs each pick a constant, and what is picked
 * is at most that far behind the newest have update.
 */

import { lowestBit, NumberSet } from './number-set.ts'

/** Candidates collected in one pass: at least so many, and this share of what is wanted. */
const candidatesMin = 64
const candidatesShare = 64

/** One source, as the picker sees it. */
export interface Holder {
  /** What it can be asked for. Changed through the picker only. */
  readonly claims: NumberSet
  candidates: number[]
  /** The picker's version when they were collected. */
  collectedAt: number
  /** The picker's version at which a pass found nothing for it; until that changes none is made. */
  dryAt: number
}

export class Picker {
  readonly #random: () => number
  readonly #wanted = new NumberSet()
  readonly #missing = new NumberSet()
  #count = 0
  #availability = new Uint16Array(0)
  /** Wanted chunks with a holder. */
  #pickable = 0
  #version = 0
  /** Version of the last change of order; candidates collected before it are stale. */
  #reorderedAt = 0
  #isInOrder = false
  /** Words of `wanted` outside of these hold no bits. */
  #lowWord = 0
  #highWord = 0

  constructor(random: () => number) {
    this.#random = random
  }

  /** Among equals: the first one, instead of any. */
  get isInOrder(): boolean {
    return this.#isInOrder
  }

  set isInOrder(isInOrder: boolean) {
    if (isInOrder === this.#isInOrder) return
    this.#isInOrder = isInOrder
    this.#version += 1
    this.#reorderedAt = this.#version
  }

  /** Wanted chunks that some holder can be asked for. */
  get pickable(): number {
    return this.#pickable
  }

  /** Chunks numbered so far. */
  get count(): number {
    return this.#count
  }

  /** Chunks that are not held. */
  get missing(): number {
    return this.#missing.size
  }

  /** Numbers `count` more chunks, missing and not yet wanted, and returns the first number. */
  addChunks(count: number): number {
    const first = this.#count
    this.#count += count
    if (this.#count > this.#availability.length) this.#grow()
    for (let chunk = first; chunk < this.#count; chunk += 1) this.#missing.add(chunk)
    return first
  }

  availability(chunk: number): number {
    return this.#availability[chunk] ?? 0
  }

  isMissing(chunk: number): boolean {
    return this.#missing.has(chunk)
  }

  isWanted(chunk: number): boolean {
    return this.#wanted.has(chunk)
  }

  newHolder(): Holder {
    return { claims: new NumberSet(), candidates: [], collectedAt: 0, dryAt: -1 }
  }

  /** The holder claims `[start, end)`; returns how many missing chunks got their first holder. */
  gain(holder: Holder, start: number, end: number): number {
    let turned = 0
    for (let chunk = start; chunk < end; chunk += 1) {
      if (!holder.claims.add(chunk)) continue
      const before = this.#availability[chunk] ?? 0
      this.#availability[chunk] = before + 1
      if (before > 0) continue
      if (this.#missing.has(chunk)) turned += 1
      if (this.#wanted.has(chunk)) this.#pickable += 1
    }
    holder.dryAt = -1
    return turned
  }

  /** It claims them no more; returns how many missing chunks lost their last holder. */
  lose(holder: Holder, start: number, end: number): number {
    let turned = 0
    holder.claims.each(start, end, chunk => {
      holder.claims.delete(chunk)
      const after = (this.#availability[chunk] ?? 1) - 1
      this.#availability[chunk] = after
      if (after > 0) return
      if (this.#missing.has(chunk)) turned += 1
      if (this.#wanted.has(chunk)) this.#pickable -= 1
    })
    return turned
  }

  /** A missing chunk may be picked, for the first time or again. */
  want(chunk: number): void {
    if (!this.#missing.has(chunk) || !this.#wanted.add(chunk)) return
    const word = chunk >>> 5
    const isFirst = this.#wanted.size === 1
    this.#lowWord = isFirst ? word : Math.min(this.#lowWord, word)
    this.#highWord = isFirst ? word + 1 : Math.max(this.#highWord, word + 1)
    if (this.availability(chunk) > 0) this.#pickable += 1
    this.#version += 1
  }

  /** Not to be picked now. */
  unwant(chunk: number): void {
    if (this.#wanted.delete(chunk) && this.availability(chunk) > 0) this.#pickable -= 1
  }

  /** The chunk is on disk; false when it was already. */
  hold(chunk: number): boolean {
    this.unwant(chunk)
    return this.#missing.delete(chunk)
  }

  /** The chunk is not on disk, or no more; false when that was known. */
  miss(chunk: number): boolean {
    return this.#missing.add(chunk)
  }

  /** The next chunk for this holder, which is then no longer wanted. */
  pick(holder: Holder): number | undefined {
    if (holder.collectedAt < this.#reorderedAt) holder.candidates = []
    for (;;) {
      const chunk = holder.candidates.pop()
      if (chunk === undefined) {
        if (!this.#collect(holder)) return undefined
      } else if (this.#wanted.has(chunk) && holder.claims.has(chunk)) {
        this.unwant(chunk)
        return chunk
      }
    }
  }

  /** Fills the holder's list from its best class; false when it has nothing. */
  #collect(holder: Holder): boolean {
    if (holder.dryAt === this.#version || this.#pickable === 0) return false
    const limit = Math.max(candidatesMin, Math.floor(this.#wanted.size / candidatesShare))
    const wanted = this.#wanted.words
    const claimed = holder.claims.words
    const kept: number[] = []
    let best = Infinity
    let seen = 0
    while (this.#lowWord < this.#highWord && wanted[this.#lowWord] === 0) this.#lowWord += 1
    const end = Math.min(this.#highWord, claimed.length)
    for (let at = this.#lowWord; at < end; at += 1) {
      let bits = (wanted[at] ?? 0) & (claimed[at] ?? 0)
      for (; bits !== 0; bits &= bits - 1) {
        const chunk = at * 32 + lowestBit(bits)
        const rank = this.availability(chunk)
        if (rank > best) continue
        if (rank < best) {
          best = rank
          seen = 0
          kept.length = 0
        }
        seen += 1
        if (!this.#isInOrder) sample(kept, chunk, { limit, seen, random: this.#random })
        else if (seen <= limit) kept.push(chunk)
      }
    }
    if (kept.length === 0) {
      holder.dryAt = this.#version
      return false
    }
    // Taken from the end.
    if (this.#isInOrder) kept.reverse()
    else shuffle(kept, this.#random)
    holder.candidates = kept
    holder.collectedAt = this.#version
    return true
  }

  #grow(): void {
    const length = Math.max(this.#count, this.#availability.length * 2)
    const availability = new Uint16Array(length)
    availability.set(this.#availability)
    this.#availability = availability
  }
}

/** Reservoir sampling: each of `seen` members is kept with the same probability. */
function sample(
  kept: number[],
  chunk: number,
  { limit, seen, random }: { limit: number; seen: number; random: () => number },
): void {
  if (kept.length < limit) {
    kept.push(chunk)
    return
  }
  const at = Math.floor(random() * seen)
  if (at < limit) kept[at] = chunk
}

function shuffle(numbers: number[], random: () => number): void {
  for (let last = numbers.length - 1; last > 0; last -= 1) {
    const at = Math.floor(random() * (last + 1))
    const moved = numbers[at] as number
    numbers[at] = numbers[last] as number
    numbers[last] = moved
  }
}
