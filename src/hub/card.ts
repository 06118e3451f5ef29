/** The head of a model card, which is any JSON: whether it can be written again, by functions that recurse. */

/** Cards have five: lists of results of models in lists. */
export const cardDepthMax = 64

/** Does not recurse itself: a few MiB of brackets nest millions deep. */
export function isDeep(value: unknown): boolean {
  let level: unknown[] = [value]
  for (let depth = 0; level.length > 0; depth += 1) {
    if (depth > cardDepthMax) return true
    const below: unknown[] = []
    for (const each of level) {
      if (typeof each !== 'object' || each === null) continue
      for (const child of Object.values(each)) below.push(child)
    }
    level = below
  }
  return false
}
