/** The file that the crash loop fetches, the same in the parent and in every child. */

import { KiB } from '../../src/core/units.ts'
import { testFile, type TestFile } from './store-fixture.ts'

/** 12 MiB in 400 chunks: enough for a kill to fall between any two steps. */
export function crashFile(): TestFile {
  return testFile(
    'crash',
    Array.from({ length: 400 }, (_, index) => 20 * KiB + (index % 21) * KiB),
  )
}

/** A fixed shuffle: the same seed gives the same order. */
export function shuffled(items: readonly number[], seed: number): number[] {
  const order = [...items]
  let state = seed + 1
  for (let last = order.length - 1; last > 0; last -= 1) {
    // The generator of Numerical Recipes: good enough to be different each round.
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    const other = state % (last + 1)
    const moved = order[last] ?? 0
    order[last] = order[other] ?? 0
    order[other] = moved
  }
  return order
}
