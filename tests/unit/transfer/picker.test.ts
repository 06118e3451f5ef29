/** The picker alone: what it prefers, and that its books agree with a plain model of them. */

import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type Holder, Picker } from '../../../src/transfer/picker.ts'
import { seededRandom } from '../../support/swarm-simulator.ts'
import { cpuMs } from '../../support/cpu-time.ts'

function wantAll(picker: Picker, count: number): void {
  const first = picker.addChunks(count)
  for (let chunk = first; chunk < first + count; chunk += 1) picker.want(chunk)
}

function pickAll(picker: Picker, holder: Holder): number[] {
  const picked: number[] = []
  for (;;) {
    const chunk = picker.pick(holder)
    if (chunk === undefined) return picked
    picked.push(chunk)
  }
}

test('picks every wanted chunk of a holder once', () => {
  const picker = new Picker(seededRandom(1))
  wantAll(picker, 1000)
  const holder = picker.newHolder()
  picker.gain(holder, 100, 900)
  const picked = pickAll(picker, holder).toSorted((a, b) => a - b)
  expect(picked).toEqual(Array.from({ length: 800 }, (_, index) => 100 + index))
})

test('picks the rarest first', () => {
  const picker = new Picker(seededRandom(2))
  wantAll(picker, 300)
  const [all, two, three] = [picker.newHolder(), picker.newHolder(), picker.newHolder()]
  picker.gain(all, 0, 300)
  picker.gain(two, 0, 200)
  picker.gain(three, 0, 100)
  const classes = pickAll(picker, all).map(chunk => 3 - Math.floor(chunk / 100))
  expect(classes).toEqual(classes.toSorted((a, b) => a - b))
})

test('picks at random among equals', () => {
  const orders = [3, 4].map(seed => {
    const picker = new Picker(seededRandom(seed))
    wantAll(picker, 500)
    const holder = picker.newHolder()
    picker.gain(holder, 0, 500)
    return pickAll(picker, holder)
  })
  expect(orders[0]).not.toEqual(orders[1])
  // Not in file order either: of neighbours, about half are swapped.
  const rises = orders[0]?.filter((chunk, at, all) => chunk > (all[at - 1] ?? -1)).length ?? 0
  expect(rises).toBeGreaterThan(150)
  expect(rises).toBeLessThan(350)
})

test('picks a chunk again once it is wanted again', () => {
  const picker = new Picker(seededRandom(6))
  wantAll(picker, 3)
  const holder = picker.newHolder()
  picker.gain(holder, 0, 3)
  expect(pickAll(picker, holder).length).toBe(3)
  expect(picker.pick(holder)).toBeUndefined()
  picker.want(1)
  expect(pickAll(picker, holder)).toEqual([1])
  picker.hold(1)
  picker.want(1)
  expect(picker.pick(holder)).toBeUndefined()
})

const chunksMax = 100
const kinds = ['gain', 'lose', 'want', 'unwant', 'hold', 'pick'] as const
const operation = fc.record({
  kind: fc.constantFrom(...kinds),
  who: fc.nat(3),
  start: fc.nat(chunksMax),
  length: fc.nat(20),
})

/** The picker beside plain sets; every operation tells whether both agree. */
class PickerAndModel {
  readonly picker: Picker
  readonly #holders: Holder[]
  readonly #claims: Set<number>[]
  readonly #wanted = new Set<number>()
  readonly #missing = new Set(Array(chunksMax).keys())

  constructor(seed: number) {
    this.picker = new Picker(seededRandom(seed))
    this.picker.addChunks(chunksMax)
    this.#holders = Array.from({ length: 4 }, () => this.picker.newHolder())
    this.#claims = this.#holders.map(() => new Set<number>())
  }

  get missing(): number {
    return this.#missing.size
  }

  get pickable(): number {
    return [...this.#wanted].filter(chunk => this.#claims.some(claim => claim.has(chunk))).length
  }

  run(kind: (typeof kinds)[number], who: number, range: readonly number[]): boolean {
    const holder = this.#holders[who] as Holder
    const claim = this.#claims[who] as Set<number>
    const [start, end] = [range[0] ?? 0, (range.at(-1) ?? -1) + 1]
    if (kind === 'pick') return this.#pick(holder, claim)
    if (kind === 'gain') this.picker.gain(holder, start, end)
    if (kind === 'lose') this.picker.lose(holder, start, end)
    return range.every(chunk => this.#runOne(kind, claim, chunk))
  }

  #runOne(
    kind: Exclude<(typeof kinds)[number], 'pick'>,
    claim: Set<number>,
    chunk: number,
  ): boolean {
    switch (kind) {
      case 'gain':
        claim.add(chunk)
        return true
      case 'lose':
        claim.delete(chunk)
        return true
      case 'want':
        this.picker.want(chunk)
        if (this.#missing.has(chunk)) this.#wanted.add(chunk)
        return true
      case 'unwant':
        this.picker.unwant(chunk)
        this.#wanted.delete(chunk)
        return true
      case 'hold':
        this.#wanted.delete(chunk)
        return this.picker.hold(chunk) === this.#missing.delete(chunk)
    }
  }

  #pick(holder: Holder, claim: Set<number>): boolean {
    const chunk = this.picker.pick(holder)
    const possible = [...this.#wanted].filter(candidate => claim.has(candidate))
    if (chunk === undefined) return possible.length === 0
    this.#wanted.delete(chunk)
    return possible.includes(chunk)
  }
}

test('in order, picks the first of the rarest', () => {
  const picker = new Picker(seededRandom(3))
  picker.isInOrder = true
  wantAll(picker, 1000)
  const [all, some] = [picker.newHolder(), picker.newHolder()]
  picker.gain(all, 0, 1000)
  picker.gain(some, 0, 500)
  const picked = pickAll(picker, all)
  expect(picked).toEqual(Array.from({ length: 1000 }, (_, index) => (index + 500) % 1000))
})

test('agrees with a plain model whatever happens', () => {
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 120 }), fc.nat(), (operations, seed) => {
      const both = new PickerAndModel(seed)
      for (const { kind, who, start, length } of operations) {
        const end = Math.min(chunksMax, start + length)
        const range = Array.from({ length: Math.max(0, end - start) }, (_, at) => start + at)
        expect(both.run(kind, who, range)).toBe(true)
        expect(both.picker.pickable).toBe(both.pickable)
        expect(both.picker.missing).toBe(both.missing)
      }
    }),
    { numRuns: 300 },
  )
})

test('needs a small constant for each pick of a million chunks', () => {
  const count = 1_000_000
  const picker = new Picker(seededRandom(7))
  wantAll(picker, count)
  const [all, some] = [picker.newHolder(), picker.newHolder()]
  picker.gain(all, 0, count)
  picker.gain(some, 0, count / 2)
  const startMs = cpuMs()
  for (let pick = 0; pick < 20_000; pick += 1) picker.pick(pick % 2 === 0 ? all : some)
  // 0.3 us of CPU time each; a scan of all chunks would be 1000 us.
  expect((cpuMs() - startMs) / 20_000).toBeLessThan(0.05)
})
