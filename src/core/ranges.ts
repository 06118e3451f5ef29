/** Half-open ranges `[start, end)` of whole numbers, kept sorted and apart. */

export type Range = readonly [start: number, end: number]

/** Sorts, drops empty ranges and joins those that touch. */
export function normalize(ranges: Iterable<Range>): Range[] {
  const sorted = [...ranges].filter(([start, end]) => start < end).toSorted((a, b) => a[0] - b[0])
  const joined: [number, number][] = []
  for (const [start, end] of sorted) {
    const last = joined.at(-1)
    if (last !== undefined && start <= last[1]) last[1] = Math.max(last[1], end)
    else joined.push([start, end])
  }
  return joined
}

/** What is in both; both must be normalized. */
export function intersect(a: readonly Range[], b: readonly Range[]): Range[] {
  const common: Range[] = []
  for (let i = 0, j = 0; i < a.length && j < b.length;) {
    const [aStart, aEnd] = a[i] as Range
    const [bStart, bEnd] = b[j] as Range
    const start = Math.max(aStart, bStart)
    const end = Math.min(aEnd, bEnd)
    if (start < end) common.push([start, end])
    if (aEnd < bEnd) i += 1
    else j += 1
  }
  return common
}

/** What is in `a` and not in `b`; both must be normalized. */
export function subtract(a: readonly Range[], b: readonly Range[]): Range[] {
  const left: Range[] = []
  for (const [start, end] of a) {
    let from = start
    for (const [cutStart, cutEnd] of b) {
      if (cutEnd <= from || cutStart >= end) continue
      if (cutStart > from) left.push([from, cutStart])
      from = Math.max(from, cutEnd)
    }
    if (from < end) left.push([from, end])
  }
  return left
}

/** How many numbers the ranges cover. */
export function lengthOf(ranges: readonly Range[]): number {
  return ranges.reduce((sum, [start, end]) => sum + end - start, 0)
}
