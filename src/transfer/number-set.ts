/**
 * A set of small whole numbers as bits, in 32-bit words that grow as needed: chunks of a download,
 * numbered through all its files. Two such sets are intersected 32 chunks at a time.
 */

export class NumberSet {
  #words = new Uint32Array(0)
  #size = 0

  /** Bit n & 31 of word n >>> 5. Replaced when the set grows: do not keep it. */
  get words(): Uint32Array {
    return this.#words
  }

  get size(): number {
    return this.#size
  }

  has(number: number): boolean {
    return ((this.#words[number >>> 5] ?? 0) & (1 << (number & 31))) !== 0
  }

  /** False when it was in already. */
  add(number: number): boolean {
    const at = number >>> 5
    if (at >= this.#words.length) this.#grow(at + 1)
    const word = this.#words[at] ?? 0
    const bit = 1 << (number & 31)
    if ((word & bit) !== 0) return false
    this.#words[at] = word | bit
    this.#size += 1
    return true
  }

  /** False when it was not in. */
  delete(number: number): boolean {
    const at = number >>> 5
    const word = this.#words[at] ?? 0
    const bit = 1 << (number & 31)
    if ((word & bit) === 0) return false
    this.#words[at] = word & ~bit
    this.#size -= 1
    return true
  }

  /** Calls `visit` for every member from `start` to before `end`, in order; it may delete that member. */
  each(start: number, end: number, visit: (number: number) => void): void {
    const lastWord = Math.min(this.#words.length, (end + 31) >>> 5)
    for (let at = start >>> 5; at < lastWord; at += 1) {
      let bits = this.#words[at] ?? 0
      while (bits !== 0) {
        const number = at * 32 + lowestBit(bits)
        bits &= bits - 1
        if (number >= start && number < end) visit(number)
      }
    }
  }

  #grow(wordsMin: number): void {
    const words = new Uint32Array(Math.max(wordsMin, this.#words.length * 2, 4))
    words.set(this.#words)
    this.#words = words
  }
}

/** Position of the lowest set bit of a word that is not 0. */
export function lowestBit(word: number): number {
  return 31 - Math.clz32(word & -word)
}
