/**
 * What we asked one peer to tell us about, and what it said: the refs of our watches, the listeners
 * behind them, and which files the peer claims to hold some of. Claims are checked for bounds here
 * and believed no further than until a request is refused.
 */

import { ProtocolError } from '../../core/errors.ts'
import type { Range } from '../../core/ranges.ts'
import type { HaveUpdate, WatchedFile } from '../../transfer/source.ts'
import type { HaveEntry, WatchEntry } from '../../wire/messages.ts'
import { keyOf } from './have-feed.ts'

interface Watch extends WatchedFile {
  readonly key: string
  readonly onHave: (update: HaveUpdate) => void
  /** The peer said that it holds some. */
  holdsSome: boolean
}

export interface WatchList {
  readonly size: number
  /** Distinct files of which the peer claims to hold some. */
  readonly filesHeld: number
  add(files: readonly WatchedFile[], onHave: (update: HaveUpdate) => void): WatchEntry[]
  delete(refs: readonly number[]): void
  /** Throws ProtocolError for claims that cannot be true. */
  have(entries: readonly HaveEntry[]): void
  holds(key: string): boolean
}

export function openWatchList(): WatchList {
  const watches = new Map<number, Watch>()
  const holders = new Map<string, number>()
  let nextRef = 0

  function setHoldsSome(watch: Watch, holdsSome: boolean): void {
    if (watch.holdsSome === holdsSome) return
    watch.holdsSome = holdsSome
    const count = (holders.get(watch.key) ?? 0) + (holdsSome ? 1 : -1)
    if (count === 0) holders.delete(watch.key)
    else holders.set(watch.key, count)
  }

  function haveOne(watch: Watch, entry: HaveEntry): void {
    const { root, chunks, onHave } = watch
    const all: readonly Range[] = chunks === 0 ? [] : [[0, chunks]]
    switch (entry.kind) {
      case 'nothing': {
        // The first answer is often nothing; only who was told of more needs to hear it.
        if (watch.holdsSome) onHave({ root, gained: [], lost: all })
        setHoldsSome(watch, false)
        return
      }
      case 'all':
        setHoldsSome(watch, true)
        onHave({ root, gained: all, lost: [] })
        return
      case 'gained':
      case 'lost': {
        const end = entry.ranges.at(-1)?.[1] ?? 0
        if (end > chunks) throw new ProtocolError(`have: chunk ${end - 1} of ${chunks}`)
        if (entry.kind === 'gained') setHoldsSome(watch, true)
        const [gained, lost] = entry.kind === 'gained' ? [entry.ranges, []] : [[], entry.ranges]
        onHave({ root, gained, lost })
      }
    }
  }

  return {
    get size() {
      return watches.size
    },
    get filesHeld() {
      return holders.size
    },
    add(files, onHave) {
      return files.map(({ root, chunks }) => {
        const ref = nextRef
        nextRef += 1
        watches.set(ref, { root, chunks, key: keyOf(root), onHave, holdsSome: false })
        return { ref, root, chunks }
      })
    },
    delete(refs) {
      for (const ref of refs) {
        const watch = watches.get(ref)
        if (watch === undefined) continue
        setHoldsSome(watch, false)
        watches.delete(ref)
      }
    },
    have(entries) {
      for (const entry of entries) {
        const watch = watches.get(entry.ref)
        if (watch !== undefined) haveOne(watch, entry)
        else if (entry.ref >= nextRef) throw new ProtocolError(`have: ref ${entry.ref} is not ours`)
        // Else it crossed our unwatch on the way.
      }
    },
    holds: key => holders.has(key),
  }
}
