/** The known word that a mistyped one is closest to, for hints. */

/** Longer words are cut: what matters is where a typing mistake was made, and the cost is quadratic. */
const lengthMax = 64

/** A word that the mistyped one begins, else the one with the fewest letters wrong; the first of equals. */
export function nearest(word: string, known: readonly string[]): string {
  const begun = known.find(each => word !== '' && each.startsWith(word))
  if (begun !== undefined) return begun
  const distances = known.map(each => editDistance(word.slice(0, lengthMax), each))
  return known[distances.indexOf(Math.min(...distances))] ?? ''
}

/** How many letters must be put in, taken out or replaced to make one word the other. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i]
    for (let j = 1; j <= b.length; j += 1) {
      const replaced = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(replaced, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1))
    }
    row = next
  }
  return row[b.length] ?? 0
}
