/**
 * Random operations on a store and behind its back, against a simple model of what must be held: what is
 * told to listeners adds up to what is held, and what is held can be read, right.
 */

import { mkdir, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { equalBytes } from '../../../src/core/bytes.ts'
import type { Partial } from '../../../src/store/partial.ts'
import { smallBytesMax } from '../../../src/store/small-files.ts'
import type { NewFile } from '../../../src/store/new-file.ts'
import type { HeldChange, NewModel, Store } from '../../../src/store/store.ts'
import { fuzzTimeoutMs, untilTime } from '../../support/fuzz.ts'
import { openScratchFolder } from '../../support/scratch-folder.ts'
import {
  asNewFile,
  bytesOf,
  fileOf,
  openTestStore,
  partialSpec,
  type TestFile,
  testModel,
  writeChunks,
} from '../../support/store-fixture.ts'

// Three contents that share chunks, four places: collisions are what is looked for.
// The first is too large for a small file, which is held from its publication on only.
const chunk = (n: number): Buffer => bytesOf(`chunk ${n}`, n === 0 ? smallBytesMax + 1 : 10 + n)
const contents: readonly TestFile[] = [
  fileOf([chunk(0), chunk(1), chunk(2)]),
  fileOf([chunk(2), chunk(1), chunk(3), chunk(4)]),
  fileOf([chunk(0)]),
]
const places = 4

interface Spot {
  /** Indexed as this content, under a stamp that is still true while `disk` is the file written then. */
  indexed: number | undefined
  disk: 'as indexed' | 'edited' | 'gone' | 'away'
  /** What the store noticed last. */
  noticed: boolean
  damaged: Set<number>
}

class World {
  readonly spots: Spot[] = Array.from({ length: places }, () => ({
    indexed: undefined,
    disk: 'gone',
    noticed: false,
    damaged: new Set(),
  }))
  readonly served = new Map<number, NewModel>()
  readonly written = new Map<number, Set<number>>()
  partials = new Map<number, Partial>()
  told = new Map<string, Set<number>>()
  readonly folder: string
  store: Store

  constructor(folder: string, store: Store) {
    this.folder = folder
    this.store = store
    this.listen()
  }

  listen(): void {
    this.store.onHeldChange(change => this.#note(change))
  }

  place(n: number): string {
    return join(this.folder, 'user', `${n}.bin`)
  }

  /** Chunks of a content that the store must say it holds. */
  expected(content: number): Set<number> {
    const held = new Set<number>()
    const file = contents[content] as TestFile
    if (!this.served.has(content)) return held
    for (const spot of this.spots) {
      if (spot.indexed !== content || spot.noticed) continue
      for (const index of file.blocks.keys()) if (!spot.damaged.has(index)) held.add(index)
    }
    for (const index of this.written.get(content) ?? []) held.add(index)
    return held
  }

  #note({ root, gained, lost }: HeldChange): void {
    const known = this.told.get(root.toString()) ?? new Set<number>()
    this.told.set(root.toString(), known)
    for (const [start, end] of gained) {
      for (let index = start; index < end; index += 1) {
        if (known.has(index)) throw new Error(`chunk ${index} was gained twice`)
        known.add(index)
      }
    }
    for (const [start, end] of lost) {
      for (let index = start; index < end; index += 1) {
        if (!known.delete(index)) throw new Error(`chunk ${index} was lost twice`)
      }
    }
  }
}

type Step = (world: World) => Promise<void> | void

const placeNumber = fc.nat(places - 1)
const contentNumber = fc.nat(contents.length - 1)

async function put(world: World, at: number, content: number): Promise<NewFile> {
  const file = contents[content] as TestFile
  await mkdir(dirname(world.place(at)), { recursive: true })
  await rm(`${world.place(at)}.away`, { force: true })
  // A new inode: the same bytes written twice within a tick would have the old stamp.
  await writeFile(`${world.place(at)}.new`, file.bytes)
  await rename(`${world.place(at)}.new`, world.place(at))
  world.spots[at] = { indexed: content, disk: 'as indexed', noticed: false, damaged: new Set() }
  return asNewFile(world.place(at), file)
}

const write = fc.tuple(placeNumber, contentNumber).map(([at, content]): Step => async world => {
  world.store.addFiles([await put(world, at, content)])
})

const edit = placeNumber.map((at): Step => async world => {
  const spot = world.spots[at] as Spot
  if (spot.disk !== 'as indexed') return
  await writeFile(`${world.place(at)}.new`, 'edited')
  await rename(`${world.place(at)}.new`, world.place(at))
  spot.disk = 'edited'
})

const hide = placeNumber.map((at): Step => async world => {
  const spot = world.spots[at] as Spot
  if (spot.disk !== 'as indexed') return
  await rename(world.place(at), `${world.place(at)}.away`)
  spot.disk = 'away'
})

const bringBack = placeNumber.map((at): Step => async world => {
  const spot = world.spots[at] as Spot
  if (spot.disk !== 'away') return
  await rename(`${world.place(at)}.away`, world.place(at))
  spot.disk = 'as indexed'
})

const refresh = fc.constant<Step>(async world => {
  await world.store.refresh()
  for (const spot of world.spots) spot.noticed = spot.disk !== 'as indexed'
})

const quarantine = fc.tuple(placeNumber, fc.nat(3)).map(([at, index]): Step => world => {
  const spot = world.spots[at] as Spot
  if (spot.indexed === undefined || index >= (contents[spot.indexed] as TestFile).table.count)
    return
  world.store.quarantine(world.place(at), [index])
  spot.damaged.add(index)
})

const confirm = placeNumber.map((at): Step => async world => {
  const spot = world.spots[at] as Spot
  if (spot.indexed === undefined || spot.disk !== 'as indexed') return
  const { stamp } = await asNewFile(world.place(at), contents[spot.indexed] as TestFile)
  world.store.confirm(world.place(at), stamp)
  spot.damaged.clear()
  spot.noticed = false
})

const serve = contentNumber.map((content): Step => world => {
  world.store.addModel(modelOf(world, content))
})

/** In one step: a model, and some of the files that it needs or does not. */
const seed = fc
  .tuple(contentNumber, fc.uniqueArray(placeNumber), fc.array(contentNumber, { minLength: places }))
  .map(([content, ats, which]): Step => async world => {
    const hashed: NewFile[] = []
    for (const at of ats) hashed.push(await put(world, at, which[at] ?? content))
    world.store.addModel(modelOf(world, content), hashed)
  })

function modelOf(world: World, content: number): NewModel {
  const model = testModel(join(world.folder, 'target', String(content)), {
    'file.bin': contents[content] as TestFile,
  })
  world.served.set(content, model)
  return model
}

const forget = contentNumber.map((content): Step => async world => {
  const model = world.served.get(content)
  if (model === undefined || world.partials.has(content)) return
  await world.store.removeModel(model.manifest, { deleteFiles: false })
  world.served.delete(content)
  world.written.delete(content)
})

const fetch = fc.tuple(contentNumber, fc.nat(3)).map(([content, index]): Step => async world => {
  const file = contents[content] as TestFile
  if (index >= file.table.count) return
  let partial = world.partials.get(content)
  if (partial === undefined) {
    const target = join(world.folder, 'target', String(content))
    partial = await world.store.openPartial(partialSpec(target, 'file.bin', file))
    world.partials.set(content, partial)
  }
  await writeChunks(partial, file, [index])
  const written = world.written.get(content) ?? new Set()
  world.written.set(content, written.add(index))
})

const closePartials: Step = async world => {
  for (const partial of world.partials.values()) await partial[Symbol.asyncDispose]()
  world.partials.clear()
}

const reopen = fc.constant<Step>(async world => {
  await closePartials(world)
  await world.store[Symbol.asyncDispose]()
  world.store = await openTestStore(world.folder)
  world.listen()
})

const steps = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: write },
    { weight: 2, arbitrary: edit },
    { weight: 2, arbitrary: hide },
    { weight: 2, arbitrary: bringBack },
    { weight: 2, arbitrary: refresh },
    { weight: 2, arbitrary: quarantine },
    { weight: 1, arbitrary: confirm },
    { weight: 3, arbitrary: serve },
    { weight: 3, arbitrary: seed },
    { weight: 1, arbitrary: forget },
    { weight: 3, arbitrary: fetch },
    { weight: 1, arbitrary: fc.constant(closePartials) },
    { weight: 1, arbitrary: reopen },
  ),
  { minLength: 5, maxLength: 30 },
)

/** Of each content the chunks that are held: as shown by the store, told to listeners, or expected. */
function stateOf(world: World, by: 'shown' | 'told' | 'expected'): number[][] {
  return contents.map(({ root, blocks }, content) => {
    const held = world.store.held(root)
    const told = world.told.get(root.toString())
    const expected = world.expected(content)
    return [...blocks.keys()].filter(index => {
      if (by === 'shown') return held?.has(index) === true
      return by === 'told' ? told?.has(index) === true : expected.has(index)
    })
  })
}

/** Every chunk is right or refused, and what was refused is withdrawn. */
async function readAll({ store }: World): Promise<void> {
  for (const file of contents) {
    for (const [index, { bytes }] of file.blocks.entries()) {
      const read = await store.readChunk(file.root, index).catch(() => undefined)
      const isHeld = store.held(file.root)?.has(index) === true
      expect(read === undefined ? !isHeld : equalBytes(read, bytes)).toBe(true)
    }
  }
}

test(
  'holds, tells and serves the same through random edits, fetches and restarts',
  async () => {
    await fc.assert(
      fc.asyncProperty(steps, async run => {
        await using scratch = await openScratchFolder()
        const world = new World(scratch.path, await openTestStore(scratch.path))
        try {
          for (const step of run) {
            await step(world)
            expect(stateOf(world, 'shown')).toEqual(stateOf(world, 'expected'))
            expect(stateOf(world, 'told')).toEqual(stateOf(world, 'expected'))
          }
          await readAll(world)
        } finally {
          await closePartials(world)
          await world.store[Symbol.asyncDispose]()
        }
      }),
      { numRuns: 1_000_000, plugins: [untilTime()] },
    )
  },
  fuzzTimeoutMs(),
)
